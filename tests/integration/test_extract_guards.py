"""The guards: each ends with its class, says where, and leaves nothing behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl.demo import Fault, Replay
from etl.errors import AuthError, DataQualityError, EtlError, ExtractError, UnreachableError
from etl.sources.http import ApiSession
from tests.integration.extracting import (
    bluesky,
    context,
    count,
    extract_once,
    failures_of,
    pending,
    query,
    serving,
    settings_of,
)

ACTOR = "bulk-700.test"


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay(date(2026, 1, 2)) as replay:
        yield replay


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries do not wait; the list is what they would have waited."""
    waits: list[float] = []

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["wait"] = waits.append
        real(self, *args, **kwargs)

    real = ApiSession.__init__
    monkeypatch.setattr(ApiSession, "__init__", init)
    return waits


def assert_nothing_left(settings: Any, table: str = "bluesky_raw.followers") -> None:
    assert count(settings, table) == 0
    assert pending(settings, "bluesky") == []


BROKEN: list[tuple[str, dict[str, Any], type[EtlError], str]] = [
    ("missing_field", {"page": 3}, ExtractError, "page 3: the page has no field `followers`"),
    ("repeat_cursor", {"page": 3}, ExtractError, "page 3: the cursor repeats"),
    ("truncated", {"page": 2}, ExtractError, "page 2: the answer is no JSON"),
    ("html", {"page": 2}, ExtractError, "page 2: the answer is no JSON (text/html"),
    ("400", {"page": 2}, ExtractError, "page 2: 400"),
    ("404", {"page": 2}, ExtractError, "page 2: 404"),
    ("401", {"page": 2}, AuthError, "page 2: 401"),
    ("403", {"page": 2}, AuthError, "page 2: 403"),
    ("html-403", {"page": 2}, AuthError, "page 2: 403"),
    ("500", {"page": 2}, UnreachableError, "page 2: 500 until the retries ran out"),
    ("502", {"page": 2}, UnreachableError, "page 2: 502 until the retries ran out"),
    ("html-502", {"page": 2}, UnreachableError, "page 2: 502"),
    ("503", {"page": 2}, UnreachableError, "page 2: 503"),
    ("429", {"page": 2}, UnreachableError, "page 2: 429"),
    ("disconnect", {"page": 2}, UnreachableError, "cannot be reached"),
    ("cut", {"page": 2}, UnreachableError, "cannot be reached"),
    ("timeout", {"page": 2, "seconds": 5}, UnreachableError, "cannot be reached"),
]


@pytest.mark.parametrize(("kind", "where", "error", "message"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_api_ends_with_its_class_and_leaves_nothing(
    replay: Replay, tmp_path: Path, kind: str, where: Any, error: type[EtlError], message: str
) -> None:
    source = bluesky(replay.base_url, ACTOR, attempts=3, timeout_seconds=0.3)
    source["resources"][0]["endpoint"]["params"]["api_key"] = "s3cret"
    settings = settings_of(tmp_path, {"bluesky": source})
    replay.faults = [Fault(kind, **where)]
    ctx = context(settings)
    [failure] = failures_of(settings, ctx)
    assert type(failure) is error
    assert message in failure.message
    assert failure.message.startswith("bluesky.followers[bulk-700.test], page ")
    assert "getFollowers?" in failure.message
    assert "s3cret" not in failure.message
    assert_nothing_left(settings)
    replay.faults = []
    extract_once(settings)
    assert count(settings, "bluesky_raw.followers") == 700
    assert query(settings, "SELECT count(*) FROM bluesky_raw._dlt_loads") == [(1,)]


@pytest.mark.parametrize(
    ("kind", "asked"), [("500", 3), ("503", 3), ("429", 3), ("disconnect", 3), ("404", 1)]
)
def test_request_is_tried_as_often_as_told_and_no_more(
    replay: Replay, tmp_path: Path, kind: str, asked: int
) -> None:
    settings = settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR, attempts=3)})
    replay.faults = [Fault(kind, page=2)]
    failures_of(settings)
    assert len([r for r in replay.requests if r.page == 2]) == asked


@pytest.mark.parametrize("kind", ["503", "500", "429", "429-date", "disconnect", "cut", "html-502"])
def test_fault_that_passes_costs_retries_and_no_row(
    replay: Replay, tmp_path: Path, kind: str
) -> None:
    settings = settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR)})
    replay.faults = [Fault(kind, page=2, times=2)]
    ctx = extract_once(settings)
    [source] = ctx.run.sources
    assert (source.rows, source.pages, source.requests, source.retries) == (700, 7, 9, 2)
    assert count(settings, "bluesky_raw.followers") == 700


