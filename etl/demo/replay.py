"""The replay: a loopback server that answers as Bluesky, a shop and Yahoo do, or misbehaves."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import parse_qsl

from etl.demo.faults import Fault, Faults
from etl.demo.graph import Kind
from etl.demo.limiter import Limiter
from etl.demo.markets import api as markets
from etl.demo.pages import Position, cut, decode_cursor, listing, resolve
from etl.demo.replies import Bendable, Reply, Silence, bend, refuse, tell
from etl.demo.shop import api as shop
from etl.demo.wire import Server

_METHODS: Final[Mapping[str, Kind]] = {
    "app.bsky.graph.getFollowers": "followers",
    "app.bsky.graph.getFollows": "follows",
}
_POLICY: Final = (3000, 300.0)
_IDENTIFIER: Final = re.compile(r"did:[a-z]+:[\w.:%-]+|([a-zA-Z0-9-]+\.)+[a-zA-Z][a-zA-Z0-9-]*")


@dataclass(frozen=True)
class Request:
    """One request as the replay saw it.

    `method` is an NSID, or for shop and market the path, as in `shop/v1/orders`. `page` counts from
    1 by the request's own limit, 0 when it gets no list; `status` is 0 when the replay kept silent;
    `at` is `time.monotonic()`; `headers` have lower-case names.
    """

    method: str
    actor: str
    page: int
    status: int
    at: float
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Replay:
    """Serves graph, shop and market of `date` on a loopback port from `start` to `close`.

    Port 0 takes a free one. `rate_limit` is (requests, seconds): a fixed window that is enforced.
    `latency` is the seconds every answer waits, `token` the bearer token every request must carry.
    With `cache` encoded pages are kept, so that a second reading costs the replay next to nothing.
    `date`, `faults` and `latency` may be set while it serves. Raises ValueError when `host` is not
    loopback, OSError when the port is taken.
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
        return f"{self._origin}/xrpc/"

    @property
    def shop_url(self) -> str:
        """`http://127.0.0.1:PORT/shop/v1/`. Raises RuntimeError before `start`."""
        return f"{self._origin}{shop.PATH}"

    @property
    def market_url(self) -> str:
        """`http://127.0.0.1:PORT/yahoo/`. Raises RuntimeError before `start`."""
        return f"{self._origin}{markets.PATH}"

    @property
    def _origin(self) -> str:
        if self._server is None:
            raise RuntimeError("the replay is not started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_address[1]}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in the order in which their answers were decided."""
        return tuple(self._requests)

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, verb: str, target: str, headers: Mapping[str, str]) -> Reply | Silence:
        """The answer to one request, waits included; what a connection's thread calls."""
        asked = _Asked.of(verb, target, headers)
        allowed, limit = self._limiter.admit()
        page, late, reply = 0, 0.0, self._refusal(asked) if allowed else refuse(429)
        if reply is None:
            serve = {"shop": self._sell, "market": self._trade}.get(asked.api, self._list)
            page, late, reply = serve(asked)
        status, at = reply.status, time.monotonic()
        self._requests.append(
            Request(asked.method, asked.actor, page, status, at, asked.query, headers)
        )
        if wait := self.latency + late + reply.seconds:
            self._closing.wait(wait)
        if isinstance(reply, Silence):
            return reply
        return replace(reply, headers={**limit, **reply.headers})

    def _refusal(self, asked: _Asked) -> Reply | Silence | None:
        """Why a request gets no list, None when it is to get one."""
        if not asked.api:
            return refuse(404)
        told = asked.headers.get("authorization")
        if self._token is not None and told != f"Bearer {self._token}":
            return refuse(401)
        if asked.api == "bluesky" and asked.method not in _METHODS:
            return refuse(501)
        if asked.verb != "GET":
            return refuse(400, f"Incorrect HTTP method ({asked.verb}) expected GET")
        return None

    def _list(self, asked: _Asked) -> tuple[int, float, Reply | Silence]:
        """Page number, seconds of latency and answer of one of the two list methods."""
        actor, kind, day = asked.actor, _METHODS[asked.method], self.date
        try:
            limit, start = asked.limit(), asked.start(kind)
        except ValueError as e:
            return 0, 0.0, refuse(400, str(e))
        page = start.offset // limit + 1
        late, fault = self._strike(asked, page, again=start.again)
        key = (actor, kind, day, start.offset, limit)
        if fault is None and self._cache is not None and key in self._cache:
            return page, late, Reply(200, self._cache[key])
        source = listing(actor, kind, day)
        if source is None:
            return page, late, refuse(400, f"Actor not found: {actor}")
        found = cut(source, actor, kind, start.offset, limit)
        if fault is not None:
            return page, late, bend(fault, found)
        body = found.encode()
        if self._cache is not None:
            self._cache[key] = body
        return page, late, Reply(200, body)

    def _sell(self, asked: _Asked) -> tuple[int, float, Reply | Silence]:
        """The same for one of the shop's resources."""
        try:
            wanted = shop.Asked.of(asked.method.rpartition("/")[2], asked.query)
        except ValueError as e:
            return 0, 0.0, refuse(400, str(e))
        late, fault = self._strike(asked, wanted.page, again=wanted.again)
        found: Bendable = shop.cut_page(wanted, self.date, self._origin)
        return wanted.page, late, tell(found) if fault is None else bend(fault, found)

    def _trade(self, asked: _Asked) -> tuple[int, float, Reply | Silence]:
        """The same for the market: a ticker's chart, or the crumb that yfinance asks for first."""
        if asked.method == markets.CRUMB:
            return 0, 0.0, Reply(200, b"crumb", "text/plain")
        if not asked.method.startswith(markets.CHART):
            return 0, 0.0, refuse(404)
        late, fault = self._strike(asked, 1, again=False)
        ticker = asked.method.removeprefix(markets.CHART)
        try:
            found: Bendable = markets.cut_chart(ticker, asked.query, self.date)
        except KeyError:
            return 1, late, Reply(404, markets.missing(ticker))
        except ValueError as e:
            return 1, late, Reply(400, markets.invalid(str(e)))
        return 1, late, tell(found) if fault is None else bend(fault, found)

    def _strike(self, asked: _Asked, page: int, *, again: bool) -> tuple[float, Fault | None]:
        """Seconds of latency and the fault that a request meets."""
        met = self._faults.strike(asked.method, asked.actor, page, again=again)
        late = sum(1.0 if f.seconds is None else f.seconds for f in met if f.kind == "latency")
        return late, next((f for f in met if f.kind != "latency"), None)


