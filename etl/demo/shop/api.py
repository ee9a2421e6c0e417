"""The shop's REST API: resources cut into pages, by number or by Link headers (RFC 8288)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

import orjson

from etl.demo.shop.orders import encoded_orders
from etl.demo.shop.parties import Row, companies, countries, customers

PATH: Final = "/shop/v1/"
LARGEST_PAGE: Final = 250

_Encoded = tuple[tuple[str, bytes], ...]
"""Rows as (updated_at, JSON)."""


def _encoder(rows: Callable[[date], list[Row]]) -> Callable[[date], _Encoded]:
    @lru_cache(maxsize=64)
    def encoded(day: date) -> _Encoded:
        return tuple((str(row["updated_at"]), orjson.dumps(row)) for row in rows(day))

    return encoded


_ROWS: Final[Mapping[str, Callable[[date], _Encoded]]] = {
    "countries": _encoder(countries),
    "companies": _encoder(companies),
    "customers": _encoder(customers),
    "orders": encoded_orders,
}
RESOURCES: Final = tuple(_ROWS)
INCREMENTAL: Final = ("customers", "orders")
"""What takes `updated_since`, an instant: rows that changed then or later, in order of change."""
LINKED: Final = ("orders",)
"""What tells the next page in a Link header; the others tell `total_pages` in the body."""


@dataclass(frozen=True)
class ShopPage:
    """A page before encoding; `next_url` None is the end of a linked resource."""

    rows: Sequence[bytes]
    number: int
    total_pages: int | None
    url: str
    linked: bool = False
    next_url: str | None = None
    list_field: str = field(default="data", init=False)
    first_field: str = field(default="updated_at", init=False)

    def encode(self) -> bytes:
        """The response body, UTF-8."""
        head = b'{"data":[' + b",".join(self.rows) + b"]"
        if self.linked:
            return head + b"}"
        told = {"page": self.number, "total_pages": self.total_pages}
        return head + b"," + json.dumps(told).encode()[1:]

    @property
    def headers(self) -> Mapping[str, str]:
        """The Link header of a page that another one follows."""
        return {} if self.next_url is None else {"link": f'<{self.next_url}>; rel="next"'}

    def with_rows(self, rows: Sequence[bytes]) -> ShopPage:
        """The same page with other rows."""
        return replace(self, rows=rows)

    def ended(self, *, null: bool = False) -> ShopPage:
        """The page as if it were the last one; with `null` its total is there without a value."""
        return replace(self, next_url=None, total_pages=None if null else self.number)

    def led_back(self, *, again: bool) -> ShopPage:
        """The page with a link to itself; by number, with one page more to come."""
        if self.linked:
            return replace(self, next_url=f"{self.url}&again=1" if again else self.url)
        return replace(self, total_pages=self.number + 1)


@dataclass(frozen=True)
class Asked:
    """A request for a page. Raises ValueError in the API's words for what it does not take."""

    resource: str
    page: int
    per_page: int
    since: str | None
    again: bool

    @classmethod
    def of(cls, resource: str, query: Mapping[str, str]) -> Asked:
        """From the path below `PATH` and the query."""
        page = _number(query, "page", 1)
        per_page = _number(query, "per_page", 50)
        if per_page > LARGEST_PAGE:
            raise ValueError(f"per_page is {per_page}, at most {LARGEST_PAGE} are served")
        since = query.get("updated_since") if resource in INCREMENTAL else None
        return cls(resource, page, per_page, since and _instant(since), "again" in query)


def cut_page(asked: Asked, day: date, origin: str) -> ShopPage:
    """The page asked for, of `day`; beyond the end it is empty. `origin` is `http://host:port`."""
    rows = [
        row for at, row in _ROWS[asked.resource](day) if asked.since is None or at >= asked.since
    ]
    start = (asked.page - 1) * asked.per_page
    total = -(-len(rows) // asked.per_page)
    linked = asked.resource in LINKED
    more = linked and asked.page < total
    return ShopPage(
        rows[start : start + asked.per_page],
        asked.page,
        total,
        _url(asked, origin),
        linked,
        _url(replace(asked, page=asked.page + 1), origin) if more else None,
    )


def _url(asked: Asked, origin: str) -> str:
    query = {"page": asked.page, "per_page": asked.per_page}
    since = {} if asked.since is None else {"updated_since": asked.since}
    return f"{origin}{PATH}{asked.resource}?{urlencode(query | since)}"


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    text = query.get(name, str(usual))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} is {text!r}, not a whole number from 1")
    return int(text)


def _instant(text: str) -> str:
    """The instant in the notation of `updated_at`, which sorts as time does."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError(f"updated_since is {text!r}, not an ISO 8601 instant") from e
    if at.tzinfo is None:
        raise ValueError(f"updated_since is {text!r}, without a time zone")
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
