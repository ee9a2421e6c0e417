"""The API's fields behind the columns of raw: named as dlt names them, kept for the lineage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dlt.common.normalizers.json.relational import DataItemNormalizer

from etl.api_fields import ROWS, ApiField, FieldPaths, Step, Tables, save_fields

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention

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


def name_columns(found: Iterable[FieldPaths], naming: NamingConvention) -> Tables:
    """The paths by raw table and column, named as dlt's relational normalizer names them.

    A path to an object or list is there by the column that it has when dlt keeps it as JSON.
    """
    tables: Tables = {}
    for paths in found:
        for path in sorted(paths.paths, key=repr):
            for table, column in _places(paths.table, path, naming):
                fields = tables.setdefault(table, {}).setdefault(column, [])
                if (one := paths.field_of(path)) not in fields:
                    fields.append(one)
        for key, note in paths.added.items() if paths.paths else ():
            ((table, column),) = _places(paths.table, (key,), naming)
            tables.setdefault(table, {})[column] = [ApiField(note=note)]
    return tables


def _places(root: str, path: tuple[Step, ...], naming: NamingConvention) -> list[tuple[str, str]]:
    """(table, column) where a path ends; for the items of a list also the rows of its table."""
    table, names = [naming.normalize_tables_path(root)], list[str]()
    last: Step = ""
    for step in path:
        if step is not None:
            names.append(step)
        else:
            # A list in a list: dlt puts a row with the one field `list` between them.
            inner = ["list"] if last is None else names
            table += _normal(inner[:-1], naming)
            # As in dlt, which puts the items of a list without a name into the parent's table.
            if inner[-1].strip():
                table.append(naming.normalize_tables_path(inner[-1]))
            names = []
        last = step
    name = naming.shorten_fragments(*table)
    if names:
        return [(name, naming.shorten_fragments(*_normal(names, naming)))]
    return [(name, ROWS), (name, "value")] if path else [(name, ROWS)]


def _normal(keys: Iterable[str], naming: NamingConvention) -> list[str]:
    # dlt reads every key as a path in its own notation, so nothing is left of `__`; a key of white
    # space alone has a name of its own.
    return [
        naming.normalize_path(k) if k.strip() else DataItemNormalizer.EMPTY_KEY_IDENTIFIER
        for k in keys
    ]
