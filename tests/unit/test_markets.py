"""Which prices are read again, and what stands in raw in the end, day after day."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest

from etl.demo import Fault, Replay
from etl.demo.markets.api import ChartPage, cut_chart
from etl.demo.markets.calendar import opening, trading_days
from etl.demo.markets.prices import TICKERS, chart
from etl.errors import AuthError, ConfigError, EtlError, ExtractError, UnreachableError
from etl.raw.places import NotReachedError
from etl.sources.markets import prices, read_ticker
from etl.sources.yahoo import Answer, Row, TickerMissingError, Yahoo, is_trading

FIRST = date(2020, 1, 1)
NEW_YEAR = date(2026, 1, 1)


def rows_of(ticker: str, day: date, since: date = FIRST) -> list[Row]:
    """The rows that are to stand in raw on a day, from the replay's prices without its API."""
    known = chart(ticker, day)
    rows: list[Row] = []
    for bar in known.bars:
        factor = bar.adjusted / bar.close
        rows.append(
            {
                "ticker": ticker, "date": bar.day, "open_price": bar.open * factor,
                "high_price": bar.high * factor, "low_price": bar.low * factor,
                "close_price": bar.close * factor, "unadjusted_close_price": bar.close,
                "volume": bar.volume, "dividend": known.dividends.get(bar.day, 0.0),
                "split_ratio": float(known.splits.get(bar.day, 0)),
            }
        )  # fmt: skip
    return [row for row in rows if row["date"] >= since]


class Fake:
    """Yahoo without a network: the replay's prices of `day`."""

    def __init__(self, day: date) -> None:
        self.day = day
        self.asked: list[date] = []

    def read(self, ticker: str, since: date, until: date = date.max) -> Answer:
        self.asked.append(since)
        rows = rows_of(ticker, self.day, since)
        events = {row["date"].isoformat(): [row["dividend"], row["split_ratio"]] for row in rows}
        return Answer(
            [row for row in rows if row["date"] <= until],
            {day: values for day, values in events.items() if any(values)},
        )


def read(
    fake: Fake,
    ticker: str,
    state: Any,
    first: date = FIRST,
    look_back: int = 7,
    last: date = date.max,
) -> Any:
    return read_ticker(cast("Yahoo", fake), ticker, first, look_back, state, last)


# -- what is read again ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticker", "start"),
    [("AAPL", date(2023, 12, 1)), ("AMZN", date(2026, 1, 10)), ("NVDA", date(2020, 12, 1))],
)
@pytest.mark.parametrize("every", [1, 3, 11])
def test_rows_merged_day_after_day_are_those_of_one_reading(
    ticker: str, start: date, every: int
) -> None:
    """Through corrections, dividends and splits, however many days lie between two readings."""
    raw: dict[date, Row] = {}
    state, day = None, start
    for number in range(0, 90, every):
        day = start + timedelta(days=number)
        rows, state = read(Fake(day), ticker, state)
        raw |= {row["date"]: row for row in rows}
        assert list(raw.values()) == rows_of(ticker, day), day
    events = chart(ticker, day).dividends.keys() | chart(ticker, day).splits.keys()
    assert max(events) > start


def test_only_rows_that_changed_are_loaded_again() -> None:
    before, after = date(2025, 10, 16), date(2025, 10, 17)
    _, state = read(Fake(before), "NVDA", None)
    assert read(Fake(before), "NVDA", state)[0] == []
    fake = Fake(after)
    rows, _ = read(fake, "NVDA", state)
    # 13 October was misprinted; the 16th is new.
    assert [row["date"].day for row in rows] == [13, 16]
    assert fake.asked == [date(2025, 10, 8)]


def test_a_new_dividend_lets_the_ticker_be_read_from_its_start() -> None:
    _, state = read(Fake(date(2025, 9, 4)), "AAPL", None)
    fake = Fake(date(2025, 9, 5))
    rows, state = read(fake, "AAPL", state)
    assert fake.asked == [date(2025, 8, 27), FIRST]
    assert len(rows) == len(trading_days(fake.day))
    later = Fake(date(2025, 9, 6))
    assert len(read(later, "AAPL", state)[0]) == 1
    assert len(later.asked) == 1


def test_an_earlier_start_lets_the_ticker_be_read_whole() -> None:
    _, state = read(Fake(NEW_YEAR), "TSLA", None, first=date(2025, 6, 1))
    rows, state = read(Fake(NEW_YEAR), "TSLA", state, first=date(2025, 1, 1))
    assert rows[0]["date"] == date(2025, 1, 2)
    assert state["first"] == "2025-01-01"


@pytest.mark.parametrize("ends", [[1, 1, 30], [30, 1, 90], [1, None, 60]])
def test_an_end_is_the_last_day_and_dividends_after_it_count(ends: list[int | None]) -> None:
    """AAPL pays on 4 September: days after the start at which one reading, and the next, end."""
    start = date(2025, 8, 1)
    raw: dict[date, Row] = {}
    state = None
    for number, days in enumerate(ends):
        day = date(2025, 9, 3) + timedelta(days=number)
        last = date.max if days is None else start + timedelta(days=days)
        rows, state = read(Fake(day), "AAPL", state, first=start, last=last)
        assert all(row["date"] <= last for row in rows)
        raw |= {row["date"]: row for row in rows}
        expected = [row for row in rows_of("AAPL", day, start) if row["date"] <= last]
        assert [raw[row["date"]] for row in expected] == expected
        assert read(Fake(day), "AAPL", state, first=start, last=last)[0] == []


