"""The technical indicators, by the SQL that ships, against TA-Lib, talipp and their own past."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import talib
from numpy.typing import NDArray
from sqlglot import exp
from sqlmesh.core.macros import RuntimeStage
from talipp.indicators import ATR, BB, MACD, NATR, ROC, RSI, SMA
from talipp.ma import MAType
from talipp.ohlcv import OHLCV

from tests.shipped_models import columns_of, shipped_model

SQLMESH = Path(__file__).parents[2] / "sqlmesh"
MODELS = ("staging/int_markets__smoothed", "staging/int_markets__macd", "marts/stock_metrics")
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Prices:
    """Days of one ticker."""

    days: tuple[date, ...]
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series

    def first(self, count: int) -> Prices:
        return Prices(
            self.days[:count], self.open[:count], self.high[:count], self.low[:count],
            self.close[:count], self.volume[:count],
        )  # fmt: skip


def walk(count: int, seed: int = 1) -> Prices:
    """A random walk on working days."""
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(dice.normal(0, 0.02, count)))
    opened = close * np.exp(dice.normal(0, 0.01, count))
    high = np.maximum(opened, close) * (1 + dice.uniform(0, 0.01, count))
    low = np.minimum(opened, close) * (1 - dice.uniform(0, 0.01, count))
    days = tuple(date(2020, 1, 1) + timedelta(days=n + n // 5 * 2) for n in range(count))
    return Prices(days, opened, high, low, close, dice.integers(1, 10**9, count).astype(float))


def with_gaps(prices: Prices) -> Prices:
    """The same without two days of five."""
    kept = [n for n in range(len(prices.days)) if n % 5 not in {1, 2}]
    return Prices(
        tuple(prices.days[n] for n in kept), prices.open[kept], prices.high[kept],
        prices.low[kept], prices.close[kept], prices.volume[kept],
    )  # fmt: skip


def flat(count: int) -> Prices:
    level = np.full(count, 7.25)
    return Prices(walk(count).days, level, level, level, level, np.full(count, 5.0))


def silent(count: int) -> Prices:
    """A walk on which nothing is traded for its last 30 days."""
    moved = walk(count, seed=3)
    volume = moved.volume.copy()
    volume[-30:] = 0
    return Prices(moved.days, moved.open, moved.high, moved.low, moved.close, volume)


def joined(before: Prices, after: Prices) -> Prices:
    fields = ("open", "high", "low", "close", "volume")
    values = [np.concatenate([getattr(before, f), getattr(after, f)]) for f in fields]
    return Prices(walk(len(before.days) + len(after.days)).days, *values)


CASES: dict[str, Prices] = {
    **{f"walk of {n}": walk(n, seed=n) for n in (1, 2, 14, 15, 20, 26, 33, 34, 50, 700, 1800)},
    "gaps": with_gaps(walk(600, seed=2)),
    "flat": flat(120),
    "silent": silent(400),
    "flat, then moving": joined(flat(60), walk(100)),
}


@cache
def statements(model: str, first: date, last: date) -> tuple[str, ...]:
    """What SQLMesh does on DuckDB to bring a model up to date for an interval of days."""
    loaded, name = shipped_model(model), model.replace("/", ".")
    query = loaded.render_query(start=first, end=last)
    after = loaded.render_post_statements(
        start=first, end=last, this_model=exp.to_table(name), runtime_stage=RuntimeStage.EVALUATING
    )
    assert query is not None
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ({columns_of(loaded)})",
        f"CREATE TEMP TABLE made AS {query.sql('duckdb')}",
        f"DELETE FROM {name} WHERE (ticker, trade_date) IN (SELECT (ticker, trade_date) FROM made)",
        f"INSERT INTO {name} BY NAME FROM made",
        "DROP TABLE made",
        *(statement.sql("duckdb") for statement in after),
    )


def evaluate(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> None:
    """Build the models of the markets for an interval, on what is in staging."""
    for model in MODELS:
        for statement in statements(model, first, last):
            connection.execute(statement)


LOADED = date(2026, 1, 1)


def compute(tickers: dict[str, Prices]) -> duckdb.DuckDBPyConnection:
    """A database in which the models of the markets were built from these prices."""
    connection = duckdb.connect()
    # So little work that a second thread costs more than it does.
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
    connection.execute("CREATE SCHEMA staging; CREATE SCHEMA marts")
    connection.execute(
        "CREATE TABLE staging.stg_markets__prices (ticker TEXT, date DATE, open_price DOUBLE, "
        "high_price DOUBLE, low_price DOUBLE, close_price DOUBLE, volume BIGINT, "
        "_loaded_at TIMESTAMPTZ, _dlt_load_id TEXT, _dlt_id TEXT)"
    )
    rows = [
        (ticker, day, *map(float, values), int(volume), LOADED, "1", f"{ticker} {day}")
        for ticker, p in tickers.items()
        for day, *values, volume in zip(p.days, p.open, p.high, p.low, p.close, p.volume,
                                        strict=True)
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True))
    connection.execute(
        "INSERT INTO staging.stg_markets__prices SELECT "
        + ", ".join(f"unnest(${n + 1})" for n in range(len(columns))),
        [list(c) for c in columns],
    )
    evaluate(connection, LOADED, LOADED)
    return connection


def metrics(connection: duckdb.DuckDBPyConnection, ticker: str) -> dict[str, Series]:
    """The columns of a ticker in order of its days; NULL is NaN."""
    found = connection.execute(
        "SELECT * EXCLUDE (ticker, trade_date, _dlt_load_id, _dlt_id) FROM marts.stock_metrics "
        "WHERE ticker = $1 ORDER BY trade_date",
        [ticker],
    ).fetchnumpy()
    return {n: np.ma.filled(np.ma.asarray(v).astype(float), np.nan) for n, v in found.items()}


@pytest.fixture(scope="module")
def computed() -> duckdb.DuckDBPyConnection:
    """All cases side by side, as tickers of one market."""
    return compute(CASES)


def by_talib(p: Prices) -> dict[str, Series]:
    count = len(p.days)
    _, signal, histogram = talib.MACD(p.close, 12, 26, 9)
    # TA-Lib keeps the line to itself until there is a signal: these are the averages it is made of.
    ema_12 = np.concatenate([p.close[:14] * np.nan, talib.EMA(p.close[14:], 12)])[:count]
    upper, middle, lower = talib.BBANDS(p.close, 20, 2, 2)
    volume_20 = talib.SMA(p.volume, 20)
    first = [np.nan] * min(1, count)
    return {
        "sma_9_day": talib.SMA(p.close, 9),
        "sma_20_day": middle,
        "sma_50_day": talib.SMA(p.close, 50),
        "bollinger_upper": upper,
        "bollinger_lower": lower,
        "rsi_14_day": talib.RSI(p.close, 14),
        "rsi_14_day_simple": of_last_15(p.close, lambda closes: talib.RSI(closes, 14)[-1]),
        "macd_line": ema_12 - talib.EMA(p.close, 26),
        "macd_signal": signal,
        "macd_histogram": histogram,
        "macd_line_simple": talib.SMA(p.close, 12) - talib.SMA(p.close, 26),
        "atr_14_day": talib.ATR(p.high, p.low, p.close, 14),
        "atr_14_day_simple": np.concatenate(
            [first, talib.SMA(talib.TRANGE(p.high, p.low, p.close)[1:], 14)]
        )
        if count > 1
        else np.array(first),
        "daily_return_pct": talib.ROC(p.close, 1),
        "price_range_pct": 100 * (p.high - p.low) / p.close,
        "volume_ratio": p.volume / not_0(volume_20),
        "volume_sma_20": volume_20,
    }


def by_talipp(p: Prices) -> dict[str, Series]:
    close = p.close.tolist()
    bars = [
        OHLCV(*map(float, bar))
        for bar in zip(p.open, p.high, p.low, p.close, p.volume, strict=True)
    ]
    bands, macd = list(BB(20, 2, close)), list(MACD(12, 26, 9, close))
    simple_macd = MACD(12, 26, 9, close, ma_type=MAType.SMA)
    _, *true_ranges = ATR(1, bars)
    volume_20 = numbers(SMA(20, p.volume.tolist()))
    return {
        "sma_9_day": numbers(SMA(9, close)),
        "sma_20_day": numbers(SMA(20, close)),
        "sma_50_day": numbers(SMA(50, close)),
        "bollinger_upper": numbers(b and b.ub for b in bands),
        "bollinger_lower": numbers(b and b.lb for b in bands),
        "rsi_14_day": numbers(RSI(14, close)),
        "rsi_14_day_simple": of_last_15(p.close, lambda closes: RSI(14, closes.tolist())[-1]),
        "macd_line": numbers(m and m.macd for m in macd),
        "macd_signal": numbers(m and m.signal for m in macd),
        "macd_histogram": numbers(m and m.histogram for m in macd),
        "macd_line_simple": numbers(m and m.macd for m in simple_macd),
        "atr_14_day": numbers(ATR(14, bars)),
        "atr_14_day_simple": numbers([None, *SMA(14, true_ranges)]),
        "daily_return_pct": numbers(ROC(1, close)),
        # The range of a day that has none before it is highest less lowest.
        "price_range_pct": numbers(NATR(1, [bar])[-1] for bar in bars),
        "volume_ratio": p.volume / not_0(volume_20),
        "volume_sma_20": volume_20,
    }


def of_last_15(closes: Series, rsi: Callable[[Series], float]) -> Series:
    """The RSI of each day's last 15 closes alone: its first value is that of plain means."""
    windows = (closes[end - 15 : end] for end in range(15, len(closes) + 1))
    return np.array([*[np.nan] * min(14, len(closes)), *map(rsi, windows)])


