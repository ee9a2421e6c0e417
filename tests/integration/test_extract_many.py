"""Several sources and chains: side by side, each on its own, and every row counted."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests

from etl.demo import Fault, Replay
from etl.errors import EtlError, ExtractError, LoadError, ReconciliationError
from etl.records import Options
from etl.sources.monitor import Monitor
from etl.sources.page_step import PageStep
from tests.integration.extracting import (
    bluesky,
    context,
    count,
    extract_once,
    failure_of,
    failures_of,
    pending,
    serving,
    settings_of,
)


def read_all(replay: Replay, actor: str) -> None:
    """Ask for every page of an actor's followers."""
    asked: dict[str, Any] | None = {"actor": actor, "limit": 100}
    while asked:
        answer = requests.get(f"{replay.base_url}app.bsky.graph.getFollowers", asked, timeout=60)
        cursor = answer.json().get("cursor")
        asked = asked | {"cursor": cursor} if cursor else None


def span(replay: Replay, since: int) -> float:
    """Seconds from the first request to the last one."""
    times = [r.at for r in replay.requests[since:]]
    return max(times) - min(times)


FOUR = [f"bulk-2000-{c}.test" for c in "abcd"]  # 20 pages each


def test_four_chains_take_little_longer_than_one(tmp_path: Path, replay: Replay) -> None:
    for actor in FOUR:  # the replay pays for making the pages before the clock runs
        read_all(replay, actor)
    replay.latency = 0.1
    start = len(replay.requests)
    extract_once(settings_of(tmp_path / "one", {"b": bluesky(replay.base_url, FOUR[0])}))
    one, middle = span(replay, start), len(replay.requests)
    extract_once(settings_of(tmp_path / "four", {"b": bluesky(replay.base_url, *FOUR)}))
    four = span(replay, middle)
    assert len(replay.requests) - middle == 80
    # Between the first and the last request all chains were under way. One behind the other they
    # take 4 times as long; the bound is wider than the 1.1 of a quiet machine.
    assert four < 2.0 * one, (one, four)


def test_sources_are_read_side_by_side(tmp_path: Path, replay: Replay) -> None:
    replay.latency = 0.1
    sources = {f"s{i}": bluesky(replay.base_url, f"bulk-800-{i}.test") for i in range(3)}
    settings = settings_of(tmp_path, sources)
    extract_once(settings)
    by_actor = [
        [r.at for r in replay.requests if r.actor == f"bulk-800-{i}.test"] for i in range(3)
    ]
    assert max(map(min, by_actor)) < min(map(max, by_actor))
    assert [count(settings, f"s{i}_raw.followers") for i in range(3)] == [800] * 3


