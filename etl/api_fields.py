"""Where raw columns come from: JSON paths of an API's fields, seen as pages pass, kept on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl.runs import write_atomically
from etl.settings import Settings, dataset_name

# Looking at every row would cost some percent of an extraction: so many rows of a resource are
# looked at in depth, after them one in SAMPLE, and every one with top-level keys that are new.
FULL_ROWS = 1000
SAMPLE = 16
MAX_SHAPES = 2000
PLAIN_KEY = re.compile(r"[^\W\d]\w*")
ROWS = "*"  # in place of a column: where the table's rows come from
DLT_COLUMNS = {
    "_dlt_id": "dlt's id of the row",
    "_dlt_load_id": "dlt's load package that brought the row",
    "_dlt_parent_id": "dlt's id of the parent row",
    "_dlt_root_id": "dlt's id of the root row",
    "_dlt_list_idx": "position in the parent's list, from 0",
    "_dlt_valid_from": "since when dlt has seen this version of the row",
    "_dlt_valid_to": "when dlt saw that this version of the row was gone",
}

Step = str | None  # a key, or None for the items of a list


@dataclass(frozen=True)
class ApiField:
    """A field of an API: who is asked, and the JSON path in the answer; or a note in its place."""

    endpoint: str = ""
    path: str = ""
    note: str = ""


@dataclass
class FieldPaths:
    """The key paths in the rows of one resource.

    `base` is the JSON path of a row in the answer, `added` are keys that the job writes into the
    rows, `copied` fields that dlt copies from the parent resource's row.
    """

    table: str
    endpoint: str
    added: Mapping[str, str] = field(default_factory=dict)
    copied: tuple[str, ...] = ()
    base: str = "$"
    paths: set[tuple[Step, ...]] = field(default_factory=set)
    _shapes: set[Any] = field(default_factory=set)
    _keys: set[tuple[str, ...]] = field(default_factory=set)
    _rows: int = 0

    def note(self, rows: Iterable[Any]) -> None:
        """Look at the rows of a page."""
        for row in rows:
            if row.__class__ is not dict:
                continue
            self._rows += 1
            keys = tuple(row)
            is_new = keys not in self._keys and len(self._keys) < MAX_SHAPES
            if is_new or self._rows <= FULL_ROWS or not self._rows % SAMPLE:
                self._keys.add(keys)
                shape = _shape(row)
                if shape not in self._shapes:
                    self._walk(row, ())
                    if len(self._shapes) < MAX_SHAPES:
                        self._shapes.add(shape)

    def note_names(self, names: Iterable[str]) -> None:
        """Look at the columns of an Arrow table."""
        self.paths.update((name,) for name in names)

    def _walk(self, value: Any, path: tuple[Step, ...]) -> None:
        self.paths.add(path)
        if isinstance(value, dict):
            for key, inner in value.items():
                self._walk(inner, (*path, str(key)))
        elif isinstance(value, list):
            for item in value:
                self._walk(item, (*path, None))

    def field_of(self, path: tuple[Step, ...]) -> ApiField:
        """What a path stands for."""
        first = path[0] if path else None
        if first is not None and first.startswith("_"):
            for name in self.copied:
                if first.endswith(f"_{name}"):
                    return ApiField(note=f"`{name}` of the parent resource's row")
        return ApiField(self.endpoint, self.base + "".join(map(as_json_path, path)))


def _shape(value: Any) -> Any:
    """The keys of a value, at all depths; equal for values that dlt puts into the same columns."""
    if value.__class__ is dict:
        inner = [
            (k, _shape(v)) for k, v in value.items() if v.__class__ is dict or v.__class__ is list
        ]
        return (*value, *inner) if inner else tuple(value)
    if value.__class__ is list:
        return frozenset([_shape(v) for v in value])
    return None


def as_json_path(step: Step) -> str:
    """A step as it is written in a JSON path."""
    if step is None:
        return "[*]"
    if PLAIN_KEY.fullmatch(step):
        return f".{step}"
    return "['" + step.replace("\\", "\\\\").replace("'", "\\'") + "']"


# -- the file ------------------------------------------------------------------------------------

Tables = dict[str, dict[str, list[ApiField]]]
"""The fields behind the columns of raw, by table and column."""


def _file(settings: Settings, source: str) -> Path:
    return settings.dlt_dir / source / "fields.json"


def save_fields(settings: Settings, source: str, found: Tables) -> None:
    """Add to what earlier runs found; a field keeps its place when it is seen again.

    Raises:
        ResourcesError: the disk is full or the folder is not writable.
    """
    known = load_fields(settings, source)
    merged: Tables = {t: {c: list(fields) for c, fields in cs.items()} for t, cs in known.items()}
    for table, columns in found.items():
        for column, fields in columns.items():
            kept = merged.setdefault(table, {}).setdefault(column, [])
            kept += [f for f in fields if f not in kept]
    if merged != known:
        tree = {
            t: {c: [[f.endpoint, f.path, f.note] for f in fields] for c, fields in cs.items()}
            for t, cs in sorted(merged.items())
        }
        text = json.dumps({"version": 1, "tables": tree}, indent=1, ensure_ascii=False)
        write_atomically(_file(settings, source), text + "\n")


def load_fields(settings: Settings, source: str) -> Tables:
    """What was found so far, by raw table and column; nothing before the first extraction."""
    try:
        tree = json.loads(_file(settings, source).read_text(encoding="utf-8"))
        return {
            table: {c: [ApiField(*map(str, f)) for f in fields] for c, fields in columns.items()}
            for table, columns in tree["tables"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


class ApiFields:
    """The API's fields of every raw table: of the sources in the settings, and of those that
    another profile has extracted.
    """

    def __init__(self, settings: Settings) -> None:
        extracted = {file.parent.name for file in settings.dlt_dir.glob("*/fields.json")}
        self._datasets = {
            dataset_name(source): load_fields(settings, source)
            for source in sorted({*settings.sources, *extracted})
        }

    @property
    def datasets(self) -> set[str]:
        """The raw schemas that sources are loaded into."""
        return set(self._datasets)

    @property
    def tables(self) -> dict[str, list[str]]:
        """Every raw table that an API's rows went to, with its columns."""
        return {
            f"{dataset}.{table}": [c for c in columns if c != ROWS]
            for dataset, tables in self._datasets.items()
            for table, columns in tables.items()
        }

    def find(self, table: str, column: str) -> list[ApiField]:
        """Where a column comes from, None known: empty; a note for what dlt or the job adds."""
        dataset, _, name = table.partition(".")
        if dataset not in self._datasets:
            return []
        if name.startswith("_dlt"):
            return [ApiField(note="dlt's own table")]
        if column in DLT_COLUMNS:
            return [ApiField(note=DLT_COLUMNS[column])]
        columns = self._datasets[dataset].get(name, {})
        # A variant: dlt's column for values of another type than the first ones.
        return columns.get(column) or columns.get(re.sub(r"__v_\w+$", "", column), [])
