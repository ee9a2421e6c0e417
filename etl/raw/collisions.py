"""Refuses names that become one: two fields for a column, one of dlt's, resources for a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

from dlt.common.json import custom_pua_decode_nested
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.schema.typing import DLT_NAME_PREFIX
from dlt.common.schema.utils import (
    get_root_table,
    get_validity_column_names,
    is_nested_table,
)

from etl.api_fields import as_json_path
from etl.drift import Shape
from etl.errors import ConfigError, SchemaError
from etl.raw.contracts import mask_row
from etl.settings import dataset_name

Flat = tuple[dict[str, Any], dict[tuple[str, ...], Any]]


class CollisionError(Exception):
    """What a row has for one place in raw, a column or a table, together with something else."""

    def __init__(self, place: str, what: str, row: Mapping[str, Any]) -> None:
        super().__init__(place)
        self.place = place
        self.what = what
        self.row = row


class MisfitError(CollisionError):
    """A value for a column that cannot hold it, and that may not be NULL instead: a key's, say."""

    def __init__(self, table: str, column: str, kind: Any, row: Mapping[str, Any]) -> None:
        what = f"a value came that is no {kind}, as those before it are, and the column needs one"
        super().__init__(f"{table}.{column}", what, row)


def check_tables(source: str, tables: Iterable[str], naming: NamingConvention, raw: Shape) -> None:
    """Hold the tables that resources name against each other and against nested ones in raw.

    Raises:
        ConfigError: different names become one table, or one is that of a nested table, or dlt's.
    """
    given: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(tables)):
        given[naming.normalize_tables_path(name)].append(name)
    for table, names in given.items():
        place = f"{dataset_name(source)}.{table}"
        if table.startswith(DLT_NAME_PREFIX):
            what = f"{place}: names that begin with {DLT_NAME_PREFIX} are dlt's own"
        elif len(names) > 1:
            what = f"{place}: {' and '.join(names)} would both go to this table"
        elif table in raw and (parent := raw[table].parent) is not None:
            what = f"{place}: {names[0]} would go to a table that holds a nested list of {parent}"
        else:
            continue
        raise ConfigError(what, subject=source, hint="give one of the resources another name")


def refuse_collisions(normalizer: object) -> None:
    """Let a normalizer of dlt's refuse rows in which it would overwrite a field with another.

    This is where all rows pass, at any depth, under the names that they will have.
    """
    if isinstance(normalizer, DataItemNormalizer):
        # Only these can be taken for a nested one; all are known since the rows were extracted.
        roots = frozenset(
            name
            for name, table in normalizer.schema.tables.items()
            if normalizer.naming.PATH_SEPARATOR in name and not is_nested_table(table)
        )
        # Its class is dlt's default in every schema that is stored: this one is changed instead.
        vars(normalizer)["_flatten"] = partial(
            _flatten, normalizer, roots, _own_columns(normalizer)
        )


def _own_columns(normalizer: DataItemNormalizer) -> Mapping[str, frozenset[str]]:
    """The columns of each table that dlt itself fills."""
    everywhere = frozenset(
        (normalizer.c_dlt_id, normalizer.c_dlt_load_id, normalizer.c_dlt_root_id,
         normalizer.c_dlt_parent_id, normalizer.c_dlt_list_idx)
    )  # fmt: skip
    schema = normalizer.schema
    own = {
        name: everywhere.union(filter(None, get_validity_column_names(table)))
        for name, table in schema.tables.items()
    }
    # Rows of dlt's own.
    return defaultdict(lambda: everywhere, own | {schema.state_table_name: frozenset()})


def describe_collision(error: BaseException, source: str, pii: Iterable[str]) -> SchemaError | None:
    """The failure for fields that share a place; None for any other error.

    `sample` holds the row, masked. Of an Arrow table dlt itself says that columns share a name.
    """
    from dlt.common.libs.pyarrow import NameNormalizationCollision

    hint = (
        "nothing was committed; an object with free keys stays JSON by `columns: {its_name: "
        "{data_type: json}}` of the resource; else rename a field by `processing_steps`, or in the "
        "factory"
    )
    if isinstance(error, NameNormalizationCollision):
        text = " ".join(str(error).split())[:500]
        return SchemaError(f"{dataset_name(source)}: {text}", subject=source, hint=hint)
    if not isinstance(error, CollisionError):
        return None
    if isinstance(error, MisfitError):
        hint = (
            "nothing was committed; is it a key that changed its type? `columns` of the resource "
            "can say one that holds all values (`data_type: text`), and `etl run --full-refresh "
            f"--source {source}` reads everything again by it"
        )
    found = SchemaError(
        f"{dataset_name(source)}.{error.place}: {error.what}",
        subject=source,
        hint=f"{hint}; the row is in run.json → failures → sample; the package is kept in "
        "data/quarantine",
    )
    found.sample = (mask_row(error.row, pii),)
    return found


