"""Holds the rows of a chain by offset or page number against what the API says there is.

dlt takes an empty page for the last one, steps by the `limit` that it asked for whatever the API
gave, and stops where the total says: each leaves rows out without a word when the API is wrong.
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
        self._followed: list[int] = []
        self._last = 0

    def add(self, inner: BasePaginator | None, answer: Any, rows: int) -> None:
        """A page, after dlt looked at it."""
        if not isinstance(inner, RangePaginator):
            return
        if rows and self._last:
            self._followed.append(self._last)
        self._rows, self._last = self._rows + rows, rows
        found = jsonpath.find_values(inner.total_path, answer) if inner.total_path else []
        with suppress(ValueError, TypeError, LookupError):  # an empty page may tell none
            self._total = int(found[0])

    def lack(self, inner: BasePaginator | None) -> str:
        """What is wrong with the chain, which is at its end; nothing when it is whole.

        `stop_after_empty_page: false` says that pages may lack rows, and asks for no judgement.
        """
        if (
            not isinstance(inner, RangePaginator)
            or not inner.stop_after_empty_page
            or (inner.maximum_value is not None and inner.current_value >= inner.maximum_value)
        ):
            return ""
        told, rows = self._total, self._rows
        if isinstance(inner, OffsetPaginator):
            if told is not None and not told - inner.initial_value <= rows <= told:
                return f"the pages brought {rows} rows, and `{inner.total_path}` says {told}"
            short = set(self._followed)
            if len(self._followed) > 1 and len(short) == 1 and max(short) < inner.limit:
                return f"every page brought {max(short)} rows, and dlt steps by {inner.limit}"
        elif (
            told not in {None, rows}
            and self._last == 0
            and inner.current_value + 1 < (told or 0) + inner.base_index
        ):
            return f"the page is empty, and `{inner.total_path}` says {told}"
        return ""


UNREADABLE_HINT = (
    "is `total_path` or `has_more_path` where the API has it? `total_path: null` of the paginator "
    "reads until a page is empty"
)
HINT = (
    "did the API break off, or rows come and go meanwhile? then run again; does it give fewer rows "
    "a page than `limit` asks for? lower it; is its total wrong? `total_path: null` of the "
    "paginator reads until a page is empty"
)
