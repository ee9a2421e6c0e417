"""Each fault bends exactly the requests it names."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from etl.demo import Fault, Replay, parse_fault
from etl.demo.faults import KINDS

ACTOR = "bulk-250.test"
FOLLOWERS = "app.bsky.graph.getFollowers"


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay(date(2026, 1, 1)) as served:
        yield served


def get(replay: Replay, actor: str = ACTOR, method: str = FOLLOWERS, **query: str) -> Any:
    query |= {"actor": actor, "limit": "100"}
    return requests.get(replay.base_url + method, params=query, timeout=10)


def read(replay: Replay, most: int = 10) -> list[list[dict[str, Any]]]:
    """The rows page by page, as a client reads that goes on while there is a cursor."""
    found: list[list[dict[str, Any]]] = []
    cursor: dict[str, str] = {}
    while len(found) < most:
        page = get(replay, **cursor).json()
        found.append(page["followers"])
        if not page.get("cursor"):
            break
        cursor = {"cursor": page["cursor"]}
    return found


def sizes(replay: Replay) -> list[int]:
    return [len(rows) for rows in read(replay)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503, 504])
def test_error_status_comes_as_xrpc_json_as_often_as_told(replay: Replay, status: int) -> None:
    replay.faults = (Fault(str(status), times=2),)
    answers = [get(replay) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert set(answers[0].json()) == {"error", "message"}
    assert [request.status for request in replay.requests] == [status, status, 200]


def test_429_says_when_to_come_back_in_seconds_as_a_date_or_not(replay: Replay) -> None:
    replay.faults = (Fault("429", seconds=7, times=1), Fault("429-date", seconds=60, times=1),
                     Fault("429-bare"))  # fmt: skip
    answers = [get(replay) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {429}
    seconds, until, nothing = (answer.headers.get("retry-after") for answer in answers)
    assert (seconds, nothing) == ("7", None)
    assert 50 < (parsedate_to_datetime(until) - datetime.now(UTC)).total_seconds() <= 62


def test_503_says_when_to_come_back_if_told(replay: Replay) -> None:
    replay.faults = (Fault("503", seconds=3, times=1), Fault("503"))
    assert [get(replay).headers.get("retry-after") for _ in range(2)] == ["3", None]


@pytest.mark.parametrize(("kind", "status"), [("html", 200), ("html-403", 403), ("html-502", 502)])
def test_html_page_comes_with_its_status(replay: Replay, kind: str, status: int) -> None:
    replay.faults = (Fault(kind),)
    answer = get(replay)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!DOCTYPE html>")


def test_truncated_page_is_a_whole_response_of_half_json(replay: Replay) -> None:
    replay.faults = (Fault("truncated"),)
    answer = get(replay)
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_cut_page_ends_before_its_length(replay: Replay) -> None:
    replay.faults = (Fault("cut", times=1),)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(replay)
    assert get(replay).status_code == 200


def test_disconnect_closes_without_an_answer(replay: Replay) -> None:
    replay.faults = (Fault("disconnect", times=1),)
    with pytest.raises(requests.ConnectionError):
        get(replay)
    assert get(replay).status_code == 200
    assert [request.status for request in replay.requests] == [0, 200]


def test_timeout_is_silent_and_does_not_hold_up_closing() -> None:
    with Replay(date(2026, 1, 1), faults=[Fault("timeout", seconds=60)]) as replay:
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{replay.base_url}{FOLLOWERS}?actor={ACTOR}", timeout=0.1)
        closing = time.monotonic()
    assert time.monotonic() - closing < 1


def test_latency_delays_and_joins_with_another_fault(replay: Replay) -> None:
    replay.faults = (Fault("latency", seconds=0.1), Fault("500"))
    asked = time.monotonic()
    assert get(replay).status_code == 500
    assert time.monotonic() - asked >= 0.1


def test_latency_of_the_replay_delays_every_answer() -> None:
    with Replay(date(2026, 1, 1), latency=0.1) as replay:
        asked = time.monotonic()
        assert get(replay, actor="nobody.test").status_code == 400
        assert time.monotonic() - asked >= 0.1


def test_repeat_cursor_never_ends(replay: Replay) -> None:
    replay.faults = (Fault("repeat_cursor", page=2),)
    assert sizes(replay) == [100] * 10
    assert {request.query.get("cursor") for request in replay.requests[2:]} == {
        replay.requests[1].query["cursor"]
    }


@pytest.mark.parametrize(
    ("fault", "pages"),
    [
        (Fault("empty_page", page=2), [100, 0, 100, 50]),
        (Fault("empty_page"), [0, 100, 0, 100, 0, 50]),
        (Fault("null_cursor", page=2), [100, 100]),
        (Fault("no_cursor", page=1), [100]),
        (Fault("empty"), [0]),
    ],
)
def test_pages_are_empty_or_end_too_early(replay: Replay, fault: Fault, pages: list[int]) -> None:
    replay.faults = (fault,)
    assert sizes(replay) == pages


def test_a_cursor_that_is_missing_may_be_there_as_null(replay: Replay) -> None:
    replay.faults = (Fault("null_cursor", times=1), Fault("no_cursor"))
    assert get(replay).json()["cursor"] is None
    assert "cursor" not in get(replay).json()


def test_missing_field_leaves_a_page_without_its_list(replay: Replay) -> None:
    replay.faults = (Fault("missing_field"),)
    assert set(get(replay).json()) == {"subject", "cursor"}


def test_extra_field_is_new_or_retypes_one(replay: Replay) -> None:
    replay.faults = (
        Fault("extra_field", page=1),
        Fault("extra_field", field="indexedAt", value=7, page=2),
    )
    first, second, third = read(replay)
    assert {row["newField"] for row in first} == {"new"}
    assert {row["indexedAt"] for row in second} == {7}
    assert not any("newField" in row for row in third)


def test_drop_field_takes_it_from_every_row(replay: Replay) -> None:
    replay.faults = (Fault("drop_field", field="did"),)
    assert not any("did" in row for rows in read(replay) for row in rows)


def test_repeat_row_serves_one_twice(replay: Replay) -> None:
    replay.faults = (Fault("repeat_row", page=2),)
    rows = [row["did"] for page in read(replay) for row in page]
    assert (len(rows), len(set(rows))) == (251, 250)


def test_fault_strikes_only_its_actor_method_and_pages(replay: Replay) -> None:
    replay.faults = (Fault("500", actor=ACTOR, method="getFollowers", page=(1, 3)),)
    assert get(replay).status_code == 500
    assert get(replay, actor="bulk-9.test").status_code == 200
    assert get(replay, method="app.bsky.graph.getFollows").status_code == 200


def test_fault_strikes_the_nth_request(replay: Replay) -> None:
    replay.faults = (Fault("500", request=3),)
    assert [get(replay).status_code for _ in range(4)] == [200, 200, 500, 200]


def test_setting_faults_starts_their_counts_anew(replay: Replay) -> None:
    for _ in range(2):
        replay.faults = (Fault("500", times=1),)
        assert [get(replay).status_code for _ in range(2)] == [500, 200]
    replay.faults = ()
    assert get(replay).status_code == 200


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("500", Fault("500")),
        ("429:request=3,times=2,seconds=0.5", Fault("429", request=3, times=2, seconds=0.5)),
        ("empty:actor=chess.com,method=getFollows", Fault("empty", "getFollows", "chess.com")),
        ("cut:page=2-4", Fault("cut", page=(2, 3, 4))),
        ("extra_field:field=elo,value=7", Fault("extra_field", field="elo", value=7)),
        ("extra_field:value=null", Fault("extra_field", value=None)),
        ("extra_field:value=1.5", Fault("extra_field", value=1.5)),
        ("extra_field:value=x y", Fault("extra_field", value="x y")),
    ],
)
def test_spec_names_a_fault(spec: str, fault: Fault) -> None:
    assert parse_fault(spec) == fault


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("418", "unknown fault '418'; one of 429"),
        ("500:page", "'page' is not key=value"),
        ("500:often=2", "unknown key 'often'"),
        ("500:times=x", "invalid literal"),
    ],
)
def test_wrong_spec_names_what_is_wrong(spec: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_fault(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_example_of_itself(kind: str) -> None:
    assert parse_fault(KINDS[kind][1]).kind == kind


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"timeout"}))
def test_no_kind_brings_the_replay_down(replay: Replay, kind: str) -> None:
    replay.faults = (Fault(kind, times=1, seconds=0),)
    with contextlib.suppress(requests.RequestException):
        get(replay)
    assert len(replay.requests) == 1
    assert get(replay).status_code == 200
