"""Looks at a table, a view or files: their columns and the checksum of their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import duckdb
from duckdb.sqltypes import DuckDBPyType

from etl.warehouse import quoted

# DuckDB's hash() takes a nested value for its parts ([] and NULL, [[1], [2]] and [[1, 2]] hash
# alike), and an ENUM for its position. Only these types are hashed as they are, others as text.
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
class Version:
    """One version of a table: what it holds and what is said about it.

    `comments` by column name; the table's own under the empty name.
    """

    relation: Relation
    content: Fingerprint
    comments: dict[str, str] = field(default_factory=dict)

    def equals(self, other: Version | None) -> bool:
        """True when a reader could not tell the two apart."""
        return other is not None and (self.relation.columns, self.content, self.comments) == (
            other.relation.columns,
            other.content,
            other.comments,
        )


def query(cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    """The one row of integers that a query of aggregates returns."""
    row = cursor.execute(sql).fetchone()
    assert row is not None, sql  # noqa: S101  an aggregate without GROUP BY has one row
    return tuple(int(value) for value in row)


def warehouse_name(cursor: duckdb.DuckDBPyConnection) -> str:
    """The catalog that the marts are in: one that is attached may have such a schema, too."""
    ((name,),) = cursor.execute("SELECT current_database()").fetchall()
    return str(name)


def describe(cursor: duckdb.DuckDBPyConnection, sql: str) -> Relation:
    """The columns of a table, a view or a table function in a FROM clause."""
    rows = cursor.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()  # noqa: S608
    return Relation(sql, tuple(Column(str(r[0]), str(r[1])) for r in rows))


def read_types(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, DuckDBPyType]]:
    """The same columns, with their types and what is nested in these."""
    described = cursor.execute(f"SELECT * FROM {sql} LIMIT 0").description or []  # noqa: S608  quoted
    return [(str(column[0]), column[1]) for column in described]


def row_hash(relation: Relation) -> str:
    """SQL for one row's hash over all columns; NULL and NaN are values like others."""
    # Never hash(t): a column named like the alias would take the place of the row.
    parts = (
        quoted(c.name) if _PLAIN.fullmatch(c.type) else f"{quoted(c.name)}::VARCHAR"
        for c in relation.columns
    )
    return f"hash({', '.join(parts)})"


def fingerprint(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Fingerprint:
    """Count and checksum, in one pass and constant memory."""
    return sum_hashes(cursor, row_hash(relation), relation.sql)


def sum_hashes(cursor: duckdb.DuckDBPyConnection, row_hash_sql: str, source: str) -> Fingerprint:
    """The fingerprint of rows whose hashes an expression over a FROM clause gives."""
    return Fingerprint(
        *query(
            cursor,
            "SELECT count(*), coalesce(sum(h::HUGEINT), 0), coalesce(bit_xor(h), 0) "  # noqa: S608
            f"FROM (SELECT {row_hash_sql} AS h FROM {source})",
        )
    )