def not_0(means: Series) -> Series:
    """Means of 20 volumes without those that are 0, of which talipp's running sum leaves a rest."""
    return np.where(means > 0.01, means, np.nan)


def numbers(values: Any) -> Series:
    return np.array([np.nan if v is None else float(v) for v in values])


def assert_same(found: Series, expected: Series, what: str, *, after: int = 0) -> None:
    np.testing.assert_allclose(
        found[after:], expected[after:], rtol=1e-6, atol=1e-6, equal_nan=True, err_msg=what
    )


def moved(p: Prices) -> Series:
    """1 from the first day on that the price moved, NaN before: there our RSI is NULL."""
    has_moved = np.cumsum(np.abs(np.diff(p.close, prepend=p.close[:1]))) > 0
    return np.where(has_moved, 1.0, np.nan)


# -- two public implementations --------------------------------------------------------------------

GIVEN = {"open_price", "high_price", "low_price", "close_price", "volume"}
LATER_ALIKE = {"macd_line", "macd_signal", "macd_histogram", "atr_14_day"}


@pytest.mark.parametrize("case", CASES)
def test_every_indicator_is_talibs_from_its_first_value_on(
    case: str, computed: duckdb.DuckDBPyConnection
) -> None:
    found, p = metrics(computed, case), CASES[case]
    assert by_talib(p).keys() == found.keys() - GIVEN
    for column, expected in by_talib(p).items():
        wanted = expected * moved(p) if column.startswith("rsi") else expected
        assert_same(found[column], wanted, f"{case}: {column}")
    line, _, _ = talib.MACD(p.close, 12, 26, 9)
    shown = ~np.isnan(line)
    assert_same(found["macd_line"][shown], line[shown], f"{case}: macd_line")


