"""Whether what a load brought to a destination of dlt holds the mart's values, column by column.

Databases round, cut and convert what they are sent without a word. So each column is read back, in
parts that fit in memory, and taken for the mart's type again: the sums of the hashes must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from etl.targets.batches import BYTES
from etl.targets.relation import Column, Relation, query, row_hash


def add_up(cursor: duckdb.DuckDBPyConnection, mart: Relation) -> tuple[int, ...]:
    """The sum of the hashes of each column, in one pass."""
    sums = (_sum(c) for c in mart.columns)
    return query(cursor, f"SELECT {', '.join(sums)} FROM {mart.sql}")  # noqa: S608  quoted names


def agrees(
    cursor: duckdb.DuckDBPyConnection, column: Column, total: int, there: Iterable[Any]
) -> bool:
    """Whether a column that stands `there`, as Arrow tables of it alone, has the mart's `total`."""
    found: list[int] = []
    try:
        for part in _gather(there):
            cursor.register("etl_part", _readable(part))
            try:
                found.extend(query(cursor, _sums_of_part(column.type)))
            finally:
                cursor.unregister("etl_part")
    except pa.ArrowException:
        return False  # what stands there is no value of the column's type
    return total in (sum(found[::2]), sum(found[1::2]))


def _readable(part: Any) -> Any:
    """The part with its column under a name of ours, in a type that DuckDB reads."""
    renamed = part.rename_columns(["v"])
    if pa.types.is_decimal256(part.schema.types[0]):
        return renamed.cast(pa.schema([("v", pa.string())]))
    return renamed


def _sums_of_part(kind: str) -> str:
    """SQL for two sums: values taken for the type as they are, and as JSON.

    Nested values come as text where the destination has no such type. Of JSON's numbers DuckDB
    keeps the digits of a double, and without JSON not what texts in it escape.
    """
    nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))
    read = "TRY_CAST(v AS JSON)" if nested else "v"
    ways = [Column("a", kind), Column("b", kind)]
    return (
        f"SELECT {', '.join(map(_sum, ways))} FROM (SELECT TRY_CAST(v AS {kind}) AS a, "  # noqa: S608  a type
        f"TRY_CAST({read} AS {kind}) AS b FROM etl_part)"
    )


def _sum(column: Column) -> str:
    return f"coalesce(sum({row_hash(Relation('', (column,)))}::HUGEINT), 0)"


def _gather(tables: Iterable[Any]) -> Iterator[Any]:
    """The tables in parts of at least 8 MB, but for the last."""
    gathered: list[Any] = []
    size = 0
    for table in tables:
        gathered.append(table)
        size += table.nbytes
        if size >= BYTES:
            yield pa.concat_tables(gathered, promote_options="permissive")
            gathered, size = [], 0
    if gathered:
        yield pa.concat_tables(gathered, promote_options="permissive")
