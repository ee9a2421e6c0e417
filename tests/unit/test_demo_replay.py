"""The replay answers as the public Bluesky API does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
import requests

from etl.demo import ACTORS, Replay
from etl.demo.graph import Kind
from tests.followers import KINDS, listed

DAY = date(2026, 1, 1)
METHODS: dict[Kind, str] = {
    "followers": "app.bsky.graph.getFollowers",
    "follows": "app.bsky.graph.getFollows",
}
FINGERPRINT = """
from datetime import date
from hashlib import sha256
from etl.demo.markets.prices import TICKERS, chart
from etl.demo.shop.orders import encoded_orders
from tests.followers import listed
day = date(2026, 1, 1)
found = listed("chess.com", "followers", day), encoded_orders(day), [chart(t, day) for t in TICKERS]
print(sha256(repr(found).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(DAY) as served:
        yield served


def get(replay: Replay, method: str = METHODS["followers"], **query: object) -> requests.Response:
    url = replay.base_url + method
    return requests.get(url, params={k: str(v) for k, v in query.items()}, timeout=10)


def pages(replay: Replay, actor: str, kind: Kind, limit: int = 100) -> Iterator[dict[str, Any]]:
    with requests.Session() as session:
        query: dict[str, str] = {"actor": actor, "limit": str(limit)}
        while True:
            url = replay.base_url + METHODS[kind]
            page = session.get(url, params=query, timeout=10).json()
            yield page
            if "cursor" not in page:
                return
            query["cursor"] = page["cursor"]


def test_what_is_served_is_the_same_in_every_process() -> None:
    prints = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_pages_together_are_the_graph_of_the_day(replay: Replay, actor: str, kind: Kind) -> None:
    found = list(pages(replay, actor, kind))
    assert [row for page in found for row in page[kind]] == listed(actor, kind, DAY)
    assert all(set(page) == {"subject", kind, "cursor"} for page in found[:-1])
    assert set(found[-1]) == {"subject", kind}
    assert {page["subject"]["handle"] for page in found} == {actor}


def test_did_names_the_same_actor(replay: Replay) -> None:
    by_handle = get(replay, actor="chess.com")
    by_did = get(replay, actor=by_handle.json()["subject"]["did"])
    assert by_did.content == by_handle.content


def test_page_has_50_rows_unless_told(replay: Replay) -> None:
    assert len(get(replay, actor="chess.com").json()["followers"]) == 50


def test_headers_are_those_of_the_api(replay: Replay) -> None:
    headers = get(replay, actor="chess.com").headers
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["ratelimit-limit"] == "3000"
    assert headers["ratelimit-policy"] == "3000;w=300"
    assert 0 < int(headers["ratelimit-remaining"]) < 3000
    assert 0 < int(headers["ratelimit-reset"]) - time.time() <= 301


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"actor": "nobody.test"}, "Actor not found: nobody.test"),
        ({}, 'Error: Params must have the property "actor"'),
        ({"actor": "no handle"}, "Error: actor must be a valid did or a handle"),
        ({"actor": "chess.com", "limit": "0"}, "Error: limit can not be less than 1"),
        ({"actor": "chess.com", "limit": "101"}, "Error: limit can not be greater than 100"),
        ({"actor": "chess.com", "limit": "ten"}, "Error: limit must be an integer"),
        ({"actor": "chess.com", "cursor": "made-up"}, "Malformed cursor"),
    ],
)
def test_wrong_parameters_are_invalid_requests(
    replay: Replay, query: dict[str, str], message: str
) -> None:
    answer = get(replay, **query)
    assert answer.status_code == 400
    assert answer.json() == {"error": "InvalidRequest", "message": message}


def test_cursor_of_another_list_is_malformed(replay: Replay) -> None:
    cursor = get(replay, actor="chess.com").json()["cursor"]
    assert get(replay, actor="lichess.org", cursor=cursor).status_code == 400
    assert get(replay, METHODS["follows"], actor="chess.com", cursor=cursor).status_code == 400


def test_unknown_method_is_not_implemented(replay: Replay) -> None:
    answer = get(replay, "app.bsky.graph.getBlocks")
    assert answer.status_code == 501
    assert answer.json()["error"] == "MethodNotImplemented"