@pytest.mark.parametrize("case", CASES)
def test_every_indicator_is_talipps(case: str, computed: duckdb.DuckDBPyConnection) -> None:
    """talipp begins MACD's shorter average on day 12 and ATR with the first day's range; what that
    makes of a difference has faded by day 300, and so these are compared from there on."""
    found, p = metrics(computed, case), CASES[case]
    assert by_talipp(p).keys() == found.keys() - GIVEN
    for column, expected in by_talipp(p).items():
        wanted = expected * moved(p) if column.startswith("rsi") else expected
        after = 300 if column in LATER_ALIKE else 0
        assert_same(found[column], wanted, f"{case}: {column}", after=after)


# -- when there is a value -------------------------------------------------------------------------

FIRST_DAY = {
    "daily_return_pct": 2, "sma_9_day": 9, "rsi_14_day": 15, "rsi_14_day_simple": 15,
    "atr_14_day": 15, "atr_14_day_simple": 15, "sma_20_day": 20, "bollinger_upper": 20,
    "bollinger_lower": 20, "volume_sma_20": 20, "volume_ratio": 20, "macd_line": 26,
    "macd_line_simple": 26, "macd_signal": 34, "macd_histogram": 34, "sma_50_day": 50,
}  # fmt: skip


@pytest.mark.parametrize(("column", "first"), FIRST_DAY.items())
def test_an_indicator_is_null_until_its_window_is_full(
    column: str, first: int, computed: duckdb.DuckDBPyConnection
) -> None:
    values = metrics(computed, "walk of 700")[column]
    assert np.isnan(values[: first - 1]).all()
    assert np.isfinite(values[first - 1 :]).all()