def test_empty_page_in_the_middle_loses_nothing(replay: Replay, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR)})
    replay.faults = [Fault("empty_page", page=3)]
    extract_once(settings)
    assert count(settings, "bluesky_raw.followers") == 700


def test_dead_port_is_a_connection_failure(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/xrpc/"
    settings = settings_of(tmp_path, {"bluesky": bluesky(url, ACTOR)})
    [failure] = failures_of(settings)
    assert type(failure) is UnreachableError
    assert url in failure.message
    assert_nothing_left(settings)


def test_page_cap_ends_a_chain(replay: Replay, tmp_path: Path) -> None:
    source = bluesky(replay.base_url, ACTOR, guards={"max_pages": 4})
    [failure] = failures_of(settings := settings_of(tmp_path, {"bluesky": source}))
    assert type(failure) is ExtractError
    assert "page 4: more than 4 pages (guards.max_pages)" in failure.message
    assert_nothing_left(settings)


def test_page_cap_lets_a_chain_of_just_that_length_pass(replay: Replay, tmp_path: Path) -> None:
    source = bluesky(replay.base_url, ACTOR, guards={"max_pages": 7})
    extract_once(settings := settings_of(tmp_path, {"bluesky": source}))
    assert count(settings, "bluesky_raw.followers") == 700


def test_empty_pages_for_ever_end_the_chain(tmp_path: Path) -> None:
    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        return {"followers": [], "cursor": str(int(query.get("cursor", "0")) + 1)}

    with serving(answer) as api:
        source = bluesky(api.url, "a", guards={"max_empty_pages": 6})
        [failure] = failures_of(settings := settings_of(tmp_path, {"bluesky": source}))
    assert type(failure) is ExtractError
    assert "page 6: 6 empty pages in a row" in failure.message
    assert len(api.asked) == 6
    assert_nothing_left(settings)


def test_empty_required_source_is_refused(replay: Replay, tmp_path: Path) -> None:
    replay.faults = [Fault("empty")]
    settings = settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR)})
    [failure] = failures_of(settings)
    assert type(failure) is DataQualityError
    assert "bluesky: the source is required and returned no row" in failure.message
    assert_nothing_left(settings)


def test_empty_source_that_is_not_required_passes(replay: Replay, tmp_path: Path) -> None:
    replay.faults = [Fault("empty")]
    source = bluesky(replay.base_url, ACTOR, required=False)
    ctx = extract_once(settings := settings_of(tmp_path, {"bluesky": source}))
    assert [s.rows for s in ctx.run.sources] == [0]
    assert pending(settings, "bluesky") == []


@pytest.mark.parametrize("kind", ["no_cursor", "null_cursor"])
def test_one_page_where_the_last_run_had_many_is_refused(
    replay: Replay, tmp_path: Path, kind: str
) -> None:
    settings = settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR)})
    extract_once(settings)
    replay.faults = [Fault(kind, page=1)]
    [failure] = failures_of(settings)
    assert type(failure) is DataQualityError
    assert "bluesky.followers[bulk-700.test]: ended after page 1, the last run had 7 pages" in (
        failure.message
    )
    assert "getFollowers" in failure.message
    assert count(settings, "bluesky_raw.followers") == 700
    assert pending(settings, "bluesky") == []
    replay.faults = []
    extract_once(settings)
    assert count(settings, "bluesky_raw.followers") == 1400


def test_null_cursor_half_way_is_found_by_the_fall_in_volume(
    replay: Replay, tmp_path: Path
) -> None:
    source = bluesky(replay.base_url, ACTOR, volume={"max_drop": 0.2})
    settings = settings_of(tmp_path, {"bluesky": source})
    extract_once(settings)
    replay.faults = [Fault("null_cursor", page=4)]
    [failure] = failures_of(settings)
    assert type(failure) is DataQualityError
    assert "400 rows after 700 in the last run" in failure.message
    assert count(settings, "bluesky_raw.followers") == 700
    assert pending(settings, "bluesky") == []


def test_too_few_rows_are_refused(replay: Replay, tmp_path: Path) -> None:
    source = bluesky(replay.base_url, ACTOR, volume={"min_rows": 701})
    [failure] = failures_of(settings := settings_of(tmp_path, {"bluesky": source}))
    assert type(failure) is DataQualityError
    assert "700 rows, at least 701" in failure.message
    assert_nothing_left(settings)


def test_refused_extraction_does_not_count_as_the_last_one(replay: Replay, tmp_path: Path) -> None:
    source = bluesky(replay.base_url, ACTOR, volume={"max_drop": 0.2})
    settings = settings_of(tmp_path, {"bluesky": source})
    extract_once(settings)
    replay.faults = [Fault("null_cursor", page=4)]
    failures_of(settings)
    [failure] = failures_of(settings)
    assert "after 700 in the last run" in failure.message