def test_method_is_a_query_not_a_procedure(replay: Replay) -> None:
    answer = requests.post(replay.base_url + METHODS["followers"], json={}, timeout=10)
    assert answer.status_code == 400
    assert "expected GET" in answer.json()["message"]


def test_date_may_move_while_serving() -> None:
    with Replay(DAY) as replay:
        replay.date = date(2026, 1, 2)
        rows = [row for page in pages(replay, "lichess.org", "follows") for row in page["follows"]]
    assert rows == listed("lichess.org", "follows", date(2026, 1, 2))


def test_requests_are_recorded_in_order() -> None:
    with Replay(DAY) as replay:
        served = list(pages(replay, "lichess.org", "follows"))
        requests.get(replay.base_url, headers={"Authorization": "Bearer x"}, timeout=10)
        *listed, last = replay.requests
    assert [request.page for request in listed] == list(range(1, len(served) + 1))
    assert {request.method for request in listed} == {METHODS["follows"]}
    assert {(request.actor, request.status) for request in listed} == {("lichess.org", 200)}
    assert [request.at for request in listed] == sorted(request.at for request in listed)
    assert listed[0].query == {"actor": "lichess.org", "limit": "100"}
    assert last.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_bulk_actor_has_as_many_rows_as_its_name_says(kind: Kind, cache: bool) -> None:
    with Replay(DAY, cache=cache) as replay:
        for _ in range(2):
            found = [row for page in pages(replay, "bulk-250.test", kind) for row in page[kind]]
            assert len({row["did"] for row in found}) == len(found) == 250


def test_bulk_chains_differ_and_have_mutuals(replay: Replay) -> None:
    def dids(actor: str, kind: Kind) -> set[str]:
        return {row["did"] for page in pages(replay, actor, kind) for row in page[kind]}

    followers = dids("bulk-200-a.test", "followers")
    assert len(followers & dids("bulk-200-a.test", "follows")) == 100
    assert not followers & dids("bulk-200-b.test", "followers")


def test_bulk_page_weighs_58_kb_with_a_label_per_row(replay: Replay) -> None:
    answer = get(replay, actor="bulk-100000.test", limit=100)
    assert 55_000 < len(answer.content) < 61_000
    assert all(len(row["labels"]) == 1 for row in answer.json()["followers"])


def test_token_is_required_when_set() -> None:
    with Replay(DAY, token="secret") as replay:
        url = replay.base_url + METHODS["followers"] + "?actor=chess.com"
        assert requests.get(url, timeout=10).status_code == 401
        allowed = requests.get(url, headers={"Authorization": "Bearer secret"}, timeout=10)
        assert allowed.status_code == 200


def test_rate_limit_refuses_what_exceeds_it_until_the_window_ends() -> None:
    with Replay(DAY, rate_limit=(3, 0.6)) as replay:
        answers = [get(replay, actor="bulk-1.test") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == list("21000")
        assert answers[-1].headers["retry-after"] == "1"
        assert answers[-1].json()["error"] == "RateLimitExceeded"
        assert [r.status for r in replay.requests].count(429) == 2
        time.sleep(0.6)
        assert get(replay, actor="bulk-1.test").status_code == 200


def test_every_thread_gets_its_answer() -> None:
    with Replay(DAY) as replay, ThreadPoolExecutor(16) as pool:
        sizes = pool.map(
            lambda number: len(get(replay, actor=f"bulk-{number}.test").json()["followers"]),
            range(40),
        )
        assert list(sizes) == list(range(40))
        assert len(replay.requests) == 40


def test_replay_starts_and_closes_at_once() -> None:
    started = time.monotonic()
    with Replay(DAY), Replay(DAY):
        pass
    assert time.monotonic() - started < 0.5


def test_closed_replay_refuses_connections() -> None:
    with Replay(DAY) as replay, requests.Session() as session:
        url = replay.base_url + METHODS["followers"] + "?actor=bulk-1.test"
        assert session.get(url, timeout=10).status_code == 200
        replay.close()
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=10)


def test_replay_serves_loopback_only() -> None:
    with pytest.raises(ValueError, match="loopback"):
        Replay(DAY, host="0.0.0.0")