def test_what_divides_by_nothing_is_null(computed: duckdb.DuckDBPyConnection) -> None:
    assert np.isnan(metrics(computed, "flat")["rsi_14_day"]).all()
    assert np.isnan(metrics(computed, "flat")["rsi_14_day_simple"]).all()
    quiet = metrics(computed, "silent")
    assert np.isnan(quiet["volume_ratio"][-10:]).all()
    assert (quiet["volume_sma_20"][-10:] == 0).all()
    assert (quiet["volume_ratio"][-30:-20] == 0).all()


# -- independent of the run ------------------------------------------------------------------------


@pytest.mark.parametrize("day", [1, 15, 34, 46, 47, 57, 58, 65, 66, 527, 1040, 1500])
def test_a_value_is_the_same_on_its_day_and_ever_after(
    day: int, computed: duckdb.DuckDBPyConnection
) -> None:
    """To the last digit, so that nothing is published again. The days beside the borders of the
    blocks in which the averages are summed are among them."""
    whole = metrics(computed, "walk of 1800")
    others = {f"other {n}": walk(100 * n, seed=n) for n in range(1, 4)}
    for last in (day, day + 1):
        part = compute(others | {"a": CASES["walk of 1800"].first(last)})
        for column, values in metrics(part, "a").items():
            np.testing.assert_array_equal(values, whole[column][:last], err_msg=column)


def test_smoothing_in_blocks_is_the_recursion(computed: duckdb.DuckDBPyConnection) -> None:
    """Over 55 blocks, against the recursion from the first day on, to 1e-9."""
    p, found = CASES["walk of 1800"], metrics(computed, "walk of 1800")
    ranges = talib.TRANGE(p.high, p.low, p.close)
    average = ranges[1:15].mean()
    for day in range(15, 1800):
        average = (13 * average + ranges[day]) / 14
        assert found["atr_14_day"][day] == pytest.approx(average, rel=1e-9)


def test_a_corrected_price_changes_its_own_ticker_from_its_day_on() -> None:
    p = CASES["walk of 700"]
    close = p.close.copy()
    close[-4] = (p.high[-4] + p.low[-4]) / 2
    mended = Prices(p.days, p.open, p.high, p.low, close, p.volume)
    before, after = compute({"a": p, "b": p}), compute({"a": mended, "b": p})
    changed = before.execute("FROM marts.stock_metrics ORDER BY ALL").fetchall()
    rows = after.execute("FROM marts.stock_metrics ORDER BY ALL").fetchall()
    differing = {(old[0], old[1]) for old, new in zip(changed, rows, strict=True) if old != new}
    assert differing == {("a", day) for day in p.days[-4:]}


# -- day by day ------------------------------------------------------------------------------------

# Ticker 7 has seven days, and so on: one more day is each of the first three blocks' days for one.
STAGGERED = {f"{n:03}": walk(110, seed=n).first(n) for n in range(1, 110)}
# What happens to every third ticker: where the day is, differs from ticker to ticker.
THIRD = "ticker::INT % 3 = 0"
POSITION = (
    "row_number() OVER (PARTITION BY ticker ORDER BY date) AS n, "
    "count(*) OVER (PARTITION BY ticker) AS days"
)


