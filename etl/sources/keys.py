"""Distinct keys of rows on their way to a table that has a primary key, counted where they pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dlt.extract import DltResource

from etl.raw.hints import root_hints

Key = tuple[str, ...]


class MergeKeys:
    """The keys of one table in one extraction: hashes of those to keep, texts of those to delete.

    It gives up, and then says nothing, when it cannot see what dlt will see: a key that is no
    field of the row (a nested one, one under another name), a deletion mark of another type than
    its column, a key that comes both to be kept and to be deleted (which one wins is dlt's choice).
    """

    def __init__(
        self,
        columns: Sequence[str],
        mark: str,
        *,
        is_bool: bool,
        is_upsert: bool,
        is_versioned: bool = False,
        is_merged: bool = True,
    ) -> None:
        self.columns = tuple(columns)
        self.is_merged = is_merged
        self.is_upsert = is_upsert
        # Several rows of a key are its versions, the settings say.
        self.is_versioned = is_versioned or bool(mark)
        self._mark = mark
        self._is_bool = is_bool
        self._kept: set[int] = set()
        self._deleted: dict[int, Key] = {}
        self._countable = bool(columns)
        self._adding = threading.Lock()

    @property
    def kept(self) -> int | None:
        """How many keys must stand in raw; None when it cannot be told."""
        if not self._countable or not self._deleted.keys().isdisjoint(self._kept):
            return None
        return len(self._kept)

    @property
    def distinct(self) -> int | None:
        """How many keys came, to be kept or to be deleted; None when it cannot be told."""
        return len(self._kept | self._deleted.keys()) if self._countable else None

    @property
    def deleted(self) -> list[Key]:
        """The keys that must not stand in raw any more, each value as text."""
        return list(self._deleted.values()) if self.kept is not None else []

    def give_up(self) -> None:
        """Count no more: the result would not be right."""
        with self._adding:
            self._countable = False
            self._kept, self._deleted = set(), {}

    def add_rows(self, rows: Sequence[Any]) -> None:
        """A page of rows."""
        if not self._countable:
            return
        try:
            values = [[row[c] for row in rows] for c in self.columns]
            marks = [row.get(self._mark) for row in rows] if self._mark else []
        except (KeyError, TypeError, AttributeError):
            self.give_up()
            return
        self._add(values, marks)

    def add_table(self, table: Any) -> None:
        """A page as an Arrow table or batch."""
        names = set(table.schema.names)
        if not names.issuperset(self.columns):
            self.give_up()
        if self._countable:
            marks = table.column(self._mark).to_pylist() if self._mark in names else []
            self._add([table.column(c).to_pylist() for c in self.columns], marks)

    def _add(self, values: list[list[Any]], marks: list[Any]) -> None:
        if any(None in column for column in values) or (
            self._is_bool and not all(m is None or isinstance(m, bool) for m in marks)
        ):
            self.give_up()
            return
        # As text: an API that sends 1 here and "1" there means one key, and so does raw.
        keys = [tuple(map(str, key)) for key in zip(*values, strict=True)]
        with self._adding:
            if not marks:
                self._kept.update(map(hash, keys))
            for key, mark in zip(keys, marks, strict=bool(marks)):
                if mark is None or mark is False:
                    self._kept.add(hash(key))
                else:
                    self._deleted[hash(key)] = key


def merge_keys(source: str, resource: DltResource) -> MergeKeys | None:
    """A counter for a resource that is merged by a primary key, or replaced; None for others.

    Raises:
        ConfigError: dlt does not accept the resource's hints.
    """
    table = root_hints(source, resource)
    if table is None:
        return None
    columns = table.get("columns", {})
    keys = [n for n, c in columns.items() if c.get("primary_key")]
    if table.get("write_disposition") not in {"merge", "replace"} or not keys:
        return None
    mark, hint = next(
        ((n, c) for n, c in columns.items() if c.get("hard_delete")), ("", {"data_type": "text"})
    )
    return MergeKeys(
        keys,
        mark,
        is_bool=hint.get("data_type") == "bool",
        is_upsert=table.get("x-merge-strategy") in {"upsert", "insert-only", "cdc"},
        is_versioned=any(c.get("dedup_sort") for c in columns.values()),
        is_merged=table.get("write_disposition") == "merge",
    )
