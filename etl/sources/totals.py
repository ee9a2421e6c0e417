"""Holds the rows of a chain of pages against what the API says there is.

dlt takes an empty page for the last one, steps by the `limit` that it asked for whatever the API
gave, and stops where the total says or a cursor is missing: each leaves rows out without a word
when the API or the settings are wrong.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    OffsetPaginator,
    RangePaginator,
)


class Totals:
    """What the pages of one chain brought, and the newest total that the API told."""

    def __init__(self) -> None:
        self._rows = 0
        self._total: int | None = None
        # How many rows each page had that another one followed, and how many such pages there were.
        self._sizes: set[int] = set()
        self._followed = 0
        self._last = 0
        self._more = False
        self._is_odd = False
        # Whether the page before the last one had fewer rows than those before it.
        self._is_cut = False

    def add(self, inner: BasePaginator | None, answer: Any, rows: int) -> None:
        """A page, after dlt looked at it."""
        self._more = str(_told(inner, "has_more_path", answer)).lower() == "true"
        if rows and self._last:
            self._sizes.add(self._last)
            self._followed += 1
        self._is_cut = 0 < self._last < max(self._sizes, default=0)
        self._rows, self._last = self._rows + rows, rows
        told = _told(inner, "total_path", answer)
        self._is_odd = isinstance(told, bool)
        with suppress(ValueError, TypeError):  # an empty page may tell none
            self._total = int(told)

    def lack(self, inner: BasePaginator | None) -> str:
        """What is wrong with the chain, which is at its end; nothing when it is whole.

        `stop_after_empty_page: false` says that pages may lack rows, and asks for no judgement.
        """
        if isinstance(inner, RangePaginator) and (
            inner.maximum_value is not None and inner.current_value >= inner.maximum_value
        ):
            return ""
        if self._more:
            return "there is more, the page says, and dlt finds no way to it"
        if not isinstance(inner, RangePaginator) or not inner.stop_after_empty_page:
            return ""
        told, rows = self._total, self._rows
        if self._is_odd or (rows and told is not None and told <= 0):
            says = "no number" if self._is_odd else told
            return f"the pages brought {rows} rows, and `{inner.total_path}` says {says}"
        if isinstance(inner, OffsetPaginator):
            if told is not None and not told - inner.initial_value <= rows <= told:
                return f"the pages brought {rows} rows, and `{inner.total_path}` says {told}"
            size = max(self._sizes, default=0)
            if self._followed > 1 and len(self._sizes) == 1 and size < inner.limit:
                return f"every page brought {size} rows, and dlt steps by {inner.limit}"
        elif (
            told not in {None, rows}
            and self._last == 0
            # The last page may be empty, where an API counts one more than it fills.
            and inner.current_value + (not self._is_cut) < (told or 0) + inner.base_index
        ):
            return f"the page is empty, and `{inner.total_path}` says {told}"
        return ""


def _told(inner: BasePaginator | None, name: str, answer: Any) -> Any:
    """What an answer has where the paginator's setting of this name points; None for nothing."""
    path = getattr(inner, name, None)
    return next(iter(jsonpath.find_values(path, answer)), None) if path else None


UNREADABLE_HINT = (
    "is `total_path` or `has_more_path` where the API has it? `total_path: null` of the paginator "
    "reads until a page is empty"
)
HINT = (
    "did the API break off, or rows come and go meanwhile? then run again; is `cursor_path` where "
    "it has the cursor, and `base_page` its first page's number? does it give fewer rows a page "
    "than `limit` asks for? lower it; is its total wrong? `total_path: null` of the paginator "
    "reads until a page is empty"
)