def new_days(count: int) -> str:
    """Insert the next days of the tickers that are concerned."""
    return f"""
        INSERT INTO staging.stg_markets__prices
        SELECT ticker, (max(date) + n::INT)::DATE, arg_max(open_price, date),
            arg_max(high_price, date), arg_max(low_price, date),
            arg_max(low_price + (high_price - low_price) * 0.3 * n / {count}, date),
            arg_max(volume + n, date), $loaded, '2', ticker || (max(date) + n::INT)
        FROM staging.stg_markets__prices, range(1, {count + 1}) AS steps(n)
        WHERE {THIRD} GROUP BY ticker, n
    """


def touch(position: str) -> str:
    """Correct the price of a day of each ticker that is concerned."""
    return f"""
        UPDATE staging.stg_markets__prices AS p
        SET close_price = (p.high_price + p.low_price) / 2, _loaded_at = $loaded
        FROM (SELECT ticker, date, {POSITION} FROM staging.stg_markets__prices) AS x
        WHERE p.ticker = x.ticker AND p.date = x.date AND p.{THIRD} AND {position}
    """


def remove(position: str) -> str:
    """Delete days: nothing that stays bears a sign of it."""
    return f"""
        DELETE FROM staging.stg_markets__prices AS p
        USING (SELECT ticker, date, {POSITION} FROM staging.stg_markets__prices) AS x
        WHERE p.ticker = x.ticker AND p.date = x.date AND p.{THIRD} AND {position}
            AND $loaded IS NOT NULL
    """


# A day of which the exchange's neighbours are there already; the walks leave weekends out.
LATE = f"""
    INSERT INTO staging.stg_markets__prices
    SELECT ticker, date - 1, open_price, high_price, low_price, low_price, volume, $loaded, '2',
        'late ' || ticker
    FROM (
        SELECT *, {POSITION}, lag(date) OVER (PARTITION BY ticker ORDER BY date) AS before
        FROM staging.stg_markets__prices
    )
    WHERE {THIRD} AND before < date - 1
    QUALIFY row_number() OVER (PARTITION BY ticker ORDER BY abs(n - days / 2)) = 1
"""
NEWCOMER = """
    INSERT INTO staging.stg_markets__prices
    SELECT '999', date, open_price, high_price, low_price, close_price, volume, $loaded, '2',
        'new ' || date
    FROM staging.stg_markets__prices WHERE ticker = '108'
"""
EVENTS: dict[str, tuple[str, ...]] = {
    "a new day": (new_days(1),),
    "40 days at once": (new_days(40),),
    "a price corrected three days back": (touch("n = days - 3"),),
    "a price corrected in the middle": (touch("n = days // 2 + 1"),),
    "the first price corrected": (touch("n = 1"),),
    "a late day in the middle": (LATE,),
    "a day removed in the middle": (remove("n = days // 2 + 1"),),
    "the last day removed": (remove("n = days"),),
    "the first day removed": (remove("n = 1"),),
    "every day removed": (remove("TRUE"),),
    "a new ticker": (NEWCOMER,),
    "a correction, a removal and a new day": (
        touch("n = days - 3"), remove("n = days // 2 + 1"), new_days(1),
    ),
    "nothing": (),
}  # fmt: skip
TABLES = tuple(m.replace("/", ".") for m in MODELS)