def test_a_state_from_before_events_were_kept_is_read_on() -> None:
    """The dividend of 4 September is in its rows, and so it is not new."""
    _, state = read(Fake(date(2025, 9, 6)), "AAPL", None)
    assert state.pop("events") == {"2025-09-04": [0.43, 0.0]}
    fake = Fake(date(2025, 9, 9))
    rows, state = read(fake, "AAPL", state)
    assert fake.asked == [date(2025, 8, 29)]
    assert [row["date"].day for row in rows] == [8]
    assert list(state["events"]) == ["2025-09-04"]


def test_the_state_holds_no_more_than_the_look_back() -> None:
    _, state = read(Fake(NEW_YEAR), "AAPL", None)
    assert state["events"] == {}
    _, state = read(Fake(NEW_YEAR), "TSLA", None, look_back=7)
    assert min(state["recent"]) == "2025-12-24"
    _, state = read(Fake(NEW_YEAR), "TSLA", None, look_back=0)
    assert list(state["recent"]) == ["2025-12-31"]


# -- by yfinance, from the replay ------------------------------------------------------------------


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(NEW_YEAR) as running:
        yield running


@pytest.fixture
def yahoo(replay: Replay) -> Iterator[Yahoo]:
    replay.date = NEW_YEAR
    yield Yahoo(replay.market_url, retries=0, timeout=5)
    replay.faults = ()


def assert_same(found: list[Row], expected: list[Row]) -> None:
    for row, wanted in zip(found, expected, strict=True):
        values = {k: v for k, v in wanted.items() if k not in {"ticker", "date"}}
        assert {k: row[k] for k in values} == pytest.approx(values, rel=1e-12)
        assert row == wanted | {k: row[k] for k in values}


@pytest.mark.parametrize("ticker", TICKERS)
def test_yfinance_reads_what_the_replay_has(ticker: str, yahoo: Yahoo) -> None:
    found, events = yahoo.read(ticker, FIRST)
    assert_same(found, rows_of(ticker, NEW_YEAR))
    assert events == Fake(NEW_YEAR).read(ticker, FIRST).events
    for row in found:
        assert row["high_price"] >= max(row["open_price"], row["close_price"], row["low_price"])
        assert row["low_price"] <= min(row["open_price"], row["close_price"])


def test_a_reading_begins_on_the_day_that_is_asked_for(yahoo: Yahoo, replay: Replay) -> None:
    rows, _ = yahoo.read("AAPL", date(2025, 12, 24))
    assert [row["date"].day for row in rows] == [24, 26, 29, 30, 31]
    asked = next(r for r in reversed(replay.requests) if r.method.endswith("AAPL"))
    assert int(asked.query["period1"]) == datetime(2025, 12, 23, tzinfo=UTC).timestamp()
    assert asked.query["interval"] == "1d"


def test_a_reading_ends_with_the_day_that_is_asked_for(yahoo: Yahoo) -> None:
    rows, events = yahoo.read("AAPL", date(2025, 9, 2), date(2025, 9, 3))
    assert [row["date"].day for row in rows] == [2, 3]
    assert next(iter(events)) == "2025-09-04"
    with pytest.raises(TickerMissingError, match="no price from 2025-08-30 to 2025-09-01"):
        yahoo.read("AAPL", date(2025, 8, 30), date(2025, 9, 1))  # a weekend and Labor Day


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("500", UnreachableError, "AAPL: Yahoo Finance answered 500"),
        ("503", UnreachableError, "AAPL: Yahoo Finance answered 503"),
        ("429", UnreachableError, "AAPL: Yahoo Finance answered 429"),
        ("disconnect", NotReachedError, "AAPL: Yahoo Finance cannot be reached"),
        ("cut", NotReachedError, "AAPL: Yahoo Finance cannot be reached"),
        ("401", AuthError, "AAPL: Yahoo Finance answered 401"),
        ("403", AuthError, "AAPL: Yahoo Finance answered 403"),
        ("html", ExtractError, r"AAPL: Yahoo Finance's answer \(200\) cannot be used"),
        ("truncated", ExtractError, r"AAPL: Yahoo Finance's answer \(200\) cannot be used"),
        ("400", ExtractError, r"AAPL: Yahoo Finance's answer \(400\) cannot be used"),
        ("404", TickerMissingError, "AAPL: "),
        ("empty", TickerMissingError, "AAPL: "),
    ],
)
def test_every_failure_has_its_class(
    fault: str, error: type[EtlError], message: str, yahoo: Yahoo, replay: Replay
) -> None:
    replay.faults = [Fault(fault, method="AAPL")]
    with pytest.raises(EtlError, match=message) as raised:
        yahoo.read("AAPL", FIRST)
    assert type(raised.value) is error
    assert len(yahoo.read("MSFT", date(2025, 12, 24)).rows) == 5


