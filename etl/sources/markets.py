"""Daily prices of stocks from Yahoo Finance by `yfinance`: only what is new, ticker by ticker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import dlt
from dlt.common.schema.typing import TColumnSchema
from dlt.extract import DltResource
from dlt.extract.state import resource_state
from loguru import logger

from etl.errors import ConfigError
from etl.sources.monitor import Monitor
from etl.sources.yahoo import YAHOO, Row, TickerMissingError, Yahoo, require_yfinance

TICKERS: Final = ("AAPL", "MSFT", "GOOGL", "AMZN", "META", "NVDA", "TSLA")
# What `etl doctor` asks of a factory's module.
require_extra: Final = require_yfinance
_KEY: Final = ("ticker", "date")
_COLUMNS: Final[dict[str, TColumnSchema]] = {
    "ticker": {"data_type": "text", "description": "Ticker symbol at Yahoo Finance."},
    "date": {"data_type": "date", "description": "Trading day of the exchange."},
    "open_price": {
        "data_type": "double",
        "description": "First price, adjusted for splits and dividends.",
    },
    "high_price": {
        "data_type": "double",
        "description": "Highest price, adjusted for splits and dividends.",
    },
    "low_price": {
        "data_type": "double",
        "description": "Lowest price, adjusted for splits and dividends.",
    },
    "close_price": {
        "data_type": "double",
        "description": "Last price, adjusted for splits and dividends.",
    },
    "unadjusted_close_price": {
        "data_type": "double",
        "description": "Last price, adjusted for splits only.",
    },
    "volume": {"data_type": "bigint", "description": "Shares traded, adjusted for splits."},
    "dividend": {
        "data_type": "double",
        "description": "Dividend per share that the day is the ex-date of, else 0.",
    },
    "split_ratio": {
        "data_type": "double",
        "description": "New shares for an old one when the stock is split, else 0.",
    },
}


def prices(
    tickers: Sequence[str] = TICKERS,
    start: str = "2020-01-01",
    end: str | None = None,
    look_back_days: int = 7,
    base_url: str = YAHOO,
    retries: int = 3,
    timeout_seconds: float = 30.0,
    monitor: Monitor | None = None,
) -> DltResource:
    """One row for each ticker and trading day since `start`, merged on both into `prices`.

    `end` is the last day that is read; without it, the newest that is over.

    A ticker is read from `look_back_days` before its newest day; of what was read before, only what
    changed since is loaded again. A split or dividend that is new, be it of a day that still
    trades, changes all adjusted prices before it: then the ticker is read and loaded from `start`
    on. `retries` are those of a request that met a network error. With a `monitor` a ticker that is
    not there does not stop the others.

    Raises:
        ConfigError: the extra is not installed, or an argument is wrong.
    """
    names = (tickers,) if isinstance(tickers, str) else tuple(tickers)
    if not names or look_back_days < 0:
        raise ConfigError(
            "markets: `tickers` must name at least one ticker, `look_back_days` must be at least 0"
        )
    first, last = _day("start", start), date.max if end is None else _day("end", end)
    if last < first:
        raise ConfigError(f"markets: end {end} is before start {start}")
    require_yfinance()

    @dlt.resource(
        name="prices",
        write_disposition="merge",
        primary_key=_KEY,
        columns=_COLUMNS,
    )
    def read() -> Iterator[list[Row]]:
        yahoo = Yahoo(base_url, retries=retries, timeout=timeout_seconds)
        states = resource_state().setdefault("tickers", {})
        lost = []
        for name in names:
            if monitor is not None:
                monitor.check_stop()
            try:
                rows, states[name] = read_ticker(yahoo, name, first, look_back_days,
                                                 states.get(name), last)  # fmt: skip
            except TickerMissingError as e:
                lost.append(e)
                continue
            if monitor is not None:
                monitor.count_page("prices", len(rows))
            yield rows
        if len(lost) == len(names) or (lost and monitor is None):
            raise lost[0]
        for error in lost:
            if monitor is not None:
                monitor.contain(error, error.ticker)

    if monitor is not None:
        monitor.incremental.add("prices")
    return read


def _day(argument: str, given: Any) -> date:
    try:
        return date.fromisoformat(str(given))
    except ValueError as e:
        raise ConfigError(
            f"markets: {argument} {given!r} is no date", hint="write 2020-01-01"
        ) from e


def read_ticker(
    yahoo: Yahoo,
    ticker: str,
    first: date,
    look_back_days: int,
    state: Mapping[str, Any] | None,
    last: date = date.max,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a ticker, up to `last`, that are new or changed, and its state for the next time.

    The state is `{"first": day, "recent": {day: values of the row}, "events": {day: dividend and
    split ratio}}`, days as ISO 8601 text; `recent` and `events` are those of the look-back.

    Raises:
        TickerMissingError: Yahoo has no price of it.
        UnreachableError, AuthError, ExtractError
    """
    known: Mapping[str, list[Any]] = {}
    known_events: Mapping[str, list[float]] = {}
    since = first
    if state is not None and state["first"] == first.isoformat():
        newest = min(last, date.fromisoformat(max(state["recent"])))
        since = max(first, newest - timedelta(days=look_back_days))
        known = _since(since, state["recent"])
        # A state of an earlier version has no events but those of its rows.
        known_events = _since(since, state.get("events", _events(known)))
    rows, events = yahoo.read(ticker, since, last)
    if since > first and events != known_events:
        logger.info(f"{ticker}: a split or dividend is new; its prices are read from {first} on")
        rows, events = yahoo.read(ticker, first, last)
        known = {}
    found = _by_day(rows)
    kept = rows[-1]["date"] - timedelta(days=look_back_days)
    return (
        [row for row in rows if found[day := row["date"].isoformat()] != known.get(day)],
        {
            "first": first.isoformat(),
            "recent": _since(kept, found),
            "events": _since(kept, events),
        },
    )


def _since(first: date, days: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {day: values for day, values in days.items() if day >= first.isoformat()}


def _by_day(rows: list[Row]) -> dict[str, list[Any]]:
    return {row["date"].isoformat(): [row[c] for c in _COLUMNS if c not in _KEY] for row in rows}


def _events(days: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Dividend and split ratio, the last two columns, of the days that have one."""
    return {day: values[-2:] for day, values in days.items() if any(values[-2:])}
