"""How the replay is told to misbehave: what, on which requests, how often."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "429": ("too many requests, Retry-After in seconds", "429:request=3,times=2,seconds=2"),
    "429-date": ("the same, Retry-After as an HTTP date", "429-date:times=1,seconds=2"),
    "429-bare": ("the same without Retry-After", "429-bare:times=1"),
    "400": ("invalid request", "400:page=2"),
    "401": ("credentials rejected", "401:actor=chess.com"),
    "403": ("forbidden", "403:actor=lichess.org"),
    "404": ("not found", "404:method=getFollows"),
    "500": ("internal server error", "500:page=2,times=1"),
    "502": ("upstream failure", "502:request=1"),
    "503": ("unavailable; with seconds also Retry-After", "503:times=3,seconds=1"),
    "504": ("upstream timeout", "504:times=1"),
    "timeout": ("no answer for seconds (default 30), then a closed connection", "timeout:page=3"),
    "disconnect": ("the connection closes without an answer", "disconnect:times=1"),
    "cut": ("the body ends before its Content-Length", "cut:page=2,times=1"),
    "truncated": ("half of the JSON with a matching Content-Length", "truncated:page=1,times=1"),
    "html": ("an HTML page with status 200", "html:times=1"),
    "html-403": ("an HTML page with status 403", "html-403:times=1"),
    "html-502": ("an HTML page with status 502", "html-502:times=2"),
    "repeat_cursor": ("the cursor leads back to the same page", "repeat_cursor:page=2"),
    "empty_page": ("no rows but a cursor; the rows come with that one", "empty_page:page=2"),
    "null_cursor": ('"cursor": null half-way: the rest never comes', "null_cursor:page=2"),
    "no_cursor": ("no cursor half-way: the rest never comes", "no_cursor:page=1"),
    "empty": ("no rows, no cursor: the source returns nothing", "empty:actor=lichess.org"),
    "missing_field": ("a page without its list", "missing_field:page=2"),
    "extra_field": ("every row has field=value, new or retyped", "extra_field:field=elo,value=1"),
    "drop_field": ("every row lacks field (default handle)", "drop_field:field=did,page=1"),
    "repeat_row": ("the page's first row comes again at its end", "repeat_row:page=2"),
    "latency": ("the answer comes seconds (default 1) late", "latency:seconds=0.2"),
}
"""What each kind does, and an example of its SPEC.

What a cursor is to Bluesky's API is the Link header to the shop's `orders`. Its other resources
tell how many pages there are: for them `repeat_cursor` and `empty_page` announce one page more, and
`null_cursor` and `no_cursor` say null and that this page is the last one.
"""

_WHOLE: Final = ("request", "times")
_TEXT: Final = ("method", "actor", "field", "value")


@dataclass(frozen=True)
class Fault:
    """One misbehaviour and the requests that meet it.

    `method` is `getFollowers` or `getFollows` (the NSID before it may stand or not), or of the shop
    `countries`, `companies`, `customers` or `orders`, or of the market a ticker; `actor` is a
    handle, `page` one or several page numbers from 1, `request` the n-th request, from 1, that
    method, actor and page let through; None takes all. `times` is how often, None always. `seconds`
    is the wait or the Retry-After; `field` and `value` name what row faults touch.
    Raises ValueError for an unknown kind.
    """

    kind: str
    method: str | None = None
    actor: str | None = None
    page: int | tuple[int, ...] | None = None
    request: int | None = None
    times: int | None = None
    seconds: float | None = None
    field: str | None = None
    value: object = "new"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; one of {', '.join(KINDS)}")

    def matches(self, method: str, actor: str, page: int) -> bool:
        """Whether a request is in this fault's scope; `method` is the whole NSID."""
        pages = (self.page,) if isinstance(self.page, int) else self.page
        return (
            (self.method is None or method.endswith(self.method))
            and (self.actor is None or actor == self.actor)
            and (pages is None or page in pages)
        )


def parse_fault(spec: str) -> Fault:
    """A fault from `KIND[:key=value[,key=value]...]`, the keys being those of `Fault`.

    `page` may be a range, `page=2-4`; `value` is JSON or else text. Raises ValueError that names
    the wrong part.
    """
    kind, _, options = spec.partition(":")
    given: dict[str, object] = {}
    for option in filter(None, options.split(",")):
        key, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"fault {spec!r}: {option!r} is not key=value")
        try:
            given[key] = _convert(key, text)
        except ValueError as e:
            raise ValueError(f"fault {spec!r}: {e}") from e
    return Fault(kind, **given)  # type: ignore[arg-type]


def _convert(key: str, text: str) -> object:
    if key in _WHOLE:
        return int(text)
    if key == "seconds":
        return float(text)
    if key == "page":
        first, _, last = text.partition("-")
        return tuple(range(int(first), int(last or first) + 1))
    if key == "value":
        return _literal(text)
    if key in _TEXT:
        return text
    raise ValueError(f"unknown key {key!r}")


def _literal(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Faults:
    """The faults in force and how often each has struck. Thread-safe."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.all = tuple(faults)
        self._seen = [0] * len(self.all)
        self._struck = [0] * len(self.all)
        self._lock = threading.Lock()

    def strike(self, method: str, actor: str, page: int, *, again: bool) -> list[Fault]:
        """The faults that a request meets: every latency and the first of the other kinds.

        `again` says that an empty page sent the client here, so that it is not sent twice.
        """
        if not self.all:
            return []
        met: list[Fault] = []
        with self._lock:
            for number, fault in enumerate(self.all):
                if not fault.matches(method, actor, page) or (again and fault.kind == "empty_page"):
                    continue
                self._seen[number] += 1
                if fault.request not in (None, self._seen[number]):
                    continue
                if fault.times is not None and self._struck[number] >= fault.times:
                    continue
                if fault.kind != "latency" and any(other.kind != "latency" for other in met):
                    continue
                self._struck[number] += 1
                met.append(fault)
        return met
