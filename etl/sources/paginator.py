"""A guard around any paginator of dlt's: no endless chain, no repeated page, none passed over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    BaseReferencePaginator,
    PageNumberPaginator,
    RangePaginator,
    SinglePagePaginator,
)
from requests import Request, Response

from etl.errors import ExtractError
from etl.raw.places import Place, mark_place
from etl.secrets import safe_url
from etl.sources.answers import (
    BEFORE_HINT,
    COUNTED_HINT,
    GRAPHQL_HINT,
    GUESSED_HINT,
    MORE_HINT,
    UNSEEN_HINT,
    counts_from_zero,
    graphql_errors,
    more_than,
    next_page,
    page_before,
)
from etl.sources.bodies import may_hold_marks
from etl.sources.monitor import Monitor
from etl.sources.row_place import RowPlace
from etl.sources.totals import HINT, UNREADABLE_HINT, Totals

# What dlt's paginators raise of a total, a cursor or a link that is none.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)
ONE_PAGE_HINT = (
    "a `path` that ends with a placeholder is one thing to dlt, which asks for one page: name the "
    "`paginator` of this endpoint itself, or `single_page`"
)
CHANGED_HINT = "the API or the pagination settings changed: compare the URL's answer with them"
REPEATS_HINT = (
    "an API that gives its last cursor for ever ends with an empty page: "
    "`stop_after_empty_page: true` of the `paginator`"
)


class GuardedPaginator(BasePaginator):
    """Any paginator of dlt's, watched: what it brings is counted, a broken chain is an error.

    dlt copies the paginator for each chain, so its state belongs to one cursor chain.
    """

    def __init__(
        self,
        inner: BasePaginator | None,
        monitor: Monitor,
        resource: str,
        selector: jsonpath.TJsonPath | None,
        detect: Callable[[Response], BasePaginator],
        passed_over: BasePaginator | None = None,
    ) -> None:
        super().__init__()
        self._passed_over = passed_over
        self._inner = inner
        self._is_named = inner is not None
        self._monitor = monitor
        self._resource = resource
        self._place = RowPlace(monitor, resource, selector)
        self._detect = detect
        self._seen: set[str] = set()
        self._chain_pages = 0
        self._number = 0
        self._empty = 0
        self._url = ""
        self._last_page = 0
        self._totals = Totals()
        self.copied: frozenset[str] = frozenset()
        """Fields that rows get of their parent's."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardedPaginator:
        copied = GuardedPaginator(
            copy.deepcopy(self._inner), self._monitor, self._resource, self._place.selector,
            self._detect, self._passed_over,
        )  # fmt: skip
        copied.copied = self.copied
        return copied

    @property
    def has_next_page(self) -> bool:
        """As the watched paginator says."""
        return self._inner is None or _goes_on(self._inner)

    def init_request(self, request: Request) -> None:
        """First request of a chain."""
        self._monitor.check_stop()
        if self._inner is not None:
            self._inner.init_request(request)
        self._seen = {_fingerprint(request)}
        self._mark(request)

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Look at a page, then let the watched paginator decide.

        Raises:
            ExtractError: the page has no such field or no list where others have one, it repeats
                the one before, its pagination is unreadable, or there are too many, too many empty
                ones, or other rows than the API says.
        """
        self._monitor.check_stop()
        self._url = safe_url(response.url)
        self._monitor.has_marks |= may_hold_marks(response.content)
        rows = len(data or [])
        self._chain_pages += 1
        self._number = self._monitor.count_page(
            self._resource, rows, chain=self._chain_pages, url=self._url
        )
        self._check_page(response, data or [])
        self._decide(response, data)
        self._check_chain(response, rows)

    def _check_page(self, response: Response, rows: list[Any]) -> None:
        """What came has to be whole, where it was before, and another page than the last one."""
        answer = response.json()
        if errors := graphql_errors(response, answer):
            raise self._broken(f"beside its rows the answer names errors: {errors}", GRAPHQL_HINT)
        if fault := self._place.look(answer, len(rows)):
            raise self._broken(*fault)
        self._check_copied(rows)
        if self._is_first() and (key := page_before(response, answer, self._place.rows)):
            raise self._broken(f"`{key}` says that there is a page before the first", BEFORE_HINT)
        # By number pages may be told apart by what stands around the same rows: number, time, id.
        numbered = isinstance(self._inner, RangePaginator)
        page = hash(repr(rows) if numbered else response.content)
        if rows and self._chain_pages > 1 and page == self._last_page:
            raise self._broken("the page is the same as the one before")
        self._last_page = page

    def _is_first(self) -> bool:
        """Whether this page is meant to be the first of all: settings may begin behind it."""
        inner = self._inner
        return (
            self._chain_pages == 1
            and isinstance(inner, RangePaginator)
            and inner.initial_value == inner.base_index
        )

    def _decide(self, response: Response, data: list[Any] | None) -> None:
        """Let the watched paginator find the next page; dlt's guess, where none is named."""
        is_list, is_guess = self._place.rows is not None, self._inner is None
        if self._inner is None:
            self._inner = self._detect(response)
            if data and is_list and isinstance(self._inner, SinglePagePaginator):
                self._monitor.unpaged.add(self._resource)
        try:
            self._inner.update_state(response, data)
        except UNREADABLE as e:
            hint = UNREADABLE_HINT if isinstance(self._inner, RangePaginator) else ""
            raise self._broken(f"its pagination is unreadable: {type(e).__name__}", hint) from e
        # dlt counts from 0, and the first page came without a number: 1 may be the same one again.
        is_counted = is_guess and isinstance(self._inner, PageNumberPaginator)
        if is_counted and self.has_next_page and not counts_from_zero(response.json()):
            raise self._broken("dlt guessed that pages are counted from 0", COUNTED_HINT)
        if is_list and _leads_on(self._passed_over, response, data):
            raise self._broken("there are more pages, and one is read", ONE_PAGE_HINT)

    def _check_chain(self, response: Response, rows: int) -> None:
        """Where it ends, all pages have to be there; where it goes on, not too many."""
        answer = response.json()
        self._totals.add(self._inner, answer, rows)
        self._empty = self._empty + 1 if rows == 0 else 0
        if self.has_next_page:
            guards = self._monitor.settings.guards
            if self._chain_pages >= guards.max_pages:
                raise self._broken(f"more than {guards.max_pages} pages (guards.max_pages)")
            if self._empty >= guards.max_empty_pages:
                raise self._broken(f"{self._empty} empty pages in a row")
            return
        lack = "" if self._place.looks_into_rows else self._totals.lack(self._inner)
        if lack:
            raise self._broken(lack, HINT)
        if self._found_no_way(rows):
            self._check_end(response, answer)

    def _check_end(self, response: Response, answer: Any) -> None:
        """An end that nobody named must not be one where the answer says that there is more."""
        listed = self._place.rows
        if key := next_page(response, answer, listed):
            raise self._broken(
                f"`{key}` says that there are more, and the paginator finds no way to them",
                UNSEEN_HINT,
            )
        is_one = isinstance(self._inner, SinglePagePaginator) and bool(listed)
        if is_one and (key := more_than(response, answer, listed)):
            raise self._broken(f"`{key}` says that there are more, and one page is read", MORE_HINT)

    def _found_no_way(self, rows: int) -> bool:
        """Whether the chain ends for lack of a way on, and not because the API said so."""
        if isinstance(self._inner, SinglePagePaginator):
            return not self._is_named
        told = getattr(self._inner, "has_more_path", None) or (
            rows == 0 and getattr(self._inner, "stop_after_empty_page", False)
        )
        return isinstance(self._inner, BaseReferencePaginator) and not told

    def _check_copied(self, rows: list[Any]) -> None:
        """What `include_from_parent` puts into rows must not be there: dlt would overwrite it."""
        for row in rows if self.copied else ():
            if not isinstance(row, dict):
                raise self._broken("rows that get fields of their parent are no objects")
            if taken := sorted(self.copied & row.keys()):
                raise self._broken(
                    f"rows have a field `{taken[0]}` of their own, and `include_from_parent` would "
                    "overwrite it",
                    "`processing_steps` of the parent can give its field another name",
                )

    def update_request(self, request: Request) -> None:
        """Next request of the chain.

        Raises:
            ExtractError: it is one that this chain has already made (a cursor that repeats).
        """
        if self._inner is not None:
            try:
                self._inner.update_request(request)
            except UNREADABLE as e:
                raise self._broken(f"its pagination is unreadable: {type(e).__name__}") from e
        if not self.has_next_page:
            return
        fingerprint = _fingerprint(request)
        if fingerprint in self._seen:
            what = "the cursor repeats: its next page is one that was read before"
            raise self._broken(what, "" if self._empty == 0 else REPEATS_HINT)
        self._seen.add(fingerprint)
        self._mark(request)

    def _mark(self, request: Request) -> None:
        is_promised = self._chain_pages > 0 and (
            isinstance(self._inner, BaseReferencePaginator) or _tells_more(self._inner)
        )
        page = self._monitor.pages[self._resource] + 1
        mark_place(request, Place(self._resource, page, is_promised))

    def _broken(self, what: str, hint: str = "") -> ExtractError:
        subject = f"{self._monitor.source}.{self._resource}"
        return ExtractError(
            f"{subject}, page {self._number}: {what} ({self._url})",
            subject=subject,
            hint=hint or (CHANGED_HINT if self._is_named else GUESSED_HINT),
        )


def _goes_on(paginator: BasePaginator) -> bool:
    """An empty link or cursor leads nowhere."""
    if isinstance(paginator, BaseReferencePaginator) and not paginator._next_reference:
        return False
    return paginator.has_next_page


def _tells_more(paginator: BasePaginator | None) -> bool:
    """True when pages by number tell whether there are more."""
    return isinstance(paginator, RangePaginator) and bool(
        paginator.total_path or paginator.has_more_path
    )


def _leads_on(paginator: BasePaginator | None, response: Response, data: list[Any] | None) -> bool:
    """Whether another paginator would go on after this answer; one that cannot tell does not."""
    if isinstance(paginator, RangePaginator) and not _tells_more(paginator):
        return False
    trial = copy.deepcopy(paginator)
    with suppress(*UNREADABLE):
        if trial is not None:
            trial.update_state(response, data)
            return _goes_on(trial)
    return False


def _fingerprint(request: Request) -> str:
    """What makes two requests of a chain the same: address, parameters, body."""
    return repr((request.url, sorted((request.params or {}).items(), key=str), request.json,
                 request.data))  # fmt: skip
