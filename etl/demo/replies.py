"""What goes over the wire: a reply, right or as a fault bends it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import ClassVar, Final

from etl.demo.faults import Fault
from etl.demo.markets.api import ChartPage
from etl.demo.pages import Page
from etl.demo.shop.api import ShopPage

_JSON: Final = "application/json; charset=utf-8"
_HTML: Final = (
    "<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head>"
    "<body><h1>Service temporarily unavailable</h1><p>Ray ID: 8f1c2d3e4b5a6978</p></body></html>\n"
)
_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("InvalidRequest", "Invalid request"),
    401: ("AuthenticationRequired", "Authentication Required"),
    403: ("Forbidden", "Forbidden"),
    404: ("NotFound", "Not Found"),
    429: ("RateLimitExceeded", "Rate Limit Exceeded"),
    500: ("InternalServerError", "Internal Server Error"),
    501: ("MethodNotImplemented", "Method Not Implemented"),
    502: ("UpstreamFailure", "Upstream Failure"),
    503: ("NotEnoughResources", "Not Enough Resources"),
    504: ("UpstreamTimeout", "Upstream Timeout"),
}


@dataclass(frozen=True)
class Reply:
    """A response; `missing` bytes of the body are announced but never sent."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    seconds: ClassVar[float] = 0.0

    def encode(self, *, keep: bool) -> bytes:
        """Status line, headers and body in one piece."""
        headers = {
            "content-type": self.content_type,
            "content-length": str(len(self.body) + self.missing),
            **self.headers,
            "connection": "keep-alive" if keep else "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n"
        return head.encode("latin-1") + self.body


@dataclass(frozen=True)
class Silence:
    """No answer: the connection closes after `seconds`."""

    seconds: float
    status: ClassVar[int] = 0


def refuse(status: int, message: str = "") -> Reply:
    """The API's JSON for an error status."""
    error, usual = _ERRORS[status]
    told = {"error": error, "message": message or usual}
    return Reply(status, json.dumps(told).encode())


Bendable = Page | ChartPage | ShopPage
"""A page of any API of the replay."""


def tell(page: Bendable) -> Reply:
    """A page as it is."""
    return Reply(200, page.encode(), headers=page.headers)


def bend(fault: Fault, page: Bendable) -> Reply | Silence:
    """What `fault` makes of the answer `page`."""
    return _BENDS[fault.kind](_Case(fault, page))


@dataclass(frozen=True)
class _Case:
    fault: Fault
    page: Bendable

    def seconds(self, usual: float) -> float:
        return usual if self.fault.seconds is None else self.fault.seconds


def _html(status: int) -> Reply:
    return Reply(status, _HTML.encode(), "text/html; charset=utf-8")


def _wait_seconds(case: _Case) -> Reply:
    return replace(refuse(429), headers={"retry-after": str(math.ceil(case.seconds(1)))})


def _wait_until(case: _Case) -> Reply:
    until = formatdate(math.ceil(time.time() + case.seconds(1)), usegmt=True)
    return replace(refuse(429), headers={"retry-after": until})


def _unavailable(case: _Case) -> Reply:
    after = case.fault.seconds
    headers = {} if after is None else {"retry-after": str(math.ceil(after))}
    return replace(refuse(503), headers=headers)


def _cut(case: _Case) -> Reply:
    body = case.page.encode()
    half = len(body) // 2
    return Reply(200, body[:half], missing=len(body) - half)


def _missing_field(case: _Case) -> Reply:
    answer = json.loads(case.page.encode())
    del answer[case.page.list_field]
    body = json.dumps(answer, ensure_ascii=False).encode()
    return Reply(200, body, headers=case.page.headers)


def _extra_field(case: _Case) -> Reply:
    name = case.fault.field or "newField"
    return _rows(case, lambda row: {**row, name: case.fault.value})


def _drop_field(case: _Case) -> Reply:
    name = case.fault.field or case.page.first_field
    return _rows(case, lambda row: {key: value for key, value in row.items() if key != name})


def _rows(case: _Case, change: Callable[[dict[str, object]], dict[str, object]]) -> Reply:
    rows = [json.dumps(change(json.loads(row)), ensure_ascii=False) for row in case.page.rows]
    return tell(case.page.with_rows([row.encode() for row in rows]))


def _refusing(status: int) -> Callable[[_Case], Reply]:
    return lambda _: refuse(status)


_BENDS: Final[Mapping[str, Callable[[_Case], Reply | Silence]]] = {
    **{str(status): _refusing(status) for status in (400, 401, 403, 404, 500, 502, 504)},
    "429": _wait_seconds,
    "429-date": _wait_until,
    "429-bare": _refusing(429),
    "503": _unavailable,
    "timeout": lambda case: Silence(case.seconds(30)),
    "disconnect": lambda _: Silence(0),
    "cut": _cut,
    "truncated": lambda case: replace(_cut(case), missing=0),
    "html": lambda _: _html(200),
    "html-403": lambda _: _html(403),
    "html-502": lambda _: _html(502),
    "repeat_cursor": lambda case: tell(case.page.led_back(again=False)),
    "empty_page": lambda case: tell(case.page.led_back(again=True).with_rows(())),
    "null_cursor": lambda case: tell(case.page.ended(null=True)),
    "no_cursor": lambda case: tell(case.page.ended()),
    "empty": lambda case: tell(case.page.ended().with_rows(())),
    "missing_field": _missing_field,
    "extra_field": _extra_field,
    "drop_field": _drop_field,
    "repeat_row": lambda case: tell(case.page.with_rows((*case.page.rows, *case.page.rows[:1]))),
}
