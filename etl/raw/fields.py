"""The API's fields behind the columns of raw, kept for the lineage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl.api_fields import ROWS, FieldPaths, name_columns, save_fields

if TYPE_CHECKING:
    from etl.raw.pipeline import Raw


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