def test_what_is_imported_meanwhile_is_whole_when_the_stage_ends(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []

    def import_slowly() -> None:
        time.sleep(1)
        imported.append("sqlmesh")

    monkeypatch.setattr("etl.stages.source._import_sqlmesh", import_slowly)
    settings = settings_of(tmp_path, {"b": bluesky(replay.base_url, "bulk-10.test")})
    ctx = context(settings)
    ctx.options = Options(stages=("extract", "transform"))
    extract_once(settings, ctx)
    assert imported == ["sqlmesh"]


def test_four_chains_stay_below_the_rate_limit(tmp_path: Path) -> None:
    with Replay(date(2026, 1, 2), rate_limit=(20, 1.0)) as replay:
        source = bluesky(replay.base_url, *FOUR, rate_limit={"requests": 20, "seconds": 1})
        started = time.monotonic()
        extract_once(settings_of(tmp_path, {"b": source}))
        took = time.monotonic() - started
        assert 429 not in [r.status for r in replay.requests]
        assert len(replay.requests) == 80
    # Four windows of a second, and the API tells their ends in whole seconds.
    assert took < 20


@pytest.mark.parametrize("wrong", [1, -1])
def test_row_lost_or_doubled_between_api_and_raw_is_found(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    real = PageStep.__call__

    def count_then_change(self: PageStep, item: Any, meta: Any = None) -> Any:
        rows = real(self, item, meta)
        return [*rows, rows[0]] if wrong > 0 else rows[:-1]

    monkeypatch.setattr(PageStep, "__call__", count_then_change)
    settings = settings_of(tmp_path, {"b": bluesky(replay.base_url, "bulk-300.test")})
    ctx = context(settings)
    failure = failure_of(settings, ReconciliationError, ctx)
    assert f"b_raw.followers: 300 rows came from the API, {300 + 3 * wrong} stand in raw" in (
        failure.message
    )
    [found] = ctx.run.reconciliations
    assert not found.agrees


def test_source_that_fails_holds_back_none_of_the_others(tmp_path: Path, replay: Replay) -> None:
    replay.faults = [Fault("missing_field", actor="bulk-301.test")]
    names = {"a": "bulk-300.test", "b": "bulk-301.test", "c": "bulk-302.test"}
    settings = settings_of(
        tmp_path, {n: bluesky(replay.base_url, actor) for n, actor in names.items()}
    )
    ctx = context(settings)
    failure = failure_of(settings, ExtractError, ctx)
    assert failure.subject == "b.followers[bulk-301.test]"
    assert [count(settings, f"{n}_raw.followers") for n in names] == [300, 0, 302]

    replay.faults = []
    before = len(replay.requests)
    extract_once(settings, ctx)
    assert {r.actor for r in replay.requests[before:]} == {"bulk-301.test"}
    assert [count(settings, f"{n}_raw.followers") for n in names] == [300, 301, 302]
    assert sorted(s.source for s in ctx.run.sources) == ["a", "b", "c"]


def test_source_that_the_settings_no_longer_name_is_told(tmp_path: Path) -> None:
    """Its tables are still there, its marts are published as they are: nobody would notice."""
    with serving(lambda *_: [{"id": 1}]) as api:
        source: dict[str, Any] = {
            "client": {"base_url": api.url, "paginator": "single_page"},
            "resources": [{"name": "rows", "write_disposition": "replace"}],
        }
        extract_once(settings_of(tmp_path, {"a": source, "b": source}))
        [told] = extract_once(settings_of(tmp_path, {"a": source})).run.warnings
        assert told.startswith("b_raw is of a source that the settings do not name")
        off = source | {"enabled": False}
        assert extract_once(settings_of(tmp_path, {"a": source, "b": off})).run.warnings == []


def test_bug_at_one_source_holds_back_none_of_the_others(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Monitor.check_source

    def check_source(self: Monitor) -> None:
        if self.source == "a":
            raise KeyError("what")
        real(self)

    monkeypatch.setattr(Monitor, "check_source", check_source)
    replay.faults = [Fault("missing_field", actor="bulk-301.test")]
    names = {"a": "bulk-300.test", "b": "bulk-301.test", "c": "bulk-302.test"}
    settings = settings_of(
        tmp_path, {n: bluesky(replay.base_url, actor) for n, actor in names.items()}
    )
    ctx = context(settings)
    failures = failures_of(settings, ctx)
    assert {(f.subject, type(f)) for f in failures} == {
        ("a", EtlError),
        ("b.followers[bulk-301.test]", ExtractError),
    }
    assert ctx.done_sources == {"c"}
    assert [count(settings, f"{n}_raw.followers") for n in names] == [0, 0, 302]


def test_package_that_the_warehouse_refuses_leaves_no_row_and_no_poison(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlt.destinations.exceptions import DatabaseTerminalException
    from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob

    real = DuckDbCopyJob.run

    def refuse_children(self: DuckDbCopyJob) -> None:
        if "followers__labels" in self.file_name():
            raise DatabaseTerminalException(ValueError("not like this"))
        real(self)

    settings = settings_of(tmp_path, {"b": bluesky(replay.base_url, "bulk-300.test")})
    with monkeypatch.context() as patch:
        patch.setattr(DuckDbCopyJob, "run", refuse_children)
        failure_of(settings, LoadError)
    assert count(settings, "b_raw.followers") == 0
    assert pending(settings, "b") == []
    assert len(list((settings.data / "quarantine" / "b").iterdir())) == 1
    extract_once(settings)
    assert count(settings, "b_raw.followers") == 300
    assert count(settings, "b_raw.followers__labels") == 300
