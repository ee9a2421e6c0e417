"""Says in which types a mart goes into Parquet, so that every value comes out as it went in."""

from __future__ import annotations

import duckdb
from duckdb.sqltypes import DuckDBPyType

from etl.targets.publication import qualify
from etl.targets.relation import Relation, describe, read_types, warehouse_name
from etl.warehouse import quoted

_EXACT = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint"),
        *("utinyint", "usmallint", "uinteger", "ubigint", "float", "double", "decimal"),
        *("varchar", "blob", "uuid", "date", "time", "timestamp", "timestamp_ns"),
        "timestamp with time zone",
    }
)

# DuckDB would write HUGEINT, the type of every sum() of integers, as DOUBLE and lose digits.
_CAST = {
    "hugeint": "DECIMAL(38,0)",
    "uhugeint": "DECIMAL(38,0)",
    "timestamp_s": "TIMESTAMP",
    "timestamp_ms": "TIMESTAMP",
}


def export(cursor: duckdb.DuckDBPyConnection, model: str) -> Relation:
    """The mart with every column in a type that Parquet keeps exactly.

    What has no such type (ENUM, INTERVAL, BIT, UNION ...) goes as text.
    """
    mart = qualify(warehouse_name(cursor), model)
    columns = [(quoted(name), kind) for name, kind in read_types(cursor, mart)]
    casts = ", ".join(f"{name}::{choose_type(kind)} AS {name}" for name, kind in columns)
    return describe(cursor, f"(SELECT {casts} FROM {mart})")  # noqa: S608


def choose_type(kind: DuckDBPyType) -> str:
    """The SQL type for a column of this type, with all that is nested in it."""
    if kind.id not in {"list", "array", "struct", "map"}:
        return str(kind) if kind.id in _EXACT else _CAST.get(kind.id, "VARCHAR")
    # An array's size stands among its children, as a number.
    inner = [(n, choose_type(t)) for n, t in kind.children if isinstance(t, DuckDBPyType)]
    if kind.id == "struct":
        if not all(name for name, _ in inner):
            return "VARCHAR"  # row(1, 2): Parquet has no fields without names
        return f"STRUCT({', '.join(f'{quoted(name)} {sql}' for name, sql in inner)})"
    if kind.id == "map":
        return f"MAP({inner[0][1]}, {inner[1][1]})"
    return f"{inner[0][1]}[]"
