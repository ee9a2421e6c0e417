"""A mart's columns at PostgreSQL: their types, and the form in which values leave DuckDB.

Values travel in PostgreSQL's binary format, which `rows` writes of what leaves DuckDB here.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
from duckdb.sqltypes import DuckDBPyType

from etl.errors import ConfigError
from etl.targets.publication import Publication
from etl.targets.relation import Relation, read_types
from etl.targets.server import session

MAX_NAME_BYTES = 63

_TYPES = {
    "boolean": "boolean",
    "tinyint": "smallint",
    "utinyint": "smallint",
    "smallint": "smallint",
    "usmallint": "integer",
    "integer": "integer",
    "uinteger": "bigint",
    "bigint": "bigint",
    "ubigint": "numeric(20,0)",
    "hugeint": "numeric(39,0)",
    "uhugeint": "numeric(39,0)",
    "float": "real",
    "double": "double precision",
    "varchar": "text",
    "blob": "bytea",
    "uuid": "uuid",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamp_s": "timestamp",
    "timestamp_ms": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_NESTED = {"list", "array", "struct", "map"}
# What several types of DuckDB become is sent in one of them.
_CASTS = {"text": "VARCHAR", "timestamp": "TIMESTAMP"}


@dataclass(frozen=True)
class Column(session.Column):
    """One column: its name and its type at the target; unsigned if no value is below zero."""

    is_unsigned: bool = False

    @property
    def staged_type(self) -> str:
        """The type in the staging table: JSON stays text there, jsonb would rewrite it."""
        return "text" if self.type == "jsonb" else self.type

    @property
    def unstaged(self) -> str:
        """SQL at the target: the staged value in its final type, from alias `s`."""
        return f"s.{self.sql}::jsonb" if self.type == "jsonb" else f"s.{self.sql}"

    @property
    def sent(self) -> str:
        """SQL in DuckDB: the value in a type that `rows` knows how to write."""
        if self.type == "jsonb":
            return f"to_json({self.sql})::VARCHAR"
        if self.type == "uuid":
            return f"unhex(replace({self.sql}::VARCHAR, '-', ''))"
        if self.type in _CASTS:
            return f"{self.sql}::{_CASTS[self.type]}"
        return self.sql


def map_columns(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> tuple[Column, ...]:
    """The columns at the target. Raises ConfigError for a name that PostgreSQL would cut.

    Two tables whose names begin alike would be one.
    """
    for name in publication.table.split(".", 1):
        _refuse_long(f"the name {name}", name, target, "say another `table`")
    columns = tuple(
        Column(name, _map_type(kind), kind.id == "uhugeint")
        for name, kind in read_types(cursor, mart.sql)
    )
    for column in columns:
        named = f"column {column.name}"
        _refuse_long(named, column.name, target, "give it a shorter name in the model")
    return columns


def _refuse_long(named: str, name: str, target: str, hint: str) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigError(
            f"{named} is longer than the {MAX_NAME_BYTES} bytes of a name at target {target}",
            subject=target,
            hint=hint,
        )


def _map_type(kind: DuckDBPyType) -> str:
    """What has no type of its own at PostgreSQL (ENUM, INTERVAL, nanoseconds ...) goes as text."""
    if str(kind) == "JSON" or kind.id in _NESTED:
        return "jsonb"
    if kind.id == "decimal":
        return str(kind).lower().replace("decimal", "numeric")
    return _TYPES.get(kind.id, "text")
