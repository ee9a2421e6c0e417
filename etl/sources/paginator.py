"""A guard around any paginator of dlt's: no endless chain, no repeated page, no missing field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import find_response_page_data
from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    BaseReferencePaginator,
    RangePaginator,
    SinglePagePaginator,
)
from requests import Request, Response

from etl.errors import ExtractError
from etl.raw.places import Place, mark_place
from etl.secrets import safe_url
from etl.sources.answers import (
    EMPTY_HINT,
    GRAPHQL_HINT,
    UNSEEN_HINT,
    graphql_errors,
    next_page,
    says_error,
)
from etl.sources.monitor import Monitor
from etl.sources.totals import HINT, UNREADABLE_HINT, Totals

# What dlt's paginators raise of a total, a cursor or a link that is none.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)
ONE_PAGE_HINT = (
    "a `path` that ends with a placeholder is one thing to dlt, which asks for one page: name the "
    "`paginator` of this endpoint itself, or `single_page`"
)
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
        self._monitor = monitor
        self._resource = resource
        self._selector = jsonpath.compile_path(selector) if selector else None
        self._detect = detect
        self._seen: set[str] = set()
        self._chain_pages = 0
        self._empty = 0
        self._url = ""
        self._list: Any = None
        self._last_page = 0
        self._totals = Totals()
        self.copied: frozenset[str] = frozenset()
        """Fields that rows get of their parent's."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardedPaginator:
        copied = GuardedPaginator(
            copy.deepcopy(self._inner), self._monitor, self._resource, self._selector,
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
        rows = len(data or [])
        self._chain_pages += 1
        number = self._monitor.count_page(
            self._resource, rows, chain=self._chain_pages, url=self._url
        )
        if errors := graphql_errors(response, response.json()):
            what = f"beside its rows the answer names errors: {errors}"
            raise self._broken(number, what, GRAPHQL_HINT)
        self._check_place(number, response.json(), rows)
        self._check_copied(number, data or [])
        # By number pages may be told apart by what stands around the same rows: number, time, id.
        numbered = isinstance(self._inner, RangePaginator)
        page = hash(repr(data) if numbered else response.content)
        if rows and self._chain_pages > 1 and page == self._last_page:
            raise self._broken(number, "the page is the same as the one before")
        self._last_page = page
        unnamed = self._inner is None
        if self._inner is None:
            self._inner = self._detect(response)
            if rows and self._list is not None and isinstance(self._inner, SinglePagePaginator):
                self._monitor.unpaged.add(self._resource)
        try:
            self._inner.update_state(response, data)
        except UNREADABLE as e:
            hint = UNREADABLE_HINT if isinstance(self._inner, RangePaginator) else ""
            what = f"its pagination is unreadable: {type(e).__name__}"
            raise self._broken(number, what, hint) from e
        if self._list is not None and _leads_on(self._passed_over, response, data):
            raise self._broken(number, "there are more pages, and one is read", ONE_PAGE_HINT)
        self._totals.add(self._inner, response.json(), rows)
        # A selector that looks into rows finds another number of them.
        ended = not self.has_next_page and "*" not in str(self._selector)
        if ended and (lack := self._totals.lack(self._inner)):
            raise self._broken(number, lack, HINT)
        if self._is_lost(rows, unnamed) and (key := next_page(response.json(), self._list)):
            what = f"`{key}` says that there are more, and the paginator finds no way to them"
            raise self._broken(number, what, UNSEEN_HINT)
        guards = self._monitor.settings.guards
        self._empty = self._empty + 1 if rows == 0 else 0
        if self.has_next_page:
            if self._chain_pages >= guards.max_pages:
                raise self._broken(number, f"more than {guards.max_pages} pages (guards.max_pages)")
            if self._empty >= guards.max_empty_pages:
                raise self._broken(number, f"{self._empty} empty pages in a row")

    def _is_lost(self, rows: int, unnamed: bool) -> bool:
        """Whether the chain ends because no way on was found, and not because the API said so."""
        if self.has_next_page:
            return False
        if isinstance(self._inner, SinglePagePaginator):
            return unnamed
        told = getattr(self._inner, "has_more_path", None) or (
            rows == 0 and getattr(self._inner, "stop_after_empty_page", False)
        )
        return isinstance(self._inner, BaseReferencePaginator) and not told

    def _check_place(self, number: int, answer: Any, rows: int) -> None:
        """Rows have to be where they were on the pages before, and in the run before."""
        base = find_base(answer, self._selector)
        monitor, resource = self._monitor, self._resource
        earlier = monitor.bases.get(resource) or monitor.earlier_bases.get(resource)
        if self._selector is None:
            # dlt guesses where rows are on the first page of a chain. What it finds in an error's
            # JSON are no rows of the resource.
            if earlier is not None and base != earlier:
                raise self._broken(
                    number,
                    f"rows were at `{earlier}` before, now dlt finds them at `{base}`",
                    "if this is no error of the API, name the `data_selector` of the resource",
                )
            self._selector = jsonpath.compile_path(base.removesuffix("[*]"))
        if rows:
            monitor.bases.setdefault(resource, base)
        found = self._selector.find(answer)
        if rows == 0 and (found[0].value is None if found else not self._is_emptied(answer)):
            if monitor.settings.guards.omits_empty and not says_error(answer):
                return
            raise self._broken(number, f"the page has no field `{self._selector}`", EMPTY_HINT)
        # What is no list is a row to dlt, and an error's JSON none of the resource.
        if earlier == f"{base}[*]":
            raise self._broken(number, "the answer is no list as before")
        if len(found) > 1 and any(isinstance(one.value, list) for one in found):
            what = f"`{self._selector}` finds {len(found)} places and lists in them, where rows are"
            raise self._broken(
                number, what, "let `data_selector` find rows, or one list: `a[*].rows[*]`"
            )
        if len(found) == 1:
            is_list = isinstance(found[0].value, list)
            if not isinstance(found[0].value, list | dict) and "*" not in str(self._selector):
                raise self._broken(number, f"`{self._selector}` holds no rows and no list of them")
            if self._list is not None and not is_list:
                raise self._broken(number, f"`{self._selector}` is no list as on the page before")
            self._list = found[0].value if is_list else None

    def _is_emptied(self, answer: Any) -> bool:
        """True where a selector of a list's items finds none, for the list is empty."""
        before, mark, _ = str(self._selector).partition("*")
        found = jsonpath.compile_path(before.rstrip(".[") or "$").find(answer) if mark else []
        return any(one.value == [] for one in found)

    def _check_copied(self, number: int, rows: list[Any]) -> None:
        """What `include_from_parent` puts into rows must not be there: dlt would overwrite it."""
        for row in rows if self.copied else ():
            if not isinstance(row, dict):
                raise self._broken(number, "rows that get fields of their parent are no objects")
            if taken := sorted(self.copied & row.keys()):
                raise self._broken(
                    number,
                    f"rows have a field `{taken[0]}` of their own, and `include_from_parent` would "
                    "overwrite it",
                    "`processing_steps` of the parent can give its field another name",
                )

    def update_request(self, request: Request) -> None:
        """Next request of the chain.

        Raises:
            ExtractError: it is one that this chain has already made (a cursor that repeats).
        """
        number = self._monitor.pages[self._resource]
        if self._inner is not None:
            try:
                self._inner.update_request(request)
            except UNREADABLE as e:
                what = f"its pagination is unreadable: {type(e).__name__}"
                raise self._broken(number, what) from e
        if not self.has_next_page:
            return
        fingerprint = _fingerprint(request)
        if fingerprint in self._seen:
            what = "the cursor repeats: its next page is one that was read before"
            raise self._broken(number, what, "" if self._empty == 0 else REPEATS_HINT)
        self._seen.add(fingerprint)
        self._mark(request)

    def _mark(self, request: Request) -> None:
        is_promised = self._chain_pages > 0 and (
            isinstance(self._inner, BaseReferencePaginator) or _tells_more(self._inner)
        )
        page = self._monitor.pages[self._resource] + 1
        mark_place(request, Place(self._resource, page, is_promised))

    def _broken(self, page: int, what: str, hint: str = "") -> ExtractError:
        subject = f"{self._monitor.source}.{self._resource}"
        return ExtractError(
            f"{subject}, page {page}: {what} ({self._url})",
            subject=subject,
            hint=hint
            or "the API or the pagination settings changed: compare the URL's answer with them",
        )


def find_base(answer: Any, selector: Any) -> str:
    """The JSON path of a row in an answer that has some, as dlt looks for rows.

    Without a selector dlt takes the list that looks most like rows, or the answer itself.
    """
    if selector is None:
        path, rows = find_response_page_data(answer)
        text = ".".join(path)
    else:
        found = selector.find(answer)
        rows = found[0].value if len(found) == 1 else None
        text = str(selector).replace(".*", "[*]").replace(".[", "[")
    base = text if text.startswith("$") else f"$.{text}"
    return f"{base}[*]" if isinstance(rows, list) else base


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
