"""The raw tables as external models: the bottom of the lineage, and what a plan may count on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from etl.generate.sql import describe_column, identifier
from etl.generate.staging import describe_bookkeeping
from etl.raw.schemas import RawSchema, RawTable

HEAD = (
    "# A raw table of the source {source} as dlt recorded it; a run that finds none creates it, "
    "empty.\n"
)
LOADS = "_dlt_loads"
PLAIN = re.compile("[ -~→]+")
MAX_PLAIN = 100
# PyYAML that was built where there is no libyaml has only its own.
FAST_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
LOADS_COLUMNS: dict[str, Any] = {
    "load_id": ("TEXT", "The load package."),
    "schema_name": ("TEXT", "The schema that it belongs to."),
    "status": ("BIGINT", "0: committed."),
    "inserted_at": ("TIMESTAMPTZ", "When it was committed."),
    "schema_version_hash": ("TEXT", "The version of the schema that it was loaded with."),
}


def external_models(schema: RawSchema) -> Iterator[tuple[str, str]]:
    """A file for each raw table of a source, with columns and descriptions: path and YAML.

    SQLMesh caches by file what it parsed, so a new column costs the parsing of one table.
    """
    for table in schema.tables:
        yield _path(schema, table.name), _document(schema, _table(schema, table))
    loads = {
        "name": f"{schema.dataset}.{LOADS}",
        "description": "The load packages of the source that dlt has committed.",
        "columns": {c: kind for c, (kind, _) in LOADS_COLUMNS.items()},
        "column_descriptions": {c: text for c, (_, text) in LOADS_COLUMNS.items()},
    }
    yield _path(schema, LOADS), _document(schema, loads)


def _path(schema: RawSchema, table: str) -> str:
    return f"external_models/{schema.source}/{table}.yaml"


def _document(schema: RawSchema, declared: dict[str, Any]) -> str:
    dumper = FAST_DUMPER if _is_plain(declared) else yaml.SafeDumper
    listed = yaml.dump([declared], Dumper=dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return HEAD.format(source=schema.source) + listed


def _is_plain(declared: dict[str, Any]) -> bool:
    """True for what libyaml writes as PyYAML does, in a tenth of the time.

    Not what is beyond the first plane of Unicode, which it escapes, and not very long names.
    """
    names = declared["columns"]
    texts = (declared["name"], declared["description"], *declared["column_descriptions"].values())
    return all(PLAIN.fullmatch(t) for t in (*names, *texts)) and max(map(len, names)) < MAX_PLAIN


def _table(schema: RawSchema, table: RawTable) -> dict[str, Any]:
    # dlt's own last: a new column then stands with those of the source.
    own = (c for c in table.columns if c.is_bookkeeping)
    columns = [*table.data, *sorted(own, key=lambda c: c.name)]
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
