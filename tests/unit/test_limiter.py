"""The rate limiter, with a clock that only its own waits move."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from etl.sources.limiter import RateLimiter, seconds_of

NOW = 1_767_355_200.0  # 2026-01-02 12:00 UTC


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def limiter(clock: Clock, requests: int | None = None, seconds: float = 0.0) -> RateLimiter:
    return RateLimiter(requests, seconds, wait=clock.wait, clock=clock, wall_clock=lambda: NOW)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        (formatdate(NOW + 9, usegmt=True), 9.0),
        (formatdate(NOW - 9, usegmt=True), 0.0),
        (str(int(NOW) + 12), 12.0),
        (str(int(NOW + 12) * 1000), 12.0),
        ("inf", None),
        (str(int(NOW) - 12), 0.0),
        ("-3", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_headers_are_read_as_seconds_dates_and_unix_times(
    header: str | None, seconds: float | None
) -> None:
    assert seconds_of(header, NOW) == seconds


def test_no_window_holds_more_requests_than_allowed() -> None:
    clock, sent = Clock(), []
    limit = limiter(clock, 5, 10.0)
    for number in range(40):
        with limit.slot():
            sent.append(clock.now)
            clock.now += 0.1 + 0.05 * (number % 3)
    for first in sent:
        assert len([s for s in sent if first <= s < first + 10.0]) <= 5


def test_slot_comes_back_after_the_answer_not_after_the_question() -> None:
    clock = Clock()
    limit = limiter(clock, 1, 10.0)
    with limit.slot():
        clock.now += 4.0  # the server may have counted it as late as now
    with limit.slot():
        assert clock.now == 1014.0


def test_slot_comes_back_although_the_request_failed() -> None:
    clock = Clock()
    limit = limiter(clock, 1, 10.0)
    with pytest.raises(OSError, match="gone"), limit.slot():
        raise OSError("gone")
    with limit.slot():
        assert clock.now == 1010.0


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    limit = limiter(clock)
    for _ in range(100):
        with limit.slot():
            pass
    assert clock.waits == []


def test_block_holds_every_request() -> None:
    clock = Clock()
    limit = limiter(clock)
    limit.block(3.0)
    limit.block(1.0)  # the longer one counts
    with limit.slot():
        assert clock.now == 1003.0


@pytest.mark.parametrize("prefix", ["", "x-"])
@pytest.mark.parametrize("reset", ["20", str(int(NOW) + 20)])
def test_requests_wait_for_the_reset_when_none_remain(prefix: str, reset: str) -> None:
    clock = Clock()
    limit = limiter(clock)
    limit.learn({f"{prefix}ratelimit-remaining": "0", f"{prefix}ratelimit-reset": reset})
    with limit.slot():
        assert clock.now == 1020.0


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit-remaining": "5", "ratelimit-reset": "20"},
        {"ratelimit-remaining": "0"},
        {"ratelimit-reset": "20"},
        {"ratelimit-remaining": "none", "ratelimit-reset": "20"},
        {"ratelimit-remaining": "0", "ratelimit-reset": "later"},
    ],
)
def test_requests_go_on_while_some_remain_or_nothing_is_said(headers: dict[str, str]) -> None:
    clock = Clock()
    limit = limiter(clock)
    limit.learn(headers)
    with limit.slot():
        assert clock.waits == []


def test_requests_under_way_count_against_what_remains() -> None:
    clock = Clock()
    limit = limiter(clock)
    with limit.slot(), limit.slot(), limit.slot():
        limit.learn({"ratelimit-remaining": "2", "ratelimit-reset": "20"})
    with limit.slot():
        assert clock.now == 1020.0
