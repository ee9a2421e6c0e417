"""What goes over the wire: a reply, right or as a fault bends it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import ClassVar, Final, Protocol

from etl.demo.faults import Fault

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


def refuse(status: int, message: str | None = None, error: str | None = None) -> Reply:
    """The API's JSON for an error status."""
    usual_error, usual_message = _ERRORS[status]
    told = {"error": error or usual_error, "message": message or usual_message}
    return Reply(status, json.dumps(told).encode())


class Bendable(Protocol):
    """A page of any API of the replay, as faults need it."""

    @property
    def rows(self) -> Sequence[bytes]:
        """The encoded rows."""

    @property
    def list_field(self) -> str:
        """The key of the rows in the body."""

    @property
    def first_field(self) -> str:
        """The field that rows lose when a fault names none."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer carries beside its body."""

    def encode(self) -> bytes:
        """The response body."""

    def with_rows(self, rows: Sequence[bytes]) -> Bendable:
        """The same page with other rows."""

    def ended(self, *, null: bool = False) -> Bendable:
        """The page as if it were the last one; with `null` it says so with a null."""

    def led_back(self, *, again: bool) -> Bendable:
        """The page with a way on that leads back to it; `again` marks that way."""


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


_Bend = Callable[[_Case], Reply | Silence]


def _error(status: int) -> _Bend:
    return lambda _: refuse(status)


def _html(status: int) -> _Bend:
    return lambda _: Reply(status, _HTML.encode(), "text/html; charset=utf-8")


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


def _truncated(case: _Case) -> Reply:
    body = case.page.encode()
    return Reply(200, body[: len(body) // 2])


def _repeat_cursor(case: _Case) -> Reply:
    return tell(case.page.led_back(again=False))


def _empty_page(case: _Case) -> Reply:
    return tell(case.page.led_back(again=True).with_rows(()))


def _null_cursor(case: _Case) -> Reply:
    return tell(case.page.ended(null=True))


def _no_cursor(case: _Case) -> Reply:
    return tell(case.page.ended())


def _empty(case: _Case) -> Reply:
    return tell(case.page.ended().with_rows(()))


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


def _repeat_row(case: _Case) -> Reply:
    return tell(case.page.with_rows((*case.page.rows, *case.page.rows[:1])))


def _rows(case: _Case, change: Callable[[dict[str, object]], dict[str, object]]) -> Reply:
    rows = [json.dumps(change(json.loads(row)), ensure_ascii=False) for row in case.page.rows]
    return tell(case.page.with_rows([row.encode() for row in rows]))


_BENDS: Final[Mapping[str, _Bend]] = {
    **{str(status): _error(status) for status in (400, 401, 403, 404, 500, 502, 504)},
    "429": _wait_seconds,
    "429-date": _wait_until,
    "429-bare": _error(429),
    "503": _unavailable,
    "timeout": lambda case: Silence(case.seconds(30)),
    "disconnect": lambda _: Silence(0),
    "cut": _cut,
    "truncated": _truncated,
    "html": _html(200),
    "html-403": _html(403),
    "html-502": _html(502),
    "repeat_cursor": _repeat_cursor,
    "empty_page": _empty_page,
    "null_cursor": _null_cursor,
    "no_cursor": _no_cursor,
    "empty": _empty,
    "missing_field": _missing_field,
    "extra_field": _extra_field,
    "drop_field": _drop_field,
    "repeat_row": _repeat_row,
}
