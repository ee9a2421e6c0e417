"""Which incremental cursors are told to stand in the future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from etl.raw.early import tell_early_cursors

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def told(value: Any) -> list[str]:
    cursors = {"updated_at": {"last_value": value}}
    state = {"sources": {"shop": {"resources": {"orders": {"incremental": cursors}}, "other": 1}}}
    return list(tell_early_cursors("shop", state, NOW))


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-04", "2099-01-01T00:00:00Z", "2026-01-03T08:00:00+05:45", date(2026, 1, 4),
        datetime(2026, 1, 3, 8, tzinfo=timezone(timedelta(hours=5))),
    ],
)  # fmt: skip
def test_times_to_come_are_told(value: Any) -> None:
    [line] = told(value)
    assert line.startswith(f"shop.orders: its cursor updated_at stands at {value}")


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T12:00:00Z", "2026-01-03", "2026-01-03T01:00:00", date(2026, 1, 3), None, "",
        "zebra", 4_000_000_000, datetime(2026, 1, 2, 12, tzinfo=UTC), "2026-01-03T03:00:00+05:45",
    ],
)  # fmt: skip
def test_times_that_it_may_be_somewhere_and_what_is_no_time_are_not(value: Any) -> None:
    assert told(value) == []


def test_state_without_cursors_tells_nothing() -> None:
    assert list(tell_early_cursors("shop", {}, NOW)) == []
    assert list(tell_early_cursors("shop", {"sources": {"shop": {"resources": {}}}}, NOW)) == []
