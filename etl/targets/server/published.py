"""What was published last at each target, kept in the warehouse: a checksum, and each row's hash.

It is written after the target's commit. When it is lost or older than the target's mark, the next
load sends the table whole, and the target works out what that changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from etl.targets.claims import SCHEMA
from etl.targets.comparison import Changes
from etl.targets.relation import Fingerprint, Relation, fingerprint, query, row_hash, sum_hashes
from etl.warehouse import exists, quoted

STATES = f"{SCHEMA}.states"
# Under names that no mart has: a row's hash, and whether the target has a row of that key.
HASH = '"etl: hash"'
KNOWN = '"etl: known"'


@dataclass(frozen=True)
class State:
    """A publication: its id, which the target's mark has too, and what it held."""

    publication_id: str
    content: Fingerprint


@dataclass(frozen=True)
class Published:
    """One table of one target as the job remembers it, to be compared with its mart by key.

    `shape` says of what the hashes were made: when it differs, they cannot be compared.
    """

    cursor: duckdb.DuckDBPyConnection
    target: str
    table: str
    mart: Relation
    key: tuple[str, ...]

    @property
    def rows(self) -> str:
        """SQL: the table of keys and hashes; there is none without a key."""
        return f"{SCHEMA}.{quoted(f'{self.target}: {self.table}')}"

    @property
    def difference(self) -> str:
        """SQL: the table of keys that differ, one for each table until the commit."""
        return f"temp.main.{quoted(f'etl difference: {self.target}: {self.table}')}"

    def exists(self) -> bool:
        """True when the table was published, whatever its shape was."""
        return self._read() is not None

    def read(self, shape: str) -> State | None:
        """The last publication, None when there is none or it had another shape."""
        row = self._read()
        if row is None or row[0] != shape:
            return None
        return State(str(row[1]), Fingerprint(*map(int, row[2:])))

    def write(self, shape: str, publication_id: str, *, whole: bool) -> None:
        """Remember the mart's rows, or what changed of them; in the caller's transaction."""
        cursor = self.cursor
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {STATES} (target VARCHAR, table_name VARCHAR, "
            "shape VARCHAR, publication_id VARCHAR, rows BIGINT, total HUGEINT, parity UBIGINT, "
            "PRIMARY KEY (target, table_name))"
        )
        if not self.key:
            cursor.execute(f"DROP TABLE IF EXISTS {self.rows}")
        elif whole:
            cursor.execute(f"CREATE OR REPLACE TABLE {self.rows} AS {self._state}")
        else:
            same = " AND ".join(f"p.{quoted(k)} = d.{quoted(k)}" for k in self.key)
            cursor.execute(
                f"DELETE FROM {self.rows} AS p USING {self.difference} AS d WHERE {same}"
            )
            cursor.execute(
                f"INSERT INTO {self.rows} SELECT {self._keys}, {HASH} FROM {self.difference} "
                f"WHERE {HASH} IS NOT NULL"
            )
        held = sum_hashes(cursor, HASH, self.rows) if self.key else fingerprint(cursor, self.mart)
        cursor.execute(
            f"INSERT OR REPLACE INTO {STATES} (target, table_name, shape, publication_id, rows, "
            "total, parity) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [self.target, self.table, shape, publication_id, held.rows, held.total, held.parity],
        )

    def compare(self, rows: int, last: Fingerprint, *, likely: bool) -> Changes | None:
        """How many of the mart's `rows` came or changed, and how many went, since the `last` time.

        Their keys are in `difference`. None when it cannot be told row by row: what changed has no
        key, or not one that tells every row from every other. Where a change is `likely`, it is not
        asked first whether there is one at all.
        """
        asked_first = not (likely and self.key)
        if asked_first and rows == last.rows and fingerprint(self.cursor, self.mart) == last:
            return Changes()
        if not self.key:
            return None
        self._find_difference()
        some_null = " OR ".join(f"{quoted(k)} IS NULL" for k in self.key)
        came, changed, gone, keyless, distinct = query(
            self.cursor,
            f"SELECT count(*) FILTER ({HASH} IS NOT NULL AND NOT {KNOWN}), "
            f"count(*) FILTER ({HASH} IS NOT NULL AND {KNOWN}), "
            f"count(*) FILTER ({HASH} IS NULL), count(*) FILTER ({some_null}), "
            f"count(DISTINCT ({self._keys})) FROM {self.difference}",
        )
        # Remembered keys are all different. So a key is in the mart twice only if it is twice in
        # the difference, or more rows of the mart were found again than are remembered and stayed.
        is_unique = distinct == came + changed + gone
        if keyless or not is_unique or rows - came != last.rows - gone:
            return None
        return Changes(came, changed, gone)

    @property
    def _keys(self) -> str:
        """SQL: the columns of the key."""
        return ", ".join(map(quoted, self.key))

    @property
    def _state(self) -> str:
        """SQL: keys and hashes of the mart's rows."""
        return f"SELECT {self._keys}, {row_hash(self.mart)} AS {HASH} FROM {self.mart.sql}"

    def _read(self) -> tuple[Any, ...] | None:
        if not exists(self.cursor, SCHEMA, "states"):
            return None
        return self.cursor.execute(
            f"SELECT shape, publication_id, rows, total, parity FROM {STATES} "
            "WHERE target = $1 AND table_name = $2",
            [self.target, self.table],
        ).fetchone()

    def _find_difference(self) -> None:
        """Write to `difference` the keys of all rows that came, changed or went.

        A row that went has no hash, one that came is not known.
        """
        keys = [quoted(k) for k in self.key]
        self.cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {self.difference} AS "
            f"SELECT {', '.join(f'coalesce(n.{k}, o.{k}) AS {k}' for k in keys)}, n.{HASH}, "
            f"o.{HASH} IS NOT NULL AS {KNOWN} "
            f"FROM ({self._state}) AS n FULL JOIN {self.rows} AS o "
            f"ON {' AND '.join(f'n.{k} = o.{k}' for k in keys)} "
            f"WHERE n.{HASH} IS DISTINCT FROM o.{HASH}"
        )
