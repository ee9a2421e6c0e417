"""Incremental cursors: which of several is the newest, and where a run begins to read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from dlt.common import jsonpath
from dlt.extract import DltResource
from dlt.extract.incremental import Incremental, IncrementalResourceWrapper
from dlt.extract.items_transform import ItemTransform

from etl.errors import ExtractError

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_ISO_WITH_ZONE = re.compile(r"\d{4}-\d\d-\d\d[T ].*(Z|[+-]\d\d:?\d\d)")
# As in the headers of mails and HTTP (RFC 5322).
_MAIL_DATE = re.compile(r"[A-Z][a-z]{2}, \d.*")
_DAY_FIRST = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}\b.*")


def newest(cursors: Iterable[Any]) -> Any:
    """The newest of cursors, for dlt in place of `max`; of several that say the same the first.

    By their letters "10" is before "9", 01:30+01:00 before 02:30+02:00, and 00.5Z before 00Z: dlt
    would pass such rows over, for good. Texts that are not all numbers, or not all times with a
    zone, are compared by their letters.

    Raises:
        ExtractError: a date with its day or month first has no order as a text.
        TypeError: there is no order between them.
    """
    given = tuple(cursors)
    kinds = {type(_said(c)) for c in given}
    return max(given, key=_said) if len(kinds) == 1 else max(given)


def whole_row(item: Any) -> tuple[str, ...]:
    """All columns of a row, or of a table of Arrow's: by them a row of a merge is known again.

    By its key, as dlt has it, a changed row whose cursor value stayed (a date, say) would be taken
    for the one that was read before, and left out.
    """
    return tuple(getattr(item, "column_names", item))


def know_by_whole_rows(resource: DltResource) -> None:
    """Let a factory's resource know rows again as wholes, where its own cursor names no key."""
    if (cursor := resource.incremental) is not None:
        cursor.set_deduplication_key(whole_row, from_hints=True)
        # Whoever applies hints to the resource, as dlt does when it extracts, names its key again.
        vars(cursor)["set_deduplication_key"] = lambda *_, **__: None


def begin_once(resource: DltResource, given: Incremental[Any]) -> None:
    """Let a resource that is read for the rows of a parent begin where the last run ended.

    dlt begins anew for each page of the parent, where the rows of the page before it ended: rows
    of other parents that are older would be passed over.
    """
    resource.set_incremental(
        _BegunOnce(
            **dict(
                given,
                last_value_func=given.last_value_func,
                primary_key=given.primary_key,
                lag=given.lag,
            )
        )
    )


def bind_once(wrapper: IncrementalResourceWrapper) -> None:
    """`begin_once` for a transformer of a factory, whose cursor dlt makes when it is called."""

    begun: list[Incremental[Any]] = []

    def bind(pipe: Any) -> IncrementalResourceWrapper:
        if pipe is None and begun:  # called for another page of the parent, with another cursor
            vars(wrapper)["_incremental"] = begun[0]
            return wrapper
        IncrementalResourceWrapper.bind(wrapper, pipe)
        if type(cursor := wrapper.incremental) is Incremental:
            cursor.__class__ = _BegunOnce
            begun.append(cursor)
        return wrapper

    vars(wrapper)["bind"] = bind


class InOrder(ItemTransform[Any, Any]):
    """Holds rows to the `row_order` of their cursor: dlt reads no further than it, on its word.

    Raises:
        ExtractError: a row is out of this order, so others may never be read.
    """

    placement_affinity = 0.9  # before the cursor itself

    def __init__(self, cursor: Incremental[Any]) -> None:
        super().__init__(lambda item: item)
        self._path = jsonpath.compile_path(cursor.cursor_path)
        self._cursor = cursor
        self._first: Any = cursor.last_value_func
        self._last: Any = None

    def __call__(self, item: Any, meta: Any = None) -> Any:
        """A page of rows, or one row."""
        for row in item if isinstance(item, list) else [item]:
            value = next(iter(jsonpath.find_values(self._path, row)), None)
            if value is None:
                continue
            pair = (self._last, value)[:: 1 if self._cursor.row_order == "desc" else -1]
            if self._last is not None and self._first(pair) != pair[0]:
                raise ExtractError(
                    f"a row's `{self._cursor.cursor_path}` is {value} after {self._last}, and its "
                    f"`row_order` says {self._cursor.row_order}: rows would be passed over",
                    hint="let the API sort its rows so (`params`), or leave `row_order` out",
                )
            self._last = value
        return item


class _BegunOnce(Incremental[Any]):
    def bind(self, pipe: Any) -> Incremental[Any]:
        return self if vars(self).get("_cached_state") else super().bind(pipe)

    @property
    def last_value(self) -> Any:
        """What `start_param` asks for."""
        return self.start_value


def _said(cursor: Any) -> Any:
    return _read(cursor) if isinstance(cursor, str) else cursor


@lru_cache(1024)
def _read(text: str) -> Decimal | datetime | str:
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    try:
        if _ISO_WITH_ZONE.fullmatch(text):
            return datetime.fromisoformat(text)
        if _MAIL_DATE.fullmatch(text):
            found = parsedate_to_datetime(text)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        return text
    if _DAY_FIRST.fullmatch(text):
        raise ExtractError(
            f"an incremental cursor is {text}: as a text it has no order, for its year comes last",
            hint="`processing_steps` can write it as 2026-12-31; else read without `incremental`",
        )
    return text