def _flatten(
    self: DataItemNormalizer,
    roots: Collection[str],
    own: Mapping[str, frozenset[str]],
    table: str,
    dict_row: Any,
    _r_lvl: int,
) -> Flat:
    """A row's columns and lists, as dlt's method of this name gives them (a test compares the two).

    dlt's does not tell what it overwrites, and to walk through the row again would cost as much as
    the first time.

    Raises:
        CollisionError: the row has more fields than places for them, one for a column of dlt's, or
            a list for another's table.
    """
    columns: dict[str, Any] = {}
    lists: dict[tuple[str, ...], Any] = {}
    fields, is_deep = 0, False
    name_of, shorten, is_json = (
        self._normalize_identifier, self._shorten_fragments, self._is_nested_type,
    )  # fmt: skip
    todo: list[tuple[Any, int, tuple[str, ...]]] = [(dict_row, _r_lvl, ())]
    while todo:
        current, level, path = todo.pop()
        fields += len(current)
        for key, value in current.items():
            name = name_of(key) if key and not key.isspace() else self.EMPTY_KEY_IDENTIFIER
            column = name if not path else shorten(*path, name)
            kind = type(value)
            if kind is dict:
                if not is_json(table, column, level):
                    fields -= 1
                    todo.append((value, level - 1, (*path, name)))
                    continue
            elif kind is list and not is_json(table, column, level):
                lists[*path, self._normalize_table_identifier(key)] = value
                is_deep |= path != ()
                continue
            columns[column] = value
    # Two lists of other paths may still have one table: `a__b`, and `b` in `a`.
    tables = len({shorten(*p) for p in lists}) if is_deep else len(lists)
    if len(columns) + tables < fields:
        goals = _find_goals(self, table, dict_row, _r_lvl)
        shared, sharing = min((goal, sorted(f)) for goal, f in goals.items() if len(f) > 1)
        what = f"{' and '.join(sharing)} of one row would go there, and only the last would be kept"
        raise CollisionError(shared, what, dict_row)
    if not columns.keys().isdisjoint(own[table]):
        taken = f"{table}.{min(columns.keys() & own[table])}"
        [field] = _find_goals(self, table, dict_row, _r_lvl)[taken]
        raise CollisionError(taken, f"{field} would go there, and dlt fills this column", dict_row)
    for place in lists if roots else ():
        child = shorten(table, *place)
        if child in roots and _resource(self, child) != _resource(self, table):
            what = f"a nested list of {table} would go to a table that belongs to a resource"
            raise CollisionError(child, what, dict_row)
    return columns, lists


def _resource(normalizer: DataItemNormalizer, table: str) -> str | None:
    """Whose rows a table holds; a list that hints made a root table stays with its resource."""
    tables = normalizer.schema.tables
    return get_root_table(tables, table).get("resource") if table in tables else None


def _find_goals(
    normalizer: DataItemNormalizer, table: str, row: Any, level: int
) -> dict[str, list[str]]:
    """Columns and tables that a row's fields go to, with the fields' JSON paths."""
    custom_pua_decode_nested(row)
    places: dict[str, list[str]] = defaultdict(list)
    todo: list[tuple[Any, int, tuple[str, ...], str]] = [(row, level, (), "$")]
    while todo:
        current, level, path, base = todo.pop()
        for key, value in current.items():
            name = normalizer.EMPTY_KEY_IDENTIFIER
            if key and not key.isspace():
                name = normalizer._normalize_identifier(key)
            column, field = normalizer._shorten_fragments(*path, name), base + as_json_path(key)
            if not isinstance(value, dict | list) or normalizer._is_nested_type(
                table, column, level
            ):
                places[f"{table}.{column}"].append(field)
            elif isinstance(value, dict):
                todo.append((value, level - 1, (*path, name), field))
            else:
                ending = normalizer._normalize_table_identifier(key)
                places[normalizer._shorten_fragments(table, *path, ending)].append(field)
    return places