def test_a_ticker_that_is_not_there_is_named(yahoo: Yahoo) -> None:
    with pytest.raises(TickerMissingError, match="NOPE: No data found") as raised:
        yahoo.read("NOPE", FIRST)
    assert raised.value.ticker == "NOPE"
    assert "take the ticker out" in raised.value.hint


def test_a_day_without_a_price_is_left_out(yahoo: Yahoo, replay: Replay) -> None:
    replay.faults = [Fault("drop_field", field="close")]
    with pytest.raises(TickerMissingError):
        yahoo.read("AAPL", FIRST)


def test_a_day_that_still_trades_is_not_final() -> None:
    # 31 December 2025, 9:30 to 16:00 in New York.
    day = date(2025, 12, 31)
    regular = {"start": 1767191400, "end": 1767214800, "gmtoffset": -18000}
    meta = {"currentTradingPeriod": {"regular": regular}}
    assert is_trading(meta, day, datetime(2025, 12, 31, 20, 59, tzinfo=UTC))
    assert not is_trading(meta, day, datetime(2025, 12, 31, 21, 0, tzinfo=UTC))
    assert not is_trading(meta, day - timedelta(days=1), datetime(2025, 12, 31, 20, tzinfo=UTC))
    assert not is_trading({}, day, datetime(2025, 12, 31, 20, tzinfo=UTC))


# -- an ex-date that is not read yet ---------------------------------------------------------------


class Raw:
    """What stands in raw after each reading of AAPL."""

    def __init__(self, yahoo: Yahoo, replay: Replay) -> None:
        self.yahoo, self.replay = yahoo, replay
        self.rows: dict[date, Row] = {}
        self.state: Any = None

    def read(self, day: date) -> list[date]:
        """The days that were loaded, at 00:00 UTC of `day`."""
        self.replay.date = day
        rows, state = read_ticker(self.yahoo, "AAPL", FIRST, 7, self.state)
        self.state = json.loads(json.dumps(state))
        self.rows |= {row["date"]: row for row in rows}
        return [row["date"] for row in rows]

    def assert_is(self, day: date, *, without: date | None = None) -> None:
        assert_same(
            list(self.rows.values()),
            [row for row in rows_of("AAPL", day) if row["date"] != without],
        )


DAY = timedelta(days=1)
# AAPL's dividend and split.
EX_DATES = (date(2025, 9, 4), date(2024, 1, 24))


@pytest.mark.parametrize("ex_date", EX_DATES)
def test_an_ex_date_that_still_trades_changes_all_days_before_it_at_once(
    ex_date: date, yahoo: Yahoo, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Raw(yahoo, replay)
    raw.read(ex_date)
    with monkeypatch.context() as session:
        noon = datetime.fromtimestamp(opening(ex_date) + 9000, UTC)
        session.setattr(
            "etl.sources.yahoo.is_trading", lambda meta, day, _: is_trading(meta, day, noon)
        )
        assert len(raw.read(ex_date + DAY)) == len(trading_days(ex_date))
        raw.assert_is(ex_date + DAY, without=ex_date)
        assert raw.read(ex_date + DAY) == []
    assert raw.read(ex_date + DAY) == [ex_date]
    raw.assert_is(ex_date + DAY)
    assert raw.read(ex_date + DAY) == []


@pytest.mark.parametrize("ex_date", EX_DATES)
@pytest.mark.parametrize("bar", ["null", "missing"])
def test_an_ex_date_without_a_price_changes_all_days_before_it(
    bar: str, ex_date: date, yahoo: Yahoo, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*args: Any) -> ChartPage:
        page, at = cut_chart(*args), opening(ex_date)
        others = tuple(b for b in page.bars if b["timestamp"] != at)
        return replace(page, bars=others if bar == "missing" else (*others, {"timestamp": at}))

    raw = Raw(yahoo, replay)
    raw.read(ex_date)
    with monkeypatch.context() as lacking:
        lacking.setattr("etl.demo.markets.api.cut_chart", cut)
        assert len(raw.read(ex_date + DAY)) == len(trading_days(ex_date))
        raw.assert_is(ex_date + DAY, without=ex_date)
        assert raw.read(ex_date + DAY) == []
    assert raw.read(ex_date + DAY) == [ex_date]
    raw.assert_is(ex_date + DAY)


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tickers": []}, "at least one ticker"),
        ({"look_back_days": -1}, "look_back_days"),
        ({"start": "long ago"}, "start 'long ago' is no date"),
        ({"end": "now"}, "end 'now' is no date"),
        ({"start": "2025-01-02", "end": "2025-01-01"}, "end 2025-01-01 is before start 2025-01-02"),
    ],
)
def test_wrong_arguments_are_a_configuration_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prices(**arguments)


def test_without_the_extra_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(ConfigError, match="yfinance is not installed") as raised:
        prices()
    assert raised.value.hint == "pip install 'etl-job[markets]'"
