"""The replay's market is the same for everyone, and tells what Yahoo's chart API tells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import requests

from etl.demo import Replay
from etl.demo.markets.calendar import ZONE, opening, trading_days
from etl.demo.markets.prices import MISPRINT_DAYS, TICKERS, chart

NEW_YEAR = date(2026, 1, 1)


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(NEW_YEAR) as running:
        yield running


def ask(replay: Replay, ticker: str, **query: Any) -> requests.Response:
    url = f"{replay.market_url}v8/finance/chart/{ticker}"
    return requests.get(url, params={"interval": "1d"} | query, timeout=10)


# Closed by the rules of the New York Stock Exchange; Good Friday is traded in the replay.
@pytest.mark.parametrize(
    "holiday",
    [
        "2020-01-20", "2020-02-17", "2020-05-25", "2020-07-03", "2020-09-07", "2020-11-26",
        "2020-12-25", "2021-01-01", "2021-07-05", "2021-12-24", "2022-06-20", "2023-01-02",
        "2024-06-19", "2024-11-28", "2025-01-20", "2025-09-01", "2025-12-25",
    ],
)  # fmt: skip
def test_the_exchange_is_closed_on_holidays(holiday: str) -> None:
    assert date.fromisoformat(holiday) not in trading_days(NEW_YEAR)


def test_all_other_working_days_are_traded() -> None:
    days = trading_days(NEW_YEAR)
    assert days[0] == date(2020, 1, 2)
    assert max(b - a for a, b in pairwise(days)) == timedelta(days=4)
    assert sum(d.year == 2025 for d in days) == 252
    # New Year's Day of 2022 was a Saturday.
    assert {date(2021, 12, 31), date(2021, 6, 18), date(2025, 12, 31)} <= set(days)


def test_the_exchange_opens_at_half_past_nine_in_summer_and_winter() -> None:
    for day in (date(2025, 1, 2), date(2025, 7, 2)):
        assert datetime.fromtimestamp(opening(day), ZONE).time().isoformat() == "09:30:00"


@pytest.mark.parametrize("ticker", TICKERS)
def test_a_day_shows_only_what_is_over(ticker: str) -> None:
    known = chart(ticker, NEW_YEAR)
    assert known.bars[-1].day == date(2025, 12, 31)
    assert len(known.bars) == len(trading_days(NEW_YEAR))
    for bar in known.bars:
        assert 0 < bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high
        assert bar.volume > 0


def test_what_was_misprinted_is_corrected_three_trading_days_later() -> None:
    days = trading_days(date(2025, 12, 31))
    corrected = 0
    for before, after in pairwise(days[-60:]):
        seen = {bar.day: bar.close for bar in chart("TSLA", before).bars}
        now = {bar.day: bar.close for bar in chart("TSLA", after).bars}
        changed = [day for day in seen if seen[day] != now[day]]
        position = days.index(before)
        assert changed in ([], [days[position - MISPRINT_DAYS]])
        corrected += len(changed)
    assert corrected > 0


def test_a_split_divides_all_earlier_prices_and_multiplies_their_volumes() -> None:
    day = date(2024, 1, 24)
    before, after = chart("AAPL", day), chart("AAPL", day + timedelta(days=1))
    assert after.splits == {day: 3}
    for old, new in zip(before.bars[:-3], after.bars, strict=False):
        assert new.close == pytest.approx(old.close / 3)
        assert new.volume == old.volume * 3


def test_a_dividend_lowers_all_earlier_adjusted_prices_by_the_same_factor() -> None:
    day = date(2025, 9, 4)
    before, after = chart("AAPL", day), chart("AAPL", day + timedelta(days=1))
    close = before.bars[-1].close
    factor = 1 - after.dividends[day] / close
    for old, new in zip(before.bars[:-3], after.bars, strict=False):
        assert new.close == old.close
        assert new.adjusted == pytest.approx(old.adjusted * factor)
    assert after.bars[-1].adjusted == after.bars[-1].close


# -- the API ---------------------------------------------------------------------------------------


def test_a_chart_has_the_days_asked_for(replay: Replay) -> None:
    first, last = opening(date(2025, 12, 24)), opening(date(2025, 12, 30))
    (result,) = ask(replay, "MSFT", period1=first, period2=last).json()["chart"]["result"]
    assert result["timestamp"] == [opening(date(2025, 12, d)) for d in (24, 26, 29)]
    quote = result["indicators"]["quote"][0]
    assert {len(values) for values in quote.values()} == {3}
    assert result["meta"]["currentTradingPeriod"]["regular"]["start"] == opening(date(2025, 12, 31))


@pytest.mark.parametrize(
    ("ticker", "query", "status", "code"),
    [
        ("NOPE", {}, 404, "Not Found"),
        ("MSFT", {"interval": "1h"}, 400, "Bad Request"),
        ("MSFT", {"period1": "now"}, 400, "Bad Request"),
    ],
)
def test_what_yahoo_refuses_is_refused(
    ticker: str, query: dict[str, str], status: int, code: str, replay: Replay
) -> None:
    answer = ask(replay, ticker, **query)
    assert answer.status_code == status
    assert answer.json()["chart"]["error"]["code"] == code


def test_other_paths_of_yahoo_are_not_there(replay: Replay) -> None:
    assert requests.get(f"{replay.market_url}v1/test/getcrumb", timeout=10).text == "crumb"
    assert requests.get(f"{replay.market_url}v7/finance/quote", timeout=10).status_code == 404
