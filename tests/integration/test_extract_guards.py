"""The guards: each ends with its class, says where, and leaves nothing behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl.demo import Fault, Replay
from etl.errors import AuthError, DataQualityError, EtlError, ExtractError, UnreachableError
from etl.raw.places import NotReachedError
from etl.settings import Settings
from etl.sources.http import ApiSession
from etl.stages.context import RunContext
from tests.integration.extracting import (
    bluesky,
    context,
    count,
    extract_once,
    failure_of,
    failures_of,
    pending,
    query,
    serving,
    settings_of,
)

ACTOR = "bulk-700.test"


@pytest.fixture(autouse=True, scope="module")
def no_waits() -> Iterator[None]:
    """Retries do not wait."""
    real = ApiSession.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs | {"wait": lambda _: None})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ApiSession, "__init__", init)
        yield


def left(settings: Settings, source: str = "bluesky") -> tuple[int, list[str]]:
    """Rows in raw and pending packages."""
    return count(settings, f"{source}_raw.followers"), pending(settings, source)


NOTHING: tuple[int, list[str]] = (0, [])


# -- many broken APIs, read side by side: one source each ------------------------------------------

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
    ("disconnect", {"page": 2}, NotReachedError, "cannot be reached"),
    ("cut", {"page": 2}, NotReachedError, "cannot be reached"),
    ("timeout", {"page": 2, "seconds": 5}, NotReachedError, "cannot be reached"),
]
# Sources whose guards refuse what a good API sends: settings, class, message.
REFUSED: dict[str, tuple[dict[str, Any], type[EtlError], str]] = {
    "capped": (
        {"guards": {"max_pages": 4}}, ExtractError,
        "page 4: more than 4 pages (guards.max_pages)",
    ),
    "few": ({"volume": {"min_rows": 701}}, DataQualityError, "700 rows, at least 701"),
    "empty": ({}, DataQualityError, "empty: the source is required and returned no row"),
}  # fmt: skip


def tag(kind: str) -> str:
    """A kind as actors and sources are named."""
    return "api" + kind.replace("-", "").replace("_", "")


def actor_of(kind: str) -> str:
    return f"bulk-700-{tag(kind)}.test"


@dataclass(frozen=True)
class Extraction:
    """One extraction of many sources: what each failed with, and what it left."""

    settings: Settings
    ctx: RunContext
    replay: Replay
    failures: tuple[EtlError, ...] = ()
    left: Mapping[str, tuple[int, list[str]]] = field(default_factory=dict)

    def failure(self, source: str) -> EtlError:
        [found] = [
            f for f in self.failures if f.message.startswith((f"{source}:", f"{source}.followers"))
        ]
        return found


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extraction]:
    """An extraction from all of these at once; afterwards the APIs are good again."""
    with Replay(date(2026, 1, 2), cache=True) as replay:
        sources = {}
        for kind, _, _, _ in BROKEN:
            source = bluesky(replay.base_url, actor_of(kind), attempts=3)
            if kind == "timeout":
                source["timeout_seconds"] = 0.3
            source["resources"][0]["endpoint"]["params"]["api_key"] = "s3cret"
            sources[tag(kind)] = source
        for name, (more, _, _) in REFUSED.items():
            sources[name] = bluesky(replay.base_url, actor_of(name), **more)
        settings = settings_of(tmp_path_factory.mktemp("refused"), sources)
        replay.faults = [
            *(Fault(kind, actor=actor_of(kind), **where) for kind, where, _, _ in BROKEN),
            Fault("empty", actor=actor_of("empty")),
        ]
        ctx = context(settings)
        failures = failures_of(settings, ctx)
        replay.faults = []
        found = {name: left(settings, name) for name in sources}
        yield Extraction(settings, ctx, replay, failures, found)


@pytest.mark.parametrize(("kind", "where", "error", "message"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_api_ends_with_its_class_and_leaves_nothing(
    refused: Extraction, kind: str, where: Any, error: type[EtlError], message: str
) -> None:
    failure = refused.failure(tag(kind))
    assert type(failure) is error
    assert message in failure.message
    assert failure.message.startswith(f"{tag(kind)}.followers[{actor_of(kind)}], page ")
    assert "getFollowers?" in failure.message
    assert "s3cret" not in failure.message
    assert ("response_actions" in failure.hint) == (kind == "404")
    assert refused.left[tag(kind)] == NOTHING


@pytest.mark.parametrize(
    ("kind", "asked"), [("500", 3), ("503", 3), ("429", 3), ("disconnect", 3), ("404", 1)]
)
def test_request_is_tried_as_often_as_told_and_no_more(
    refused: Extraction, kind: str, asked: int
) -> None:
    requests = [r for r in refused.replay.requests if r.actor == actor_of(kind)]
    assert len([r for r in requests if r.page == 2]) == asked


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_guard_refuses_is_told_and_leaves_nothing(refused: Extraction, name: str) -> None:
    _, error, message = REFUSED[name]
    failure = refused.failure(name)
    assert type(failure) is error
    assert message in failure.message
    assert refused.left[name] == NOTHING


def test_every_source_fails_on_its_own(refused: Extraction) -> None:
    assert len(refused.failures) == len(BROKEN) + len(REFUSED)
    assert refused.ctx.run.reconciliations == []


@pytest.mark.parametrize("kind", ["missing_field", "401", "disconnect"])
def test_api_that_was_mended_is_read_whole_and_once(refused: Extraction, kind: str) -> None:
    settings, name = refused.settings, tag(kind)
    extract_once(settings, context(settings, sources=(name,)))
    assert count(settings, f"{name}_raw.followers") == 700
    assert query(settings, f"SELECT count(*) FROM {name}_raw._dlt_loads") == [(1,)]


# -- faults that cost nothing ----------------------------------------------------------------------

PASSING = ["503", "500", "429", "429-date", "disconnect", "cut", "html-502"]


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extraction]:
    """One extraction of a chain per fault that passes, and of sources that are only just good."""
    with Replay(date(2026, 1, 2), cache=True) as replay:
        actors = [actor_of(kind) for kind in (*PASSING, "empty_page")]
        just = bluesky(replay.base_url, ACTOR, guards={"max_pages": 7})
        empty = bluesky(replay.base_url, actor_of("empty"), required=False)
        settings = settings_of(
            tmp_path_factory.mktemp("passed"),
            {"bluesky": bluesky(replay.base_url, *actors), "just": just, "empty": empty},
        )
        replay.faults = [
            *(Fault(kind, actor=actor_of(kind), page=2, times=2) for kind in PASSING),
            Fault("empty_page", actor=actor_of("empty_page"), page=3),
            Fault("empty", actor=actor_of("empty")),
        ]
        yield Extraction(settings, extract_once(settings), replay)


@pytest.mark.parametrize("kind", PASSING)
def test_fault_that_passes_costs_retries_and_no_row(passed: Extraction, kind: str) -> None:
    actor = actor_of(kind)
    pages = [r.page for r in passed.replay.requests if r.actor == actor]
    assert sorted(pages) == [1, 2, 2, 2, 3, 4, 5, 6, 7]
    found = query(
        passed.settings, f"SELECT count(*) FROM bluesky_raw.followers WHERE actor = '{actor}'"
    )
    assert found == [(700,)]


def test_retries_are_counted(passed: Extraction) -> None:
    [source] = [s for s in passed.ctx.run.sources if s.source == "bluesky"]
    # The empty page is a page more, and no retry.
    chains = len(PASSING) + 1
    assert (source.rows, source.pages) == (700 * chains, 7 * chains + 1)
    assert (source.requests, source.retries) == (9 * len(PASSING) + 8, 2 * len(PASSING))


def test_empty_page_in_the_middle_loses_nothing(passed: Extraction) -> None:
    actor = actor_of("empty_page")
    found = query(
        passed.settings, f"SELECT count(*) FROM bluesky_raw.followers WHERE actor = '{actor}'"
    )
    assert found == [(700,)]


def test_page_cap_lets_a_chain_of_just_that_length_pass(passed: Extraction) -> None:
    assert count(passed.settings, "just_raw.followers") == 700


def test_empty_source_that_is_not_required_passes(passed: Extraction) -> None:
    assert [s.rows for s in passed.ctx.run.sources if s.source == "empty"] == [0]
    assert pending(passed.settings, "empty") == []


# -- alone -----------------------------------------------------------------------------------------


def test_dead_port_is_a_connection_failure(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/xrpc/"
    settings = settings_of(tmp_path, {"bluesky": bluesky(url, ACTOR)})
    failure = failure_of(settings, NotReachedError)
    assert url in failure.message
    assert left(settings) == NOTHING


def test_empty_pages_for_ever_end_the_chain(tmp_path: Path) -> None:
    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        return {"followers": [], "cursor": str(int(query.get("cursor", "0")) + 1)}

    with serving(answer) as api:
        source = bluesky(api.url, "a", guards={"max_empty_pages": 6})
        failure = failure_of(settings := settings_of(tmp_path, {"bluesky": source}), ExtractError)
    assert "page 6: 6 empty pages in a row" in failure.message
    assert len(api.asked) == 6
    assert left(settings) == NOTHING


# -- against the last run --------------------------------------------------------------------------


def test_less_than_the_last_run_had_is_refused_and_does_not_count_as_the_last(
    replay: Replay, tmp_path: Path
) -> None:
    faults = {
        "no_cursor": Fault("no_cursor", actor=actor_of("no_cursor"), page=1),
        "null_cursor": Fault("null_cursor", actor=actor_of("null_cursor"), page=1),
        # Half-way no guard of pages sees it: the fall in volume does.
        "volume": Fault("null_cursor", actor=actor_of("volume"), page=4),
    }
    settings = settings_of(
        tmp_path,
        {
            name: bluesky(replay.base_url, actor_of(name))
            | ({"volume": {"max_drop": 0.2}} if name == "volume" else {})
            for name in faults
        },
    )
    extract_once(settings)
    replay.faults = tuple(faults.values())
    for time in ("first", "second"):
        failures = {f.message.split(":")[0].split(".")[0]: f for f in failures_of(settings)}
        assert failures.keys() == faults.keys(), time
        assert {type(f) for f in failures.values()} == {DataQualityError}, time
        for name in ("no_cursor", "null_cursor"):
            message = failures[name].message
            where = f"{name}.followers[{actor_of(name)}]"
            assert f"{where}: ended after page 1, the last run had 7 pages" in message, time
            assert "getFollowers" in message
        assert "400 rows after 700 in the last run" in failures["volume"].message, time
        for name in faults:
            assert count(settings, f"{name}_raw.followers") == 700, (name, time)
            assert pending(settings, name) == [], (name, time)
    replay.faults = ()
    extract_once(settings)
    for name in faults:
        assert count(settings, f"{name}_raw.followers") == 1400, name
