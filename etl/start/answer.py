"""One answer of an API, what its fields are usually called, and what is proposed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOTAL_PAGES = {
    "total_pages", "pages", "page_count", "last_page", "num_pages", "pages_total", "total_page",
    "totalpages", "nb_pages", "pages_count",
}  # fmt: skip
PAGE = {"page", "current_page", "page_number", "page_no", "page_num", "page_index", "number", "p"}
OFFSET = {"offset", "skip", "start", "start_at", "start_index", "from"}
TOTAL = {
    "total", "total_count", "total_results", "total_items", "total_records", "total_elements",
    "total_hits", "record_count", "count", "num_found", "total_rows",
}  # fmt: skip
MORE = {"has_more", "has_next", "has_next_page", "more", "more_results", "more_items"}
CURSOR = {
    "cursor", "end_cursor", "after", "scroll_id", "bookmark", "continuation", "continuation_token",
    "pagination_token", "paging_token",
}  # fmt: skip
TOTAL_HEADERS = ("x-total-count", "x-total", "x-wp-total", "total-count")


@dataclass(frozen=True)
class Answer:
    """One answer of an API.

    `params` are those of its request, `links` the URLs of its Link header by relation, `headers`
    have lower-case names. No credentials are in it.
    """

    url: str
    body: Any
    params: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paging:
    """A paginator as dlt's configuration names it, and the evidence.

    `sure` is False when it is a proposal to look at. `incomplete` says that there is more than this
    page and nothing shows the way to it. `takes` are the parameters of the request that the
    paginator sets itself, `others` further proposals.
    """

    settings: dict[str, Any] | str
    evidence: str
    sure: bool = True
    incomplete: bool = False
    takes: frozenset[str] = frozenset()
    others: tuple[dict[str, Any] | str, ...] = ()
