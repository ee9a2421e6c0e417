"""Yahoo's chart API through `yfinance`: days of a ticker as rows; every failure has its class."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import pandas as pd

from etl.errors import AuthError, ConfigError, EtlError, ExtractError, UnreachableError
from etl.raw.places import NotReachedError

if TYPE_CHECKING:
    from yfinance.scrapers.history import PriceHistory

Row = dict[str, Any]

YAHOO: Final = "https://query2.finance.yahoo.com/"
_CHART: Final = "/v8/finance/chart/"
_FOREVER: Final = date(2100, 1, 1)
_PRICES: Final = ("Open", "High", "Low", "Close", "Adj Close")
_EVENTS: Final = ("Dividends", "Stock Splits")


class Answer(NamedTuple):
    """What Yahoo has of a ticker: its days, in order, and what changed the prices before a day.

    `events` are dividend and split ratio by day, as ISO 8601 text; days that `rows` leaves out,
    because they still trade or lack a price, are among them.
    """

    rows: list[Row]
    events: dict[str, list[float]]


def require_yfinance() -> None:
    """Raises ConfigError, with the command that installs it, when the extra is missing."""
    try:
        import yfinance  # noqa: F401
    except ImportError as e:
        raise ConfigError(
            f"markets: yfinance is not installed ({e})", hint="pip install 'etl-job[markets]'"
        ) from e


class TickerMissingError(ExtractError):
    """Yahoo has no prices of a ticker."""

    def __init__(self, ticker: str, why: str) -> None:
        super().__init__(
            f"{ticker}: {why}",
            hint="renamed or delisted? take the ticker out of the source's `tickers`, or mend it; "
            "its earlier prices stay",
        )
        self.ticker = ticker


class Yahoo:
    """Reads tickers, one request each."""

    def __init__(self, base_url: str, *, retries: int, timeout: float) -> None:
        import yfinance
        from yfinance.data import YfData

        _isolate_caches()
        yfinance.config.debug.hide_exceptions = False
        yfinance.config.network.retries = retries
        self._session = _open_session(base_url)
        self._data = YfData(session=self._session)
        self._timeout = timeout

    def read(self, ticker: str, since: date, until: date = date.max) -> Answer:
        """The trading days of a ticker that are over, from `since` to `until`.

        And all events since then: one after `until` changes the prices before it as well.

        Raises:
            TickerMissingError: there is none.
            UnreachableError, AuthError, ExtractError
        """
        from yfinance.scrapers.history import PriceHistory

        # Not by `Ticker`: that asks for the exchange's time zone first, which only `start` needs.
        # A day earlier covers every zone.
        history = PriceHistory(self._data, ticker, "UTC", session=self._session)
        frame = self._ask(history, ticker, since - timedelta(days=1))
        rows = [row for row in _rows(ticker, frame) if row["date"] >= since]
        if rows and is_trading(history.get_history_metadata(), rows[-1]["date"], datetime.now(UTC)):
            rows.pop()
        rows = [row for row in rows if row["date"] <= until]
        if not rows:
            days = f"since {since}" if until == date.max else f"from {since} to {until}"
            raise TickerMissingError(ticker, f"Yahoo Finance returned no price {days}")
        return Answer(rows, _events(frame, since))

    def _ask(self, history: PriceHistory, ticker: str, start: date) -> pd.DataFrame:
        from curl_cffi.requests.exceptions import RequestException
        from yfinance.exceptions import YFRateLimitError

        self._session.status = 0
        try:
            return history.history(start=start, end=_FOREVER, interval="1d", auto_adjust=False,
                                   timeout=self._timeout)  # fmt: skip
        except EtlError:
            raise
        except YFRateLimitError as e:
            raise UnreachableError(
                f"{ticker}: Yahoo Finance answered 429 until the retries ran out"
            ) from e
        except RequestException as e:
            raise NotReachedError(
                f"{ticker}: Yahoo Finance cannot be reached ({type(e).__name__})"
            ) from e
        except Exception as e:
            # yfinance raises what its parsing meets, KeyError among it: the status decides.
            status, why = (
                self._session.status,
                " ".join(str(e).split()).removeprefix(f"${ticker}: ")[:300],
            )
            if status in (401, 403):
                raise AuthError(f"{ticker}: Yahoo Finance answered {status}: {why}") from e
            if status == 404 or (status == 200 and type(e).__name__ == "YFPricesMissingError"):
                raise TickerMissingError(ticker, why) from e
            raise ExtractError(
                f"{ticker}: Yahoo Finance's answer ({status}) cannot be used: "
                f"{type(e).__name__}: {why}",
                hint="did Yahoo change its API? look for a newer yfinance",
            ) from e


def is_trading(meta: Mapping[str, Any], day: date, now: datetime) -> bool:
    """Whether `day` is the trading day that goes on at `now`: its prices are not final."""
    try:
        period = meta["currentTradingPeriod"]["regular"]
        started, ends = (_instant(period[bound]) for bound in ("start", "end"))
    except (KeyError, TypeError):
        return False
    zone = started.astimezone(UTC) + timedelta(seconds=int(period.get("gmtoffset", 0)))
    return zone.date() == day and now < ends


def _instant(value: Any) -> datetime:
    """yfinance leaves seconds since 1970 in some answers and makes timestamps of others."""
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


def _rows(ticker: str, frame: pd.DataFrame) -> Iterator[Row]:
    """The frame as rows; days that lack a price are left out.

    All four prices get the factor of the day's adjusted close, so that their order stays.
    """
    if frame.empty:
        return
    whole = frame.dropna(subset=list(_PRICES))
    for at, row in zip(whole.index, whole.to_dict("records"), strict=True):
        factor = row["Adj Close"] / row["Close"] if row["Close"] else 1.0
        yield {
            "ticker": ticker,
            "date": at.date(),
            "open_price": row["Open"] * factor,
            "high_price": row["High"] * factor,
            "low_price": row["Low"] * factor,
            "close_price": row["Close"] * factor,
            "unadjusted_close_price": row["Close"],
            "volume": 0 if pd.isna(row["Volume"]) else int(row["Volume"]),
            "dividend": row["Dividends"],
            "split_ratio": row["Stock Splits"],
        }


def _events(frame: pd.DataFrame, since: date) -> dict[str, list[float]]:
    """The dividends and splits of a frame that has rows."""
    # yfinance leaves a gap beside the event of a day that has no bar.
    found = frame[list(_EVENTS)].fillna(0.0)
    return {
        at.date().isoformat(): values
        for at, values in zip(found.index, found.to_numpy().tolist(), strict=True)
        if any(values) and at.date() >= since
    }


def _open_session(base_url: str) -> Any:
    """yfinance's own transport; what goes to Yahoo goes to `base_url` when that is elsewhere."""
    from curl_cffi import requests

    elsewhere = None if base_url.rstrip("/") == YAHOO.rstrip("/") else base_url.rstrip("/")

    class Session(requests.Session[requests.Response]):
        """Notes the status of each chart's answer, which yfinance does not tell."""

        status = 0

        def request(self, method: Any, url: str, *args: Any, **more: Any) -> requests.Response:
            path = urlsplit(url).path
            if elsewhere is not None:
                url = elsewhere + (path or "/")
            answer = super().request(method, url, *args, **more)
            if path.startswith(_CHART):
                self.status = answer.status_code
                if answer.status_code >= 500:
                    raise UnreachableError(
                        f"{path.removeprefix(_CHART)}: Yahoo Finance answered {answer.status_code}"
                    )
            return answer

    return Session(impersonate="chrome")


@lru_cache(maxsize=1)
def _isolate_caches() -> tempfile.TemporaryDirectory[str]:
    """Keep yfinance's cookies and time zones in a folder that ends with the process."""
    import yfinance

    folder = tempfile.TemporaryDirectory(prefix="yfinance-")
    yfinance.set_tz_cache_location(folder.name)
    return folder
