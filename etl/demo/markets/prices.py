"""Prices of the replay's market as they are seen on a day: walks, splits, dividends, misprints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import mul
from typing import Final

from etl.demo.dice import Dice
from etl.demo.markets.calendar import trading_days

TICKERS: Final[Mapping[str, float]] = {
    "AAPL": 75.0, "MSFT": 160.0, "GOOGL": 68.0, "AMZN": 94.0, "META": 209.0, "NVDA": 60.0,
    "TSLA": 86.0,
}  # fmt: skip
"""The tickers that are known and their first price in USD."""
PAYING: Final = ("AAPL", "MSFT", "META", "NVDA")
"""Those that pay a dividend each quarter."""
MISPRINT_DAYS: Final = 3
"""After so many trading days a misprinted price is corrected."""


@dataclass(frozen=True)
class Bar:
    """A trading day of a ticker; prices in USD, as adjusted for the splits known so far.

    `adjusted` is the close that dividends are taken off as well.
    """

    day: date
    open: float
    high: float
    low: float
    close: float
    adjusted: float
    volume: int


@dataclass(frozen=True)
class Chart:
    """What is known of a ticker on a day: its bars, dividends per share and ratios of splits."""

    bars: tuple[Bar, ...]
    dividends: Mapping[date, float]
    splits: Mapping[date, int]


@dataclass(frozen=True)
class _Traded:
    """A day as it was traded then, before any later split; `misprint` is what was told at first."""

    open: float
    high: float
    low: float
    close: float
    volume: int
    misprint: float | None
    dividend: float
    ratio: int


@lru_cache(maxsize=32)
def chart(ticker: str, before: date) -> Chart:
    """All that is known of a ticker before the day `before`. Raises KeyError for an unknown one."""
    days = trading_days(before)
    traded = _walk(ticker, len(days))
    # What a split or dividend does to all earlier days, from the last day back to the first.
    ratios = _later([1 / t.ratio for t in traded])
    paid = [1 - t.dividend * t.ratio / earlier.close for earlier, t in pairwise(traded)]
    payouts = _later([1.0, *paid][: len(days)])
    bars = []
    for i, (day, t, ratio, payout) in enumerate(zip(days, traded, ratios, payouts, strict=True)):
        corrected = t.misprint is None or len(days) - i > MISPRINT_DAYS
        close = t.close if corrected or t.misprint is None else t.misprint
        bars.append(
            Bar(
                day, t.open * ratio, t.high * ratio, t.low * ratio, close * ratio,
                close * ratio * payout, round(t.volume / ratio),
            )
        )  # fmt: skip
    return Chart(
        tuple(bars),
        {day: t.dividend * r for day, t, r in zip(days, traded, ratios, strict=True) if t.dividend},
        {day: t.ratio for day, t in zip(days, traded, strict=True) if t.ratio > 1},
    )


def _later(factors: list[float]) -> list[float]:
    """For each day the product of the factors of all later days."""
    return list(accumulate(reversed(factors[1:]), mul, initial=1.0))[::-1] if factors else []


@lru_cache(maxsize=64)
def _walk(ticker: str, days: int) -> tuple[_Traded, ...]:
    """The first `days` trading days of a ticker, the same however many are asked for."""
    price, found = TICKERS[ticker], []
    start = sum(map(ord, ticker)) % 60
    for i in range(days):
        dice = Dice(f"market {ticker} {i}")
        ratio = dice.pick((2, 3, 4)) if price > 150 and dice.roll(40) == 0 else 1
        price /= ratio
        dividend = 0.0
        if ticker in PAYING and i % 63 == start:
            dividend = round(price * (20 + dice.roll(40)) / 10_000, 2)
        # The sum of three draws is near enough to a bell: ±4.5 %, a little more up than down.
        move = (sum(dice.roll(300) for _ in range(3)) - 447) / 10_000
        before, price = price - dividend, (price - dividend) * (1 + move)
        opened = before * (1 + (dice.roll(101) - 50) / 10_000)
        high = max(opened, price) * (1 + dice.roll(150) / 10_000)
        low = min(opened, price) * (1 - dice.roll(150) / 10_000)
        misprint = (high + low) / 2 if dice.chance(4) else None
        volume = 20_000_000 + dice.roll(60_000_000) + int(abs(move) * 500_000_000)
        found.append(_Traded(opened, high, low, price, volume, misprint, dividend, ratio))
    return tuple(found)
