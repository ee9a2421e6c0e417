"""Refuses rows that have two fields for one column, where dlt would keep one and say nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any

from dlt.common.json import custom_pua_decode_nested
from dlt.common.normalizers.json.relational import DataItemNormalizer

from etl.api_fields import as_json_path
from etl.errors import SchemaError
from etl.raw.contracts import mask_row
from etl.settings import dataset_name

Flat = tuple[dict[str, Any], dict[tuple[str, ...], Any]]


class CollisionError(Exception):
    """A row has several fields (JSON paths in it) for one column, or for one nested table."""

    def __init__(self, place: str, fields: list[str], row: Mapping[str, Any]) -> None:
        super().__init__(place)
        self.place = place
        self.fields = fields
        self.row = row


def refuse_collisions(normalizer: object) -> None:
    """Let a normalizer of dlt's refuse rows in which it would overwrite a field with another.

    This is where all rows pass, at any depth, under the names that they will have.
    """
    if isinstance(normalizer, DataItemNormalizer):
        # Its class is dlt's default in every schema that is stored: this one is changed instead.
        vars(normalizer)["_flatten"] = MethodType(_flatten, normalizer)


def describe_collision(error: BaseException, source: str, pii: Iterable[str]) -> SchemaError | None:
    """The failure for fields that share a place; None for any other error.

    `sample` holds the row, masked. Of an Arrow table dlt itself says that columns share a name.
    """
    from dlt.common.libs.pyarrow import NameNormalizationCollision

    hint = "nothing was committed; read the source by a `factory` that renames or drops one of them"
    if isinstance(error, NameNormalizationCollision):
        text = " ".join(str(error).split())[:500]
        return SchemaError(f"{dataset_name(source)}: {text}", subject=source, hint=hint)
    if not isinstance(error, CollisionError):
        return None
    found = SchemaError(
        f"{dataset_name(source)}.{error.place}: {' and '.join(error.fields)} of one row would go "
        "there, and only the last would be kept",
        subject=source,
        hint=f"{hint}; the row is in run.json → failures → sample; the package is kept in "
        "data/quarantine",
    )
    found.sample = (mask_row(error.row, pii),)
    return found


def _flatten(self: DataItemNormalizer, table: str, dict_row: Any, _r_lvl: int) -> Flat:
    """A row's columns and lists, as dlt's method of this name gives them (a test compares the two).

    dlt's does not tell what it overwrites, and to walk through the row again would cost as much as
    the first time.

    Raises:
        CollisionError: the row has more fields than places for them.
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
        custom_pua_decode_nested(dict_row)
        place, found = _find_shared(self, table, dict_row, _r_lvl)
        raise CollisionError(place, found, dict_row)
    return columns, lists


def _find_shared(
    normalizer: DataItemNormalizer, table: str, row: Any, level: int
) -> tuple[str, list[str]]:
    """The first place that several fields of a row have, and their JSON paths in the row."""
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
    return min((place, sorted(fields)) for place, fields in places.items() if len(fields) > 1)
