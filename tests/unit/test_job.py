"""The order of stages, retries, containment; stages are handed in."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import responses
from pydantic import SecretStr

from etl.errors import (
    ConfigError,
    DataQualityError,
    EtlError,
    ExitCode,
    LockedError,
    ResourcesError,
    StageError,
    UnreachableError,
)
from etl.job import run_job
from etl.lock import hold_lock
from etl.past_runs import last_failed, past_runs
from etl.records import LoadRun, Options, RunRecord
from etl.report import outcome
from etl.runs import utc_now
from etl.settings import Metrics, Notify, Retry, Settings, Source
from etl.stages import sequence
from etl.stages.context import RunContext
from etl.stages.scope import check_options
from etl.stop import Stop

Behaviour = Callable[[RunContext], None]
OPEN = "import duckdb, sys; duckdb.connect(sys.argv[1], read_only=True)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    source = Source(client={"base_url": "http://127.0.0.1:9"}, resources=("a",))
    retry = Retry(attempts=3, first_wait_seconds=0.001, max_wait_seconds=0.001)
    return Settings(project=tmp_path, sources={"api": source}, retry=retry)


@pytest.fixture
def play(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> Callable[..., tuple[RunRecord, list[str]]]:
    """Run the job with stages that do as they are told; also tells which were called."""

    def play(
        options: Options | None = None, resume: Any = None, **behaviours: Behaviour
    ) -> tuple[RunRecord, list[str]]:
        called: list[str] = []

        def load_stage(name: str) -> Behaviour:
            def act(ctx: RunContext) -> None:
                called.append(name)
                if name == "extract" and name not in behaviours:
                    ctx.done_sources.add("api")
                if name in behaviours:
                    behaviours[name](ctx)

            return act

        monkeypatch.setattr(sequence, "load_stage", load_stage)
        return run_job(settings, options or Options(), resume=resume), called

    return play


def fail(error: EtlError) -> Behaviour:
    def act(ctx: RunContext) -> None:
        raise error

    return act


def test_stages_run_in_pipeline_order_whatever_the_order_asked(play: Any) -> None:
    record, called = play()
    assert called == ["extract", "transform", "audit", "load"]
    assert record.exit_code == 0
    record, called = play(Options(stages=("load", "extract")))
    assert called == ["extract", "load"]


def test_a_failure_that_nothing_contains_stops_what_follows(play: Any) -> None:
    record, called = play(transform=fail(DataQualityError("x")))
    assert called == ["extract", "transform"]
    assert [s.status for s in record.stages] == ["ok", "failed", "skipped", "skipped"]
    assert record.exit_code == ExitCode.DATA_QUALITY


def test_contained_failures_let_the_rest_go_on(play: Any) -> None:
    def publish(ctx: RunContext) -> None:
        ctx.run.loads.append(
            LoadRun(model="m.a", target="t", table="a", strategy="replace", status="published")
        )

    record, called = play(transform=fail(StageError([DataQualityError("x")])), load=publish)
    assert called == ["extract", "transform", "audit", "load"]
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.partial


def test_when_no_source_came_through_what_depends_on_none_goes_on(play: Any) -> None:
    record, called = play(extract=fail(StageError([DataQualityError("x", subject="api")])))
    assert called == ["extract", "transform", "audit", "load"]
    assert [s.status for s in record.stages] == ["failed", "ok", "ok", "ok"]
    assert record.exit_code == ExitCode.DATA_QUALITY


def test_a_failure_that_may_pass_is_tried_again(play: Any) -> None:
    tries: list[int] = []

    def flaky(ctx: RunContext) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StageError([UnreachableError("down", subject="api")])
        ctx.done_sources.add("api")

    record, _ = play(extract=flaky)
    assert (len(tries), record.exit_code) == (3, 0)
    assert record.stages[0].attempts == 3


@pytest.mark.parametrize("error", [UnreachableError("down"), ResourcesError("full")])
def test_retries_are_bounded(play: Any, error: EtlError) -> None:
    record, called = play(extract=fail(error))
    assert called == ["extract"] * 3
    assert record.exit_code == error.code


def test_no_try_begins_after_the_time_for_all_of_them(play: Any, settings: Settings) -> None:
    vars(settings)["retry"] = Retry(
        attempts=9, first_wait_seconds=60, max_wait_seconds=60, max_total_seconds=20
    )
    _, called = play(extract=fail(UnreachableError("down")))
    assert called == ["extract"]


def test_warehouse_is_free_while_a_stage_waits_and_when_others_are_told(
    play: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may want to read it then; while a stage works it cannot."""
    settings.data.mkdir()
    settings.__dict__["metrics"] = Metrics(textfile=Path("etl.prom"))
    read: list[tuple[str, bool]] = []

    def reading(when: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            command = [sys.executable, "-c", OPEN, str(settings.warehouse)]
            code = subprocess.run(command, capture_output=True, check=False).returncode
            read.append((when, code == 0))
            return function(*arguments)

        return call

    def flaky(ctx: RunContext) -> None:
        if len(read) == 1:
            raise UnreachableError("down")

    monkeypatch.setattr(Stop, "wait", reading("waiting", Stop.wait))
    monkeypatch.setattr(outcome, "tell_outcome", reading("told", outcome.tell_outcome))
    record, _ = play(load=reading("load", flaky))
    assert record.exit_code == 0
    assert read == [("load", False), ("waiting", True), ("load", False), ("told", True)]


def test_others_are_told_when_the_end_of_the_run_has_to_be_forced(
    play: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written, and what comes before the telling hangs."""
    settings.__dict__["metrics"] = Metrics(textfile=Path("etl.prom"))
    last_words: list[Callable[[ExitCode], None]] = []

    @contextmanager
    def stopping(stop: Stop, words: Callable[[ExitCode], None]) -> Iterator[None]:
        last_words.append(words)
        yield

    def hang(*_: Any) -> None:
        last_words[0](ExitCode.TERMINATED)
        raise SystemExit

    monkeypatch.setattr("etl.job.stopping", stopping)
    monkeypatch.setattr("etl.job._keep_history", hang)
    with pytest.raises(SystemExit):
        play(load=fail(DataQualityError("x")))
    told = (settings.data / "etl.prom").read_text(encoding="utf-8")
    assert 'etl_run_class{class="DATA_QUALITY",etl_job="etl"} 1.0' in told
    assert (settings.data / "runs/latest/report.html").exists()


def test_nothing_else_is_tried_again(play: Any) -> None:
    _, called = play(extract=fail(DataQualityError("x")))
    assert called == ["extract"]


def test_an_unclassified_failure_ends_in_the_record_with_code_1(play: Any) -> None:
    def crash(ctx: RunContext) -> None:
        raise KeyError("what")

    record, _ = play(transform=crash)
    assert record.exit_code == ExitCode.UNEXPECTED
    assert "KeyError" in record.failures[0].message
    assert record.status == "finished"


def test_retry_goes_on_at_the_stage_that_failed_under_the_same_id(play: Any) -> None:
    first, _ = play(audit=fail(DataQualityError("x")))
    second, called = play(resume=last_failed)
    assert called == ["audit", "load"]
    assert (second.run_id, second.attempt, second.exit_code) == (first.run_id, 2, 0)


def test_a_dry_run_leaves_no_trace(play: Any, settings: Settings) -> None:
    record, called = play(Options(dry_run=True))
    assert called == ["extract", "transform", "audit", "load"]
    assert [s.status for s in record.stages] == ["dry_run"] * 4
    assert not settings.data.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(sources=("nope",)), "nope: no such source"),
        (Options(start="yesterday-ish"), "is no date"),
        (Options(start="2026-02-01", end="2026-01-01"), "lies after"),
        (Options(end="2999-01-01"), "at the latest now"),
        (Options(end=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}-12:00"), "at the latest now"),
    ],
)
def test_wrong_options_are_found_before_anything_starts(
    settings: Settings, options: Options, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_options(settings, options, utc_now())


def test_a_source_that_is_off_is_not_called_unknown(settings: Settings) -> None:
    off = settings.sources["api"].model_copy(update={"enabled": False})
    settings.sources["off"] = off
    with pytest.raises(ConfigError, match="--source off: has `enabled: false`") as caught:
        check_options(settings, Options(sources=("off",)), utc_now())
    assert caught.value.hint == "sources: api"


def test_an_end_may_name_its_zone(settings: Settings) -> None:
    east = timezone(timedelta(hours=13))
    check_options(settings, Options(end=datetime.now(east).isoformat()), utc_now())


def test_a_clock_that_is_behind_the_first_interval_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"2020-01-01 is to come: it is 1970-01-01"):
        check_options(settings, Options(), datetime(1970, 1, 1, tzinfo=UTC))


def test_the_demo_points_the_sources_that_ship_at_the_replay_and_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {
        "bluesky": "https://public.api.bsky.app/xrpc/",
        "shop": "https://api.shop.example/v1/",
        "own": "https://example.com/api.shop.example/",
    }
    sources = {n: Source(client={"base_url": url}, resources=("a",)) for n, url in urls.items()}
    market = "https://query2.finance.yahoo.com/"
    sources["markets"] = Source(factory="a.module:prices", arguments={"base_url": market})
    urls["markets"] = market
    seen: list[dict[str, str]] = []

    def look(ctx: RunContext) -> None:
        given = {n: s.client or s.arguments for n, s in ctx.settings.sources.items()}
        seen.append({name: values["base_url"] for name, values in given.items()})

    monkeypatch.setattr(sequence, "load_stage", lambda name: look)
    for demo in (True, False):
        changed = settings.model_copy(update={"demo": demo, "sources": sources})
        run_job(changed, Options(stages=("extract",)))
    replayed, live = seen
    assert live == urls
    assert replayed["own"] == urls["own"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/xrpc/", replayed["bluesky"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/shop/v1/", replayed["shop"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/yahoo/", replayed["markets"])


def test_a_place_that_hears_nothing_is_a_warning_of_the_record(
    play: Any, settings: Settings
) -> None:
    settings.__dict__["metrics"] = Metrics(
        textfile=Path("etl.prom"), pushgateway="http://127.0.0.1:9"
    )
    record, _ = play(load=fail(DataQualityError("x")))
    assert record.exit_code == 3
    assert record.warnings == (
        "metrics: the Pushgateway could not be reached (ConnectionRefusedError)",
    )
    assert next(past_runs(settings)) == record
    assert 'etl_run_exit_code{etl_job="etl"} 3.0' in (settings.data / "etl.prom").read_text()


@responses.activate
@pytest.mark.parametrize("stage", ["extract", "load"])
def test_a_record_that_cannot_be_written_is_told(play: Any, settings: Settings, stage: str) -> None:
    """A full disk is when somebody has to hear of it."""
    hook = "https://chat.example/hook"
    settings.__dict__["notify"] = Notify(webhook=SecretStr(hook))
    post = responses.post(hook, status=200)

    def fill_the_disk(ctx: RunContext) -> None:
        ctx.done_sources.add("api")
        shutil.rmtree(ctx.run.folder)
        ctx.run.folder.touch()

    record, called = play(**{stage: fill_the_disk})
    assert called[-1] == stage
    assert (record.exit_code, record.status) == (ExitCode.RESOURCES, "finished")
    assert len(record.failures) == 1
    assert [json.loads(c.request.body)["class"] for c in post.calls] == ["RESOURCES"]


@responses.activate
def test_a_run_that_cannot_begin_notifies(settings: Settings) -> None:
    hook = "https://chat.example/hook"
    settings.__dict__["notify"] = Notify(webhook=SecretStr(hook))
    post = responses.post(hook, status=200)
    with hold_lock(settings, 0), pytest.raises(LockedError):
        run_job(settings, Options())
    with pytest.raises(ConfigError):
        run_job(settings, Options(sources=("nosuch",)))
    told = [json.loads(c.request.body)["class"] for c in post.calls]
    assert told == ["LOCKED", "CONFIG"]
    # A person's affairs.
    for options in (Options(environment="dev", sources=("x",)), Options(dry_run=True, end="x")):
        with pytest.raises(ConfigError):
            run_job(settings, options)
    assert len(post.calls) == 2