def contents(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """The rows of the three models, without the time at which they were made."""
    return {
        t: connection.execute(
            f"SELECT COLUMNS(c -> c <> '_changed_at') FROM {t} ORDER BY ALL"
        ).fetchall()
        for t in TABLES
    }


@pytest.fixture(scope="module")
def whole_market() -> duckdb.DuckDBPyConnection:
    return compute(STAGGERED)


@pytest.fixture
def staggered(whole_market: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tickers of `STAGGERED`; what a test does to them is rolled back."""
    whole_market.begin()
    yield whole_market
    whole_market.rollback()


@pytest.mark.parametrize("event", EVENTS)
def test_day_by_day_every_value_is_that_of_the_whole_history(
    event: str, staggered: duckdb.DuckDBPyConnection
) -> None:
    """To the last digit, in all three models; and again after one new day more."""
    for n, changes in enumerate((EVENTS[event], (new_days(1),)), start=1):
        day = LOADED + timedelta(days=n)
        for change in changes:
            staggered.execute(change, {"loaded": day})
        evaluate(staggered, day, day)
    found = contents(staggered)
    again = staggered.execute(
        "SELECT DISTINCT ticker FROM staging.int_markets__smoothed WHERE _changed_at > $1",
        [LOADED],
    ).fetchall()
    assert {int(ticker) % 3 for (ticker,) in again} <= {0}
    for table in TABLES:
        staggered.execute(f"DROP TABLE {table}")
    evaluate(staggered, LOADED, LOADED + timedelta(days=9))
    expected = contents(staggered)
    for table in TABLES:
        assert found[table] == expected[table], table


# -- audits ----------------------------------------------------------------------------------------


def audit(name: str, change: str = "SELECT 1") -> list[tuple[Any, ...]]:
    """What an audit of marts.stock_metrics finds after a change of it."""
    connection = compute({"a": walk(60, seed=1), "b": walk(60, seed=2), "c": walk(40, seed=3)})
    connection.execute(change)
    text = (SQLMESH / "audits" / f"{name}.sql").read_text(encoding="utf-8")
    _, query = re.split(r"^\);$", text, maxsplit=1, flags=re.MULTILINE)
    for macro, value in (("@this_model", "marts.stock_metrics"),
                         ("@start_tstz", "TIMESTAMPTZ '2010-01-01'"),
                         ("@end_tstz", "TIMESTAMPTZ '2100-01-01'")):  # fmt: skip
        query = query.replace(macro, value)
    return connection.execute(query).fetchall()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("valid_rsi_range", "rsi_14_day = 100.1"),
        ("valid_rsi_range", "rsi_14_day_simple = -0.1"),
        ("valid_ohlc_prices", "high_price = close_price - 1"),
        ("valid_ohlc_prices", "low_price = open_price + 1"),
        ("valid_ohlc_prices", "low_price = 0"),
        ("valid_ohlc_prices", "high_price = 'infinity'"),
        ("positive_volume", "volume = -1"),
        ("valid_atr", "atr_14_day = -0.1"),
        ("valid_atr", "atr_14_day_simple = -0.1"),
    ],
)
def test_an_audit_finds_the_row_that_is_wrong(name: str, change: str) -> None:
    assert audit(name) == []
    day = walk(60).days[45]
    where = f"WHERE ticker = 'a' AND trade_date = DATE '{day}'"
    found = audit(name, f"UPDATE marts.stock_metrics SET {change} {where}")
    assert [row[:2] for row in found] == [("a", day)]


def test_a_hole_is_found_and_a_ticker_that_ended_is_none() -> None:
    days = walk(60).days
    assert audit("trading_days_complete") == []
    hole = f"DELETE FROM marts.stock_metrics WHERE ticker = 'a' AND trade_date = DATE '{days[20]}'"
    assert audit("trading_days_complete", hole) == [("a", days[20])]
    holiday = f"DELETE FROM marts.stock_metrics WHERE trade_date = DATE '{days[20]}'"
    assert audit("trading_days_complete", holiday) == []


def test_a_day_that_comes_twice_is_found_from_the_first_day_on_that_was_made() -> None:
    days = walk(60).days
    assert audit("days_unique") == []
    twice = (
        "INSERT INTO marts.stock_metrics FROM marts.stock_metrics WHERE ticker = 'a' "
        f"AND trade_date IN (DATE '{days[10]}', DATE '{days[45]}')"
    )
    assert sorted(audit("days_unique", twice)) == [("a", days[10]), ("a", days[45])]
    earlier = (
        "UPDATE staging.int_markets__smoothed SET _changed_at = TIMESTAMPTZ '2000-01-01' "
        f"WHERE trade_date < DATE '{days[40]}'"
    )
    assert audit("days_unique", f"{twice}; {earlier}") == [("a", days[45])]
