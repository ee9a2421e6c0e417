"""An API whose rows come, change and go: what it has is the truth that a run is compared with."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.integration import extracting as small_api

Row = dict[str, Any]
# Each resource, and the field by which its rows are sorted and read on.
ORDER = {
    "orders": "updated_at",
    "events": "seq",
    "countries": "code",
    "people": "id",
    "prices": "product",
    "stock": "id",
    "details": "id",
    "items": "updated_at",
    "logs": "seq",
    "stores": "code",
}
# Those that are asked for by a part of them, such as `stock/a`, and the field that names it.
PARTS = {"stock": "region", "details": "country"}
REGIONS = ("a", "b", "c")
PAGE = 7
# What an API does wrong as long as a run lasts, and the code that the run has to end with.
FAULTS = {"500": 4, "hang": 4, "401": 13, "404": 5, "html": 5, "loop": 5}
NAMES = ("note", "Größe", "select", "a b", "x", "y")
TEXTS = ("ä", "", "o'clock", "𝄞", "x" * 300, "NaN", "2020-01-01")


class Api:
    """The rows of each resource by their keys; safe to change while it is read."""

    def __init__(self, rng: random.Random) -> None:
        self.rows: dict[str, dict[Any, Row]] = {resource: {} for resource in ORDER}
        self.lock = threading.RLock()
        self.fault: tuple[str, str] | None = None
        self._rng = rng
        self._extra: dict[str, str] = {}
        self._changes = 0
        self._makers: dict[str, Callable[[], Any]] = {
            "int": lambda: rng.randrange(1000),
            "float": lambda: rng.random() + 0.5,
            "text": lambda: rng.choice(TEXTS),
            "bool": lambda: rng.random() < 0.5,
            "list": self._list,
            "dict": lambda: {"k": rng.randrange(9)},
        }
        for change in self._kinds():
            change()

    def change(self, number: int) -> None:
        """So many rows come, change or go."""
        with self.lock:
            for _ in range(number):
                self._rng.choice(self._kinds())()

    def add_field(self) -> str:
        """Orders, items and people get a field that they did not have, or had not for long."""
        with self.lock:
            name = f"{self._rng.choice(NAMES)}{self._rng.randrange(30)}"
            kind = self._extra.setdefault(name, self._rng.choice(sorted(self._makers)))
        return f"{name}: {kind}"

    def retype_field(self) -> str:
        """A field that came so takes another type, or the same."""
        with self.lock:
            plain = sorted(n for n, kind in self._extra.items() if kind not in {"list", "dict"})
            if not plain:
                return "none"
            name = self._rng.choice(plain)
            self._extra[name] = self._rng.choice(["int", "float", "text", "bool"])
        return f"{name}: {self._extra[name]}"

    def alive(self, resource: str) -> dict[Any, Row]:
        """The rows that were not cancelled, and whose country is there."""
        rows = {k: r for k, r in self.rows[resource].items() if not r.get("is_deleted")}
        if resource == "details":
            rows = {k: r for k, r in rows.items() if r["country"] in self.rows["countries"]}
        return rows

    def page(self, resource: str, part: str, since: str | None, cursor: str | None) -> Row:
        """One page of what changed since then, after the last row of the page before."""
        field = ORDER[resource]
        with self.lock:
            rows = sorted(self.rows[resource].values(), key=lambda r: r[field])
        if resource in PARTS:
            rows = [r for r in rows if r[PARTS[resource]] == part]
        if since:
            rows = [r for r in rows if _by_size(r[field]) >= _by_size(since)]
        if cursor:
            rows = [r for r in rows if _by_size(r[field]) > _by_size(cursor)]
        page = rows[:PAGE]
        if self.fault == (resource, "loop"):
            return {"data": page, "next": "0"}
        return {"data": page, "next": str(page[-1][field]) if len(rows) > PAGE else None}

    def _kinds(self) -> list[Callable[[], None]]:
        return [
            partial(self._sale, "orders"), partial(self._sale, "orders"),
            partial(self._sale, "items"), partial(self._event, "events"),
            partial(self._event, "logs"), partial(self._place, "countries"),
            partial(self._place, "stores"), self._person, self._price, self._stock, self._detail,
        ]  # fmt: skip

    def _extras(self) -> Row:
        return {
            name: self._makers[kind]()
            for name, kind in self._extra.items()
            if self._rng.random() < 0.7
        }

    def _sale(self, resource: str) -> None:
        """An order or item is placed, changed or cancelled for good."""
        self._changes += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + self._changes))
        rows, alive = self.rows[resource], sorted(self.alive(resource))
        if alive and self._rng.random() < 0.15:
            key = self._rng.choice(alive)
            rows[key] = {"id": key, "is_deleted": True, "updated_at": at}
            return
        key = self._rng.choice(alive) if alive and self._rng.random() < 0.4 else len(rows) + 1
        lines = [
            {"sku": f"s{n}", "quantity": self._rng.randrange(1, 9), "lots": self._list()}
            for n in range(self._rng.randrange(4))
        ]
        status = self._rng.choice("abc")
        rows[key] = {
            "id": key,
            "status": status,
            "updated_at": at,
            "lines": lines,
        } | self._extras()

    def _list(self) -> list[Row]:
        return [{"v": self._rng.randrange(9)} for _ in range(self._rng.randrange(3))]

    def _event(self, resource: str) -> None:
        seq = len(self.rows[resource]) + 1
        self.rows[resource][seq] = {"seq": seq, "kind": self._rng.choice("xyz")}

    def _place(self, resource: str) -> None:
        places, code = self.rows[resource], self._rng.choice("abcdefghij")
        if code in places and self._rng.random() < 0.3:
            del places[code]
        else:
            places[code] = {"code": code, "rate": self._rng.randrange(100)}

    def _person(self) -> None:
        people, key = self.rows["people"], self._rng.randrange(40)
        if key in people and self._rng.random() < 0.3:
            del people[key]
        else:
            people[key] = {"id": key, "name": f"n{self._rng.randrange(1000)}"} | self._extras()

    def _price(self) -> None:
        key = self._rng.randrange(30)
        self.rows["prices"][key] = {"product": key, "price": self._rng.randrange(10_000)}

    def _stock(self) -> None:
        key = self._rng.randrange(40)
        region = REGIONS[key % len(REGIONS)]
        self.rows["stock"][key] = {"id": key, "region": region, "lots": self._list()}

    def _detail(self) -> None:
        key = self._rng.randrange(40)
        self.rows["details"][key] = {"id": key, "country": "abcdefghij"[key % 10],
                                     "text": self._rng.choice(TEXTS)}  # fmt: skip


def _by_size(value: Any) -> str:
    """Numbers as text that sorts like them."""
    return str(value).zfill(30)


@contextmanager
def serving(api: Api) -> Iterator[str]:
    """The API's address, as long as it is served."""

    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        resource, _, part = path.strip("/").partition("/")
        status, page = 404, {}  # of the base URL, which `etl doctor` asks
        if resource in ORDER:
            status, page = 200, api.page(resource, part, query.get("since"), query.get("cursor"))
        if api.fault is None or api.fault[0] != resource:
            return status, page, {}
        kind = api.fault[1]
        time.sleep(3 if kind == "hang" else 0)
        return int(kind) if kind.isdigit() else 200, b"<html>" if kind == "html" else page, {}

    with small_api.serving(answer) as served:
        yield served.url
