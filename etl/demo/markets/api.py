"""Yahoo's chart API as yfinance asks it, cookie and crumb included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final

from etl.demo.markets.calendar import opening
from etl.demo.markets.prices import TICKERS, Chart, chart

PATH: Final = "/yahoo/"
CHART: Final = "yahoo/v8/finance/chart/"
CRUMB: Final = "yahoo/v1/test/getcrumb"
_SESSION: Final = 6 * 3600 + 1800
"""Seconds between the exchange's opening and its closing."""


@dataclass(frozen=True)
class ChartPage:
    """An answer of the chart API before encoding; `bars` are the days asked for."""

    ticker: str
    bars: tuple[Mapping[str, Any], ...]
    dividends: Mapping[int, float]
    splits: Mapping[int, int]
    last_opening: int
    headers: Mapping[str, str] = field(default_factory=dict)
    list_field: str = field(default="chart", init=False)
    first_field: str = field(default="close", init=False)

    @property
    def rows(self) -> Sequence[bytes]:
        """The bars as JSON objects."""
        return [json.dumps(bar).encode() for bar in self.bars]

    def with_rows(self, rows: Sequence[bytes]) -> ChartPage:
        """The same chart with other bars."""
        return replace(self, bars=tuple(json.loads(row) for row in rows))

    def ended(self, *, null: bool = False) -> ChartPage:
        """The chart as it is: it has one page."""
        return self

    def led_back(self, *, again: bool) -> ChartPage:
        """The chart as it is: it has one page."""
        return self

    def encode(self) -> bytes:
        """The response body, UTF-8; a bar's missing values are null, as Yahoo sends them."""
        columns = {
            name: [bar.get(name) for bar in self.bars]
            for name in ("open", "high", "low", "close", "volume")
        }
        regular = {
            "timezone": "EST", "gmtoffset": -18000,
            "start": self.last_opening, "end": self.last_opening + _SESSION,
        }  # fmt: skip
        result: dict[str, Any] = {
            "meta": {
                "currency": "USD", "symbol": self.ticker, "exchangeName": "NMS",
                "instrumentType": "EQUITY", "regularMarketTime": self.last_opening + _SESSION,
                "gmtoffset": -18000, "timezone": "EST", "exchangeTimezoneName": "America/New_York",
                "priceHint": 2, "currentTradingPeriod": dict.fromkeys(("pre", "regular", "post"),
                regular), "dataGranularity": "1d", "range": "", "validRanges": ["1d", "max"],
            },
            "indicators": {
                "quote": [columns if self.bars else {}],
                "adjclose": [{"adjclose": [bar.get("adjusted") for bar in self.bars]}],
            },
        }  # fmt: skip
        if self.bars:
            result["timestamp"] = [bar["timestamp"] for bar in self.bars]
        events: dict[str, Any] = {}
        if self.dividends:
            events["dividends"] = {
                str(at): {"amount": amount, "date": at} for at, amount in self.dividends.items()
            }
        if self.splits:
            events["splits"] = {
                str(at): {"date": at, "numerator": n, "denominator": 1, "splitRatio": f"{n}:1"}
                for at, n in self.splits.items()
            }
        if events:
            result["events"] = events
        return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def cut_chart(ticker: str, query: Mapping[str, str], day: date) -> ChartPage:
    """The chart that a query asks for, as it is known at 00:00 UTC of `day`.

    Raises:
        KeyError: no such ticker.
        ValueError: the query, in the API's words.
    """
    if ticker not in TICKERS:
        raise KeyError(ticker)
    if query.get("interval") != "1d":
        raise ValueError(f"Invalid input - interval={query.get('interval')} is not supported.")
    known: Chart = chart(ticker, day)
    first, last = _second(query, "period1", 0), _second(query, "period2", 1 << 62)
    if query.get("range") == "1d" and known.bars:
        first = opening(known.bars[-1].day)
    inside = [(opening(bar.day), bar) for bar in known.bars if first <= opening(bar.day) < last]
    return ChartPage(
        ticker,
        tuple({"timestamp": at, **_values(asdict(bar))} for at, bar in inside),
        {opening(d): v for d, v in known.dividends.items() if first <= opening(d) < last},
        {opening(d): v for d, v in known.splits.items() if first <= opening(d) < last},
        opening(known.bars[-1].day if known.bars else day - timedelta(days=1)),
    )


def missing(ticker: str) -> bytes:
    """What is answered for a ticker that is not there."""
    return _error("Not Found", f"No data found, symbol {ticker} may be delisted")


def invalid(message: str) -> bytes:
    """What is answered to a wrong query."""
    return _error("Bad Request", message)


def _error(code: str, description: str) -> bytes:
    told = {"code": code, "description": description}
    return json.dumps({"chart": {"result": None, "error": told}}).encode()


def _values(bar: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in bar.items() if name != "day"}


def _second(query: Mapping[str, str], name: str, usual: int) -> int:
    text = query.get(name, str(usual))
    try:
        return int(text)
    except ValueError as e:
        raise ValueError(f"Invalid input - {name} is {text!r}") from e
