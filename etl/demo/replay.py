"""The replay: a loopback server that answers as the public Bluesky API does, or misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl

from etl.demo.faults import Fault, Faults
from etl.demo.graph import Kind
from etl.demo.limiter import Limiter
from etl.demo.pages import Position, cut, decode_cursor, listing, resolve
from etl.demo.replies import Reply, Silence, bend, refuse
from etl.demo.wire import Server

_METHODS: Final[Mapping[str, Kind]] = {
    "app.bsky.graph.getFollowers": "followers",
    "app.bsky.graph.getFollows": "follows",
}
_POLICY: Final = (3000, 300.0)


@dataclass(frozen=True)
class Request:
    """One request as the replay saw it.

    `page` counts from 1 by the request's own limit, 0 outside the two list methods; `status` is 0
    when the replay kept silent; `at` is `time.monotonic()`; `headers` have lower-case names.
    """

    method: str
    actor: str
    page: int
    status: int
    at: float
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Replay:
    """Serves the graph of `date` on a loopback port (0: a free one) from `start` to `close`.

    `rate_limit` is (requests, seconds): a fixed window that is enforced. `latency` is the seconds
    every answer waits, `token` the bearer token every request must carry. With `cache` encoded
    pages are kept, so that a second reading costs the replay next to nothing. `date`, `faults` and
    `latency` may be set while it serves. Raises ValueError when `host` is not loopback, OSError
    when the port is taken.
    """

    def __init__(
        self,
        date: date,
        port: int = 0,
        faults: Iterable[Fault] = (),
        rate_limit: tuple[int, float] | None = None,
        latency: float = 0.0,
        *,
        host: str = "127.0.0.1",
        token: str | None = None,
        cache: bool = False,
    ) -> None:
        if host != "localhost" and not ip_address(host).is_loopback:
            raise ValueError(f"the replay serves loopback addresses only, not {host}")
        self.date, self.latency = date, latency
        self._host, self._port, self._token = host, port, token
        self._faults = Faults(faults)
        self._limiter = Limiter(*(rate_limit or _POLICY), enforced=rate_limit is not None)
        self._cache: dict[tuple[object, ...], bytes] | None = {} if cache else None
        self._requests: list[Request] = []
        self._closing = threading.Event()
        self._server: Server | None = None

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/xrpc/`. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the replay is not started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_address[1]}/xrpc/"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in the order in which their answers were decided."""
        return tuple(self._requests)

    @property
    def rate_limited(self) -> int:
        """How many requests `rate_limit` refused."""
        return self._limiter.rejected

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force; setting them starts their counts anew."""
        return self._faults.all

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        self._faults = Faults(faults)

    def start(self) -> Self:
        """Bind and serve from a daemon thread. Raises OSError when the port is taken."""
        self._server = Server(self.answer, self._host, self._port)
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.02,), name="replay", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop serving and end every connection; once closed it stays so."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.end_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def answer(self, verb: str, target: str, headers: Mapping[str, str]) -> Reply | Silence:
        """The answer to one request, waits included; what the connection's thread calls."""
        path, _, text = target.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        method = path.removeprefix("/xrpc/")
        actor = resolve(query.get("actor", ""))
        verdict = self._limiter.admit()
        page, late, reply = 0, self.latency, refuse(429)
        if verdict.allowed:
            if path == method:
                reply = refuse(404)
            elif (
                self._token is not None and headers.get("authorization") != f"Bearer {self._token}"
            ):
                reply = refuse(401)
            elif method not in _METHODS:
                reply = refuse(501)
            elif verb != "GET":
                reply = refuse(400, f"Incorrect HTTP method ({verb}) expected GET")
            else:
                page, more, outcome = self._list(method, actor, query)
                late += more
                if isinstance(outcome, Silence):
                    self._record(method, actor, page, 0, query, headers)
                    self._closing.wait(late + outcome.seconds)
                    return outcome
                reply = outcome
        self._record(method, actor, page, reply.status, query, headers)
        if late:
            self._closing.wait(late)
        return replace(reply, headers={**verdict.headers, **reply.headers})

    def _list(
        self, method: str, actor: str, query: Mapping[str, str]
    ) -> tuple[int, float, Reply | Silence]:
        """Page number, seconds of latency and answer of one of the two list methods."""
        kind = _METHODS[method]
        try:
            limit = _limit(query)
            start = Position(0)
            if query.get("cursor"):
                start = decode_cursor(actor, kind, query["cursor"])
        except ValueError as e:
            return 0, 0.0, refuse(400, str(e))
        page = start.offset // limit + 1
        met = self._faults.strike(method, actor, page, again=start.again)
        late = sum(1.0 if f.seconds is None else f.seconds for f in met if f.kind == "latency")
        fault = next((f for f in met if f.kind != "latency"), None)
        day = self.date
        key = (actor, kind, day, start.offset, limit)
        if fault is None and self._cache is not None and key in self._cache:
            return page, late, Reply(200, self._cache[key])
        source = listing(actor, kind, day)
        if source is None:
            return page, late, refuse(400, f"Actor not found: {actor}")
        found = cut(source, actor, kind, start.offset, limit)
        if fault is not None:
            return page, late, bend(fault, found, actor, start.offset)
        body = found.encode()
        if self._cache is not None:
            self._cache[key] = body
        return page, late, Reply(200, body)

    def _record(
        self,
        method: str,
        actor: str,
        page: int,
        status: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        at = time.monotonic()
        self._requests.append(Request(method, actor, page, status, at, query, headers))


def _limit(query: Mapping[str, str]) -> int:
    """The limit asked for. Raises ValueError in the API's words, for the actor's lack too."""
    if not query.get("actor"):
        raise ValueError('Error: Params must have the property "actor"')
    try:
        limit = int(query.get("limit", "50"))
    except ValueError as e:
        raise ValueError("Error: limit must be an integer") from e
    if limit < 1:
        raise ValueError("Error: limit can not be less than 1")
    if limit > 100:
        raise ValueError("Error: limit can not be greater than 100")
    return limit
