"""Looks at tables: columns, checksum, key, and what changed between two versions of one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from etl.errors import ConfigError, LoadError
from etl.targets.publication import Publication, quote

# DuckDB's hash() of a nested value ignores how it nests ([[1],[2]] and [[1,2]] hash alike), and
# an ENUM's is its position. Only these types are hashed as they are, all others as text.
_PLAIN = re.compile(
    r"(BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\)"
    r"|VARCHAR|BLOB|UUID|DATE|TIME|TIMESTAMP(_NS|_MS|_S)?|TIMESTAMP WITH TIME ZONE)"
)


@dataclass(frozen=True)
class Column:
    """A column's name and DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True)
class Relation:
    """Something that stands in a FROM clause, and its columns in order."""

    sql: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Fingerprint:
    """Rows, and two sums over the rows' hashes that do not depend on the rows' order.

    The sum sees a row that is there twice, which cancels out of the exclusive or; together a
    difference escapes them by a chance of about 2**-64.
    """

    rows: int
    total: int
    parity: int

    def __str__(self) -> str:
        return f"{self.rows} rows, checksum {self.total:x}/{self.parity:x}"


@dataclass(frozen=True)
class Changes:
    """Rows that came, changed and went between two versions of a table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


def query(cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    """The one row of integers that a query of aggregates returns."""
    row = cursor.execute(sql).fetchone()
    assert row is not None, sql  # noqa: S101  an aggregate without GROUP BY has one row
    return tuple(int(value) for value in row)


def describe(cursor: duckdb.DuckDBPyConnection, sql: str) -> Relation:
    """The columns of a table, a view or a table function in a FROM clause."""
    rows = cursor.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()  # noqa: S608
    return Relation(sql, tuple(Column(str(r[0]), str(r[1])) for r in rows))


def row_hash(relation: Relation) -> str:
    """SQL for one row's hash over all columns; NULL and NaN are values like others."""
    # Never hash(t): a column named like the alias would take the place of the row.
    parts = (
        quote(c.name) if _PLAIN.fullmatch(c.type) else f"{quote(c.name)}::VARCHAR"
        for c in relation.columns
    )
    return f"hash({', '.join(parts)})"


def fingerprint(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Fingerprint:
    """Count and checksum, in one pass and constant memory."""
    return Fingerprint(
        *query(
            cursor,
            "SELECT count(*), coalesce(sum(h::HUGEINT), 0), coalesce(bit_xor(h), 0) "
            f"FROM (SELECT {row_hash(relation)} AS h FROM {relation.sql})",  # noqa: S608
        )
    )


def check_key(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> None:
    """Raise LoadError when the key does not tell every row from every other."""
    columns = {c.name.casefold() for c in mart.columns}
    for name in publication.key:
        if name.casefold() not in columns:
            raise ConfigError(
                f"key `{name}` is not a column of {publication.model}",
                subject=target,
                hint="columns: " + ", ".join(c.name for c in mart.columns),
            )
    if not publication.key:
        return
    keys = ", ".join(quote(k) for k in publication.key)
    some_null = " OR ".join(f"{quote(k)} IS NULL" for k in publication.key)
    rows, distinct, nulls = query(
        cursor,
        "SELECT coalesce(sum(n), 0), count(*), "  # noqa: S608
        f"coalesce(sum(n) FILTER (WHERE {some_null}), 0) "
        f"FROM (SELECT {keys}, count(*) AS n FROM {mart.sql} GROUP BY {keys})",
    )
    named = f"{publication.table} at target {target}: key ({', '.join(publication.key)})"
    if nulls:
        raise LoadError(
            f"{named} is NULL in {nulls} of {rows} rows",
            subject=target,
            hint=f"add the audit not_null to {publication.model}, or name another key",
        )
    if rows != distinct:
        raise LoadError(
            f"{named} is not unique: {rows - distinct} duplicates in {rows} rows",
            subject=target,
            hint=f"SELECT {keys}, count(*) FROM {publication.model} "  # noqa: S608
            f"GROUP BY ALL HAVING count(*) > 1",
        )


def count_changes(
    cursor: duckdb.DuckDBPyConnection, old: Relation | None, new: Relation, key: tuple[str, ...]
) -> Changes:
    """Compare two versions by key; without a usable key as bags of rows, which knows no updates."""
    (rows,) = query(cursor, f"SELECT count(*) FROM {new.sql}")  # noqa: S608
    if old is None:
        return Changes(inserted=rows)
    old_types = {c.name.casefold(): c.type for c in old.columns}
    if key and all(k.casefold() in old_types for k in key) and _is_unique(cursor, old, key):
        return _count_by_key(cursor, old, new, key)
    if old.columns != new.columns:
        return Changes(rows, 0, *query(cursor, f"SELECT count(*) FROM {old.sql}"))  # noqa: S608
    inserted, deleted = query(
        cursor,
        "SELECT coalesce(sum(greatest(n, 0)), 0), coalesce(sum(greatest(-n, 0)), 0) "  # noqa: S608
        "FROM (SELECT sum(n) AS n FROM ("
        f"SELECT {row_hash(new)} AS h, 1 AS n FROM {new.sql} "
        f"UNION ALL SELECT {row_hash(old)}, -1 FROM {old.sql}) GROUP BY h)",
    )
    return Changes(inserted, 0, deleted)


def _is_unique(cursor: duckdb.DuckDBPyConnection, old: Relation, key: tuple[str, ...]) -> bool:
    """False when the key was chosen later, or somebody wrote into the target."""
    keys = ", ".join(quote(k) for k in key)
    (repeated,) = query(
        cursor,
        f"SELECT count(*) FROM (SELECT 1 FROM {old.sql} GROUP BY {keys} "  # noqa: S608
        "HAVING count(*) > 1)",
    )
    return repeated == 0


def _count_by_key(
    cursor: duckdb.DuckDBPyConnection, old: Relation, new: Relation, key: tuple[str, ...]
) -> Changes:
    """With other columns than before, every row that stayed counts as updated."""
    # As text: a key column's type may have changed, and '7' stays the same key as 7.
    keys = [f"{quote(k)}::VARCHAR AS k{i}" for i, k in enumerate(key)]
    on = " AND ".join(f"o.k{i} = n.k{i}" for i in range(len(key)))
    differs = "o.h <> n.h" if old.columns == new.columns else "true"
    return Changes(
        *query(
            cursor,
            "SELECT count(*) FILTER (WHERE o.h IS NULL), "  # noqa: S608
            f"count(*) FILTER (WHERE o.h IS NOT NULL AND n.h IS NOT NULL AND {differs}), "
            "count(*) FILTER (WHERE n.h IS NULL) "
            f"FROM (SELECT {', '.join(keys)}, {row_hash(new)} AS h FROM {new.sql}) AS n "
            f"FULL JOIN (SELECT {', '.join(keys)}, {row_hash(old)} AS h FROM {old.sql}) AS o "
            f"ON {on}",
        )
    )
