"""Types of raw's columns: as settings declare them, as dlt noted them, and where raw has others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import dlt
import duckdb
from dlt.common.schema.utils import is_complete_column

from etl.errors import SchemaError
from etl.raw.hints import all_hints
from etl.warehouse import quoted, read_types

if TYPE_CHECKING:
    from dlt.common.destination import DestinationCapabilitiesContext
    from dlt.common.schema import Schema
    from dlt.extract import DltSource

LOADS = "_dlt_loads"
Types = Mapping[str, Mapping[str, str]]
"""DuckDB's types by table and column."""


class Retyped(NamedTuple):
    """A column that stands in raw with one type and is asked for with another."""

    table: str
    column: str
    known: str
    asked: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} from {self.known} to {self.asked}"


def duckdb_type(column: Mapping[str, Any], table: str) -> str:
    """DuckDB's type for a column as dlt knows it; dlt warns of some with the table's name."""
    types = _capabilities().get_type_mapper()
    return types.to_destination_type(cast(Any, column), cast(Any, {"name": table}))


@cache
def _capabilities() -> DestinationCapabilitiesContext:
    return dlt.destinations.duckdb().capabilities()


def declared_types(
    source: DltSource | None, schema: Schema, *, recorded: bool
) -> dict[str, dict[str, str]]:
    """The tables that a source declares, or has `recorded`: their columns with their types.

    Columns whose type nobody has told are not among them: dlt adds them with the first rows.

    Raises:
        ConfigError: dlt does not accept a resource's hints.
    """
    tables: dict[str, dict[str, Any]] = {}
    nested: set[str] = set()
    declared: list[Any] = []
    if source is not None:
        for resource in source.selected_resources.values():
            declared += all_hints(source.name, resource, schema.naming)
    if recorded:
        tables[LOADS] = dict(schema.tables[LOADS]["columns"])
        declared = [*schema.data_tables(), *declared]
    for table in declared:
        tables.setdefault(table["name"], {}).update(table.get("columns", {}))
        if table.get("parent"):
            nested.add(table["name"])
    return {
        name: _own_columns(name, name in nested)
        | {c["name"]: duckdb_type(c, name) for c in columns.values() if is_complete_column(c)}
        for name, columns in tables.items()
    }


def _own_columns(name: str, is_nested: bool) -> dict[str, str]:
    """The columns that dlt gives every row: those of a nested table link it to its parent."""
    if name == LOADS:
        return {}
    if is_nested:
        return {"_dlt_parent_id": "VARCHAR", "_dlt_list_idx": "BIGINT", "_dlt_id": "VARCHAR"}
    return {"_dlt_load_id": "VARCHAR", "_dlt_id": "VARCHAR"}


def find_retyped(
    connection: duckdb.DuckDBPyConnection, dataset: str, tables: Iterable[str], asked: Types
) -> list[Retyped]:
    """Columns of these tables that stand with other types than those that are asked for."""
    standing = read_types(connection, dataset)
    return [
        Retyped(table, column, known, kind)
        for table in sorted(asked.keys() & set(tables))
        for column, kind in asked[table].items()
        if not column.startswith("_dlt")
        and (known := standing.get(table, {}).get(column, kind)) != kind
        and known != str(duckdb.type(kind))  # DuckDB's name for it: TEXT is VARCHAR
    ]


def refuse_casts(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    dataset: str,
    retyped: Collection[Retyped],
    files: Mapping[str, list[Path]],
) -> None:
    """Refuse values in files of a package that DuckDB would round, cut or not take.

    Those of Arrow tables: dlt notes the type that comes, and leaves the rest to DuckDB.

    Raises:
        SchemaError: names the columns, how many values, and the types.
    """
    lost = [
        f"{rows} of {dataset}.{one.table}.{one.column} ({one.asked}, {one.known} in raw)"
        for one in retyped
        if (rows := _count_uncastable(connection, files.get(one.table, []), one.column, one.known))
    ]
    if lost:
        raise SchemaError(
            f"{source}: values came in a type that their column does not hold: "
            + ", ".join(lost[:20]),
            subject=source,
            hint="mend the source, or say the new type in the resource's `columns` "
            f"(`data_type`), then `etl run --full-refresh --source {source}`; the package is kept "
            "in data/quarantine",
        )


def _count_uncastable(
    connection: duckdb.DuckDBPyConnection, files: Iterable[Path], column: str, kind: str
) -> int:
    """Values of Parquet files that are others, or none, once they are cast to this type."""
    found, name = 0, quoted(column)
    for path in map(str, files):
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
        came = {str(row[0]): str(row[1]) for row in described}.get(column)
        if came is None:
            continue
        row = connection.execute(
            f"SELECT count(*) FROM read_parquet(?) WHERE {_is_changed(name, kind, came)}",  # noqa: S608 - quoted
            [path],
        ).fetchone()
        found += row[0] if row else 0
    return found


def _is_changed(name: str, kind: str, came: str) -> str:
    """A condition: a value is another, or none, once it was cast to this type and back."""
    return f"TRY_CAST(TRY_CAST({name} AS {kind}) AS {came}) IS DISTINCT FROM {name}"


def find_cast(page: Any, columns: Mapping[str, Any]) -> str:
    """A column of an Arrow table of which DuckDB would change values to the type that is declared.

    Empty for none. Of numbers and times: dlt leaves them as they are, and DuckDB rounds and cuts.
    """
    import pyarrow as pa

    other = [n for n in page.schema.names if n in columns and _is_cast(page, n, columns[n])]
    if not other:
        return ""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("page", pa.table({n: page.column(n) for n in other}))
        for name, came, *_ in connection.execute("DESCRIBE page").fetchall():
            changed = _is_changed(quoted(name), duckdb_type(columns[name], ""), came)
            try:
                row = connection.execute(
                    f"SELECT 1 FROM page WHERE {changed} LIMIT 1"  # noqa: S608 - quoted
                ).fetchone()
            except duckdb.ConversionException:  # there is no such cast
                return str(name)
            if row:
                return str(name)
    return ""


def _is_cast(page: Any, name: str, column: Mapping[str, Any]) -> bool:
    """Whether numbers or times of a page have another type than the one that is declared."""
    import pyarrow as pa
    from dlt.common.libs.pyarrow import get_py_arrow_datatype

    came = page.schema.field(name).type
    asked = get_py_arrow_datatype(cast(Any, column), _capabilities(), "UTC")
    is_exact = asked == came or (pa.types.is_floating(came) and pa.types.is_floating(asked))
    is_counted = pa.types.is_decimal(came) or pa.types.is_primitive(came)
    return is_counted and not is_exact and not pa.types.is_string(asked)
