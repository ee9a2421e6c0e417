"""Daily prices of stocks from Yahoo Finance by `yfinance`: only what is new, ticker by ticker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import dlt
from dlt.extract import DltResource
from loguru import logger

from etl.errors import AuthError, ConfigError, EtlError, ExtractError, UnreachableError

if TYPE_CHECKING:
    import pandas as pd
    from yfinance.scrapers.history import PriceHistory

YAHOO: Final = "https://query2.finance.yahoo.com/"
TICKERS: Final = ("AAPL", "MSFT", "GOOGL", "AMZN", "META", "NVDA", "TSLA")
_CHART: Final = "/v8/finance/chart/"
_FOREVER: Final = date(2100, 1, 1)
_PRICES: Final = ("Open", "High", "Low", "Close", "Adj Close")
_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "ticker": ("text", "Ticker symbol at Yahoo Finance."),
    "date": ("date", "Trading day of the exchange."),
    "open_price": ("double", "First price, adjusted for splits and dividends."),
    "high_price": ("double", "Highest price, adjusted for splits and dividends."),
    "low_price": ("double", "Lowest price, adjusted for splits and dividends."),
    "close_price": ("double", "Last price, adjusted for splits and dividends."),
    "unadjusted_close_price": ("double", "Last price, adjusted for splits only."),
    "volume": ("bigint", "Shares traded, adjusted for splits."),
    "dividend": ("double", "Dividend per share that the day is the ex-date of, else 0."),
    "split_ratio": ("double", "New shares for an old one when the stock is split, else 0."),
}


def prices(
    tickers: Sequence[str] = TICKERS,
    start: str = "2020-01-01",
    look_back_days: int = 7,
    base_url: str = YAHOO,
    retries: int = 3,
    timeout_seconds: float = 30.0,
    contain: Callable[[EtlError, str], None] | None = None,
) -> DltResource:
    """One row for each ticker and trading day since `start`, merged on both into `prices`.

    A ticker is read from `look_back_days` before its newest day, so that prices that were corrected
    since then are read again. A split or dividend that is new changes all adjusted prices before
    it: then the ticker is read from `start`. `retries` are those of a request that met a network
    error. A ticker that is not there goes to `contain` with its name; the others are read.

    Raises:
        ConfigError: the extra is not installed, or an argument is wrong.
    """
    names = (tickers,) if isinstance(tickers, str) else tuple(tickers)
    if not names or look_back_days < 0:
        raise ConfigError(
            "markets: `tickers` must name at least one ticker, `look_back_days` must be at least 0"
        )
    try:
        first = date.fromisoformat(str(start))
    except ValueError as e:
        raise ConfigError(f"markets: start {start!r} is no date", hint="write 2020-01-01") from e
    _require_yfinance()

    @dlt.resource(
        name="prices",
        write_disposition="merge",
        primary_key=("ticker", "date"),
        columns={n: {"data_type": t, "description": d} for n, (t, d) in _COLUMNS.items()},  # type: ignore[misc]
    )
    def read() -> Iterator[list[dict[str, Any]]]:
        yahoo = Yahoo(base_url, retries=retries, timeout=timeout_seconds)
        states = dlt.current.resource_state().setdefault("tickers", {})
        lost = []
        for name in names:
            try:
                rows, states[name] = read_ticker(yahoo, name, first, look_back_days,
                                                 states.get(name))  # fmt: skip
            except TickerMissingError as e:
                lost.append(e)
                continue
            yield rows
        if len(lost) == len(names) or (lost and contain is None):
            raise lost[0]
        for error in lost:
            if contain is not None:
                contain(error, error.ticker)

    return read


class TickerMissingError(ExtractError):
    """Yahoo has no prices of a ticker."""

    def __init__(self, ticker: str, why: str) -> None:
        super().__init__(
            f"{ticker}: {why}",
            hint="renamed or delisted? take the ticker out of the source's `tickers`, or mend it; "
            "its earlier prices stay",
        )
        self.ticker = ticker


def read_ticker(
    yahoo: Yahoo, ticker: str, first: date, look_back_days: int, state: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a ticker that are new or may have changed, and its state for the next time.

    The state is `{"first": …, "last": …, "events": {day: …}}` with days as ISO 8601 text; `events`
    are the splits and dividends of the look-back.

    Raises:
        TickerMissingError: Yahoo has no price of it.
        UnreachableError, AuthError, ExtractError
    """
    since = first
    if state is not None and state["first"] == first.isoformat():
        since = max(first, date.fromisoformat(state["last"]) - timedelta(days=look_back_days))
    rows = yahoo.read(ticker, since)
    if (
        since > first
        and state is not None
        and _events(rows, since)
        != {day: event for day, event in state["events"].items() if day >= since.isoformat()}
    ):
        logger.info(f"{ticker}: a split or dividend is new; its prices are read from {first} on")
        rows = yahoo.read(ticker, first)
    last = max(row["date"] for row in rows)
    kept = last - timedelta(days=look_back_days)
    return rows, {
        "first": first.isoformat(), "last": last.isoformat(), "events": _events(rows, kept),
    }  # fmt: skip


def _events(rows: list[dict[str, Any]], since: date) -> dict[str, list[float]]:
    return {
        row["date"].isoformat(): [row["dividend"], row["split_ratio"]]
        for row in rows
        if row["date"] >= since and (row["dividend"] or row["split_ratio"])
    }


class Yahoo:
    """Yahoo's chart API through yfinance; every failure has its class."""

    def __init__(self, base_url: str, *, retries: int, timeout: float) -> None:
        import yfinance
        from yfinance.data import YfData

        _isolate_caches()
        yfinance.config.debug.hide_exceptions = False
        yfinance.config.network.retries = retries
        self._session = _open_session(base_url)
        self._data = YfData(session=self._session)
        self._timeout = timeout

    def read(self, ticker: str, since: date) -> list[dict[str, Any]]:
        """The trading days of a ticker from `since` on that are over, in order.

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
        if not rows:
            raise TickerMissingError(ticker, f"Yahoo Finance returned no price since {since}")
        return rows

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
            raise UnreachableError(
                f"{ticker}: Yahoo Finance cannot be reached ({type(e).__name__})",
                hint="no network? `etl run --profile demo` runs the same job without one",
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


def _rows(ticker: str, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The frame as rows of `_COLUMNS`; days that lack a price are left out.

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
            "volume": int(row["Volume"]) if row["Volume"] == row["Volume"] else 0,  # noqa: PLR0124
            "dividend": row["Dividends"],
            "split_ratio": row["Stock Splits"],
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


def _require_yfinance() -> None:
    try:
        import yfinance  # noqa: F401
    except ImportError as e:
        raise ConfigError(
            f"markets: yfinance is not installed ({e})", hint="pip install 'etl-job[markets]'"
        ) from e


@lru_cache(maxsize=1)
def _isolate_caches() -> tempfile.TemporaryDirectory[str]:
    """Keep yfinance's cookies and time zones in a folder that ends with the process."""
    import yfinance

    folder = tempfile.TemporaryDirectory(prefix="yfinance-")
    yfinance.set_tz_cache_location(folder.name)
    return folder