@dataclass(frozen=True)
class _Asked:
    """A request taken apart; `actor` is a handle when the one asked for is known.

    `api` is `bluesky`, `shop`, `market`, or empty for a path of none of them.
    """

    verb: str
    api: str
    method: str
    actor: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, verb: str, target: str, headers: Mapping[str, str]) -> Self:
        path, _, text = target.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        api, method = "", path.removeprefix("/")
        if path.removeprefix(shop.PATH) in shop.RESOURCES:
            api = "shop"
        elif path.startswith(markets.PATH):
            api = "market"
        elif path.startswith("/xrpc/"):
            api, method = "bluesky", path.removeprefix("/xrpc/")
        return cls(verb, api, method, resolve(query.get("actor", "")), query, headers)

    def limit(self) -> int:
        """Rows per page. Raises ValueError in the API's words, for a lacking actor as well."""
        if not self.actor:
            raise ValueError('Error: Params must have the property "actor"')
        if not _IDENTIFIER.fullmatch(self.actor):
            raise ValueError("Error: actor must be a valid did or a handle")
        try:
            limit = int(self.query.get("limit", "50"))
        except ValueError as e:
            raise ValueError("Error: limit must be an integer") from e
        if limit < 1:
            raise ValueError("Error: limit can not be less than 1")
        if limit > 100:
            raise ValueError("Error: limit can not be greater than 100")
        return limit

    def start(self, kind: Kind) -> Position:
        """Where the page starts. Raises ValueError for a cursor that is not this list's."""
        cursor = self.query.get("cursor")
        return decode_cursor(self.actor, kind, cursor) if cursor else Position(0)
