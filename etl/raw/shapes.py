"""Raw tables as dlt records them: their shape, what packages brought, those made ahead empty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import duckdb
from dlt.common.schema.utils import is_complete_column

from etl.drift import Column, Count, Shape, Table, up_to_root
from etl.warehouse import quoted, read_types

if TYPE_CHECKING:
    from dlt.common.schema import Schema


def read_shape(schema: Schema) -> dict[str, Table]:
    """Every table that has been loaded, without dlt's own columns."""
    tables = {str(t["name"]): t for t in schema.data_tables(seen_data_only=True)}
    return {
        table_name: Table(
            table_name,
            table.get("parent"),
            {
                name: Column(
                    str(c["data_type"]), name.rpartition("__v_")[0] if c.get("variant") else ""
                )
                for name, c in table.get("columns", {}).items()
                if is_complete_column(c) and not name.startswith("_dlt_")
            },
        )
        for table_name, table in tables.items()
    }


def count_values(
    connection: duckdb.DuckDBPyConnection,
    dataset: str,
    shape: Shape,
    load_ids: Iterable[str],
    *,
    others: bool = False,
) -> dict[str, Count]:
    """What these load packages brought (or all `others`), one query for each table.

    Tables whose rows do not tell their package (Arrow tables without `_dlt_load_id`) are left out.
    """
    present = read_types(connection, dataset)
    among, ids = "NOT IN" if others else "IN", list(load_ids)
    counts: dict[str, Count] = {}
    for table in shape.values():
        chain = up_to_root(table.name, shape)
        linked = all("_dlt_parent_id" in present.get(name, ()) for name in chain[:-1])
        if not linked or "_dlt_load_id" not in present.get(chain[-1], ()):
            continue
        columns = [c for c in table.columns if c in present[table.name]]
        parents = "count(DISTINCT t0._dlt_parent_id)" if table.parent else "0"
        listed = "".join(f", count(t0.{quoted(c)})" for c in columns)
        joins = "".join(
            f" JOIN {quoted(dataset, name)} t{i} ON t{i - 1}._dlt_parent_id = t{i}._dlt_id"
            for i, name in enumerate(chain)
            if i
        )
        row = connection.execute(
            f"SELECT count(*), {parents}{listed} FROM {quoted(dataset, table.name)} t0{joins} "  # noqa: S608
            f"WHERE t{len(chain) - 1}._dlt_load_id {among} (SELECT unnest(?))",
            [ids],
        ).fetchone()
        if row:
            values = {c: int(n) for c, n in zip(columns, row[2:], strict=True)}
            counts[table.name] = Count(int(row[0]), values, int(row[1]))
    return counts


def drop_placeholders(
    connection: duckdb.DuckDBPyConnection, dataset: str, tables: Iterable[str]
) -> None:
    """Drop tables that were made empty ahead of their first rows: dlt makes them as they must be.

    It would add what they lack, and DuckDB adds no column that is NOT NULL. A table that dlt
    itself made has such a column and is never taken for one of ours.
    """
    nullable = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = ? "
            "GROUP BY table_name HAVING bool_and(is_nullable = 'YES')",
            [dataset],
        ).fetchall()
    }
    for name in tables:
        if name not in nullable:
            continue
        table = quoted(dataset, name)
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None:  # noqa: S608
            connection.execute(f"DROP TABLE {table}")
