"""What was published last at each target: each row's key and hash, kept in the warehouse.

It is written after the target's commit. When it is lost or older than the target's mark, the next
load sends the table whole, and the target works out what that changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from etl.targets.claims import SCHEMA
from etl.targets.comparison import Changes
from etl.targets.publication import quote
from etl.targets.relation import Relation, fingerprint, query, row_hash, sum_hashes
from etl.warehouse import exists

STATES = f"{SCHEMA}.publications"
# Under names that no mart has: a row's hash, and whether the target has a row of that key.
HASH = '"etl: hash"'
KNOWN = '"etl: known"'


@dataclass(frozen=True)
class Published:
    """One table of one target, as the job remembers it.

    `shape` says of what the hashes were made: when it differs, they cannot be compared.
    """

    target: str
    table: str

    @property
    def rows(self) -> str:
        """SQL: the table of keys and hashes."""
        return f"{SCHEMA}.{quote(f'{self.target}: {self.table}')}"

    @property
    def difference(self) -> str:
        """SQL: the table of keys that differ, one for each table until the commit."""
        return f"temp.main.{quote(f'etl difference: {self.target}: {self.table}')}"

    def read_id(self, cursor: duckdb.DuckDBPyConnection, shape: str) -> str | None:
        """The id of the last publication, None when there is none or it had another shape."""
        if not exists(cursor, SCHEMA, "publications"):
            return None
        row = cursor.execute(
            f"SELECT publication_id FROM {STATES} WHERE target = $1 AND table_name = $2 "
            "AND shape = $3",
            [self.target, self.table, shape],
        ).fetchone()
        return str(row[0]) if row else None

    def write(
        self,
        cursor: duckdb.DuckDBPyConnection,
        mart: Relation,
        key: tuple[str, ...],
        shape: str,
        publication_id: str,
        *,
        whole: bool,
    ) -> None:
        """Remember the mart's rows, or what changed of them; in the caller's transaction."""
        keys = ", ".join(quote(k) for k in key)
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {STATES} (target VARCHAR, table_name VARCHAR, "
            "shape VARCHAR, publication_id VARCHAR, PRIMARY KEY (target, table_name))"
        )
        if whole:
            cursor.execute(f"CREATE OR REPLACE TABLE {self.rows} AS {_state(mart, key)}")
        else:
            same = " AND ".join(f"p.{quote(k)} = d.{quote(k)}" for k in key)
            cursor.execute(
                f"DELETE FROM {self.rows} AS p USING {self.difference} AS d WHERE {same}"
            )
            cursor.execute(
                f"INSERT INTO {self.rows} SELECT {keys}, {HASH} FROM {self.difference} "
                f"WHERE {HASH} IS NOT NULL"
            )
        cursor.execute(
            f"INSERT OR REPLACE INTO {STATES} VALUES ($1, $2, $3, $4)",
            [self.target, self.table, shape, publication_id],
        )

    def compare(
        self,
        cursor: duckdb.DuckDBPyConnection,
        mart: Relation,
        key: tuple[str, ...],
        rows: int,
        *,
        likely: bool,
    ) -> Changes | None:
        """How many of the mart's `rows` came or changed, and how many went, since last time.

        Their keys are in `difference`. None when it cannot be told row by row: what changed has no
        key, or not one that tells every row from every other. Where a change is `likely`, it is not
        asked first whether there is one at all.
        """
        if not (likely and key) and self._is_same(cursor, mart, key, rows):
            return Changes()
        if not key:
            return None
        self._find_difference(cursor, mart, key)
        keys = ", ".join(map(quote, key))
        some_null = " OR ".join(f"{quote(k)} IS NULL" for k in key)
        remembered_rows, came, changed, gone, keyless, distinct = query(
            cursor,
            f"SELECT (SELECT count(*) FROM {self.rows}), "
            f"count(*) FILTER ({HASH} IS NOT NULL AND NOT {KNOWN}), "
            f"count(*) FILTER ({HASH} IS NOT NULL AND {KNOWN}), "
            f"count(*) FILTER ({HASH} IS NULL), count(*) FILTER ({some_null}), "
            f"count(DISTINCT ({keys})) FROM {self.difference}",
        )
        # Remembered keys are all different. So a key is in the mart twice only if it is twice in
        # the difference, or more rows of the mart were found again than are remembered and stayed.
        is_unique = distinct == came + changed + gone
        if keyless or not is_unique or rows - came != remembered_rows - gone:
            return None
        return Changes(came, changed, gone)

    def _is_same(
        self, cursor: duckdb.DuckDBPyConnection, mart: Relation, key: tuple[str, ...], rows: int
    ) -> bool:
        """True when the mart is what is remembered, as bags of rows: half the work of a join."""
        if not key:
            remembered = cursor.execute(f"SELECT * FROM {self.rows}").fetchone()
            found = fingerprint(cursor, mart)
            return remembered == (found.rows, str(found.total), found.parity)
        if query(cursor, f"SELECT count(*) FROM {self.rows}") != (rows,):
            return False
        return sum_hashes(cursor, HASH, self.rows) == fingerprint(cursor, mart)

    def _find_difference(
        self, cursor: duckdb.DuckDBPyConnection, mart: Relation, key: tuple[str, ...]
    ) -> None:
        """Write to `difference` the keys of all rows that came, changed or went.

        A row that went has no hash, one that came is not known.
        """
        keys = [quote(k) for k in key]
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {self.difference} AS "
            f"SELECT {', '.join(f'coalesce(n.{k}, o.{k}) AS {k}' for k in keys)}, n.{HASH}, "
            f"o.{HASH} IS NOT NULL AS {KNOWN} "
            f"FROM ({_state(mart, key)}) AS n FULL JOIN {self.rows} AS o "
            f"ON {' AND '.join(f'n.{k} = o.{k}' for k in keys)} "
            f"WHERE n.{HASH} IS DISTINCT FROM o.{HASH}"
        )


def _state(mart: Relation, key: tuple[str, ...]) -> str:
    """SQL: what is remembered of a mart."""
    if not key:
        return (
            "SELECT count(*) AS n, coalesce(sum(h::HUGEINT), 0)::VARCHAR AS total, "
            f"coalesce(bit_xor(h), 0) AS parity FROM (SELECT {row_hash(mart)} AS h FROM {mart.sql})"
        )
    keys = ", ".join(quote(k) for k in key)
    return f"SELECT {keys}, {row_hash(mart)} AS {HASH} FROM {mart.sql}"
