"""The raw tables as external models: the bottom of the lineage, and what a plan may count on."""

from __future__ import annotations

from typing import Any

import yaml

from etl.generate.sql import describe_column, identifier
from etl.generate.staging import describe_bookkeeping
from etl.raw.schemas import RawColumn, RawSchema, RawTable

HEAD = (
    "# Raw tables of the source {source} as dlt recorded them; a run creates what is missing, "
    "empty.\n"
)
LOADS: dict[str, Any] = {
    "load_id": ("TEXT", "The load package."),
    "schema_name": ("TEXT", "The schema that it belongs to."),
    "status": ("BIGINT", "0: committed."),
    "inserted_at": ("TIMESTAMPTZ", "When it was committed."),
    "schema_version_hash": ("TEXT", "The version of the schema that it was loaded with."),
}


def external_models(schema: RawSchema) -> str:
    """The YAML file of all raw tables of a source, with types and descriptions."""
    tables = [_table(schema, t) for t in schema.tables]
    tables.append(
        {
            "name": f"{schema.dataset}._dlt_loads",
            "description": "The load packages of the source that dlt has committed.",
            "columns": {c: kind for c, (kind, _) in LOADS.items()},
            "column_descriptions": {c: text for c, (_, text) in LOADS.items()},
        }
    )
    documents = (
        yaml.safe_dump([t], sort_keys=False, allow_unicode=True, width=10_000) for t in tables
    )
    return HEAD.format(source=schema.source) + "\n".join(documents)


def _name(column: RawColumn) -> str:
    return column.name


def _table(schema: RawSchema, table: RawTable) -> dict[str, Any]:
    # dlt's own last: a new column then stands with those of the source.
    columns = [*table.data, *sorted((c for c in table.columns if c.is_bookkeeping), key=_name)]
    return {
        "name": f"{schema.dataset}.{identifier(table.name)}",
        "description": table.description
        or f"{table.name} as the source sent them; write disposition {table.disposition}.",
        "columns": {c.name: c.type for c in columns},
        "column_descriptions": {
            c.name: describe_bookkeeping(table, c.name)
            if c.is_bookkeeping
            else describe_column(table, c)
            for c in columns
        },
    }
