"""The API's fields behind the columns of raw: kept for the lineage, refused when two share one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl.api_fields import ROWS, FieldPaths, find_collisions, name_columns, save_fields
from etl.errors import SchemaError

if TYPE_CHECKING:
    from etl.raw.pipeline import Raw


def check_names(raw: Raw, found: Iterable[FieldPaths]) -> None:
    """Refuse rows that have two fields for one column.

    Raises:
        SchemaError: names the column and the fields; dlt would keep the last and say nothing.
    """
    collisions = find_collisions(found, raw.pipeline.default_schema.naming)
    for column, fields in sorted(collisions.items()):
        more = f" (and {len(collisions) - 1} more such columns)" if len(collisions) > 1 else ""
        raise SchemaError(
            f"{raw.dataset}.{column}: {' and '.join(fields)} of one row would go to this "
            f"column, and only the last would be kept{more}",
            subject=raw.source,
            hint="nothing was committed; read the source by a `factory` that renames or drops "
            "one of them",
        )


def remember_fields(raw: Raw, found: Iterable[FieldPaths]) -> None:
    """Keep where the columns of raw come from in the API, for `etl lineage`."""
    schema = raw.pipeline.default_schema
    named = name_columns(found, schema.naming)
    columns = {name: table.get("columns", {}) for name, table in schema.tables.items()}
    stood = {
        table: {c: f for c, f in fields.items() if c in columns[table] or c == ROWS}
        for table, fields in named.items()
        if table in columns
    }
    save_fields(raw.settings, raw.source, stood)
