"""Days on which the replay's exchange trades: New York's, without Good Friday."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

FIRST: Final = date(2020, 1, 2)
"""The first trading day that the replay knows."""
ZONE: Final = ZoneInfo("America/New_York")
_DAY: Final = timedelta(days=1)


@lru_cache(maxsize=16)
def trading_days(before: date) -> tuple[date, ...]:
    """All trading days from `FIRST` on, the last one before `before`."""
    days = (FIRST + timedelta(days=n) for n in range((before - FIRST).days))
    return tuple(day for day in days if day.weekday() < 5 and day not in _holidays(day.year))


@lru_cache(maxsize=1 << 14)
def opening(day: date) -> int:
    """When the exchange opens on a day, 9:30 in New York, in seconds since 1970."""
    return int(datetime.combine(day, time(9, 30), ZONE).astimezone(UTC).timestamp())


@lru_cache(maxsize=256)
def _holidays(year: int) -> frozenset[date]:
    fixed = [date(year, 7, 4), date(year, 12, 25)]
    if year >= 2022:
        fixed.append(date(year, 6, 19))
    new_year = date(year, 1, 1)
    may = date(year, 5, 31)
    return frozenset(
        [
            *map(_observed, fixed),
            # A new year on a Saturday is not made up for: its Friday belongs to the old year.
            new_year if new_year.weekday() < 6 else new_year + _DAY,
            _nth(year, 1, weekday=0, n=3),
            _nth(year, 2, weekday=0, n=3),
            may - timedelta(days=may.weekday()),
            _nth(year, 9, weekday=0, n=1),
            _nth(year, 11, weekday=3, n=4),
        ]
    )


def _observed(day: date) -> date:
    """The working day that a holiday on a weekend is moved to."""
    return day + {5: -_DAY, 6: _DAY}.get(day.weekday(), timedelta())


def _nth(year: int, month: int, *, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))
