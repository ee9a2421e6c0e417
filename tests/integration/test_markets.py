"""The markets through the job: raw and mart day after day, what is restated, who is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.demo import Fault, Replay
from etl.demo.markets.calendar import opening, trading_days
from etl.demo.markets.prices import TICKERS
from etl.records import RunRecord
from etl.runs import extracted_sources
from etl.settings import Settings
from etl.sources.yahoo import is_trading
from tests.integration.extracting import context, extract_once, failures_of, query, settings_of
from tests.integration.projects import Bluesky

ROOT = Path(__file__).parents[2]
# On 17 October NVDA's close of the 13th is corrected; AAPL pays on 4 September, MSFT on 17 October.
CORRECTED = date(2025, 10, 17)
OTHERS = ("*bluesky*", "*shop*", "*follower*", "mutuals*", "*revenue*", "marts_agree*")
RAW = "SELECT * EXCLUDE (_dlt_load_id, _dlt_id) FROM markets_raw.prices ORDER BY ticker, date"


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay(CORRECTED) as running:
        yield running


def shipped(folder: Path, replay: Replay, **arguments: Any) -> Settings:
    """The source as config/demo.yaml has it, pointed at the replay."""
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    source = config["sources"]["markets"]
    source["arguments"] |= {"base_url": replay.market_url, "retries": 0} | arguments
    return settings_of(folder, {"markets": source})


# -- raw -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_raw_is_the_same_day_after_day_and_in_one_reading(tmp_path: Path, replay: Replay) -> None:
    """Through corrections and dividends, with readings one day and many days apart."""
    daily = shipped(tmp_path / "daily", replay, start="2025-06-01")
    for day in ((9, 4), (9, 5), (9, 20), (10, 16), (10, 17), (10, 18)):
        replay.date = date(2025, *day)
        extract_once(daily)
    whole = shipped(tmp_path / "whole", replay, start="2025-06-01")
    extract_once(whole)
    found, expected = query(daily, RAW), query(whole, RAW)
    assert (
        len(found)
        == len(expected)
        == 7 * len([d for d in trading_days(replay.date) if d >= date(2025, 6, 1)])
    )
    for row, wanted in zip(found, expected, strict=True):
        assert row[:2] == wanted[:2]
        assert row[2:] == pytest.approx(wanted[2:], rel=1e-9)


def test_an_ex_date_that_still_trades_restates_raw_and_comes_once_when_it_is_over(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"start": "2025-06-01", "tickers": ["AAPL"]}
    daily, whole = (shipped(tmp_path / name, replay, **arguments) for name in ("daily", "whole"))
    ex_date = date(2025, 9, 4)
    days = len([d for d in trading_days(ex_date) if d >= date(2025, 6, 1)])
    replay.date = ex_date
    assert extract_once(daily).run.sources[0].rows == days
    replay.date = date(2025, 9, 5)
    with monkeypatch.context() as session:
        noon = datetime.fromtimestamp(opening(ex_date) + 9000, UTC)
        session.setattr(
            "etl.sources.yahoo.is_trading", lambda meta, day, _: is_trading(meta, day, noon)
        )
        assert [extract_once(daily).run.sources[0].rows for _ in range(2)] == [days, 0]
        extract_once(whole)
        assert query(daily, RAW) == query(whole, RAW)
    assert [extract_once(daily).run.sources[0].rows for _ in range(2)] == [1, 0]
    extract_once(whole)
    assert query(daily, RAW) == query(whole, RAW)


def test_a_reading_that_finds_nothing_new_loads_nothing(tmp_path: Path, replay: Replay) -> None:
    settings = shipped(tmp_path, replay)
    first = extract_once(settings).run.sources[0]
    assert (first.rows, first.pages) == (7 * len(trading_days(replay.date)), 7)
    again = extract_once(settings).run.sources[0]
    assert (again.rows, again.pages, again.requests) == (0, 7, None)


def test_a_full_refresh_reads_every_ticker_from_its_start(tmp_path: Path, replay: Replay) -> None:
    settings = shipped(tmp_path, replay, start="2025-01-01")
    first = extract_once(settings).run.sources[0].rows
    ctx = context(settings, full_refresh=True)
    assert extract_once(settings, ctx).run.sources[0].rows == first


# -- who is missing --------------------------------------------------------------------------------


def test_a_ticker_that_vanished_does_not_hold_back_the_others(
    tmp_path: Path, replay: Replay
) -> None:
    settings = shipped(tmp_path, replay, tickers=["AAPL", "GONE", "MSFT"])
    ctx = context(settings)
    (failure,) = failures_of(settings, ctx)
    assert (failure.code, failure.subject) == (5, "markets[GONE]")
    assert failure.message == "markets: GONE: No data found, symbol GONE may be delisted"
    assert ctx.done_sources == {"markets"}
    assert query(settings, "SELECT DISTINCT ticker FROM markets_raw.prices ORDER BY ALL") == [
        ("AAPL",), ("MSFT",),
    ]  # fmt: skip


def test_a_ticker_that_comes_back_is_read_from_where_it_ended(
    tmp_path: Path, replay: Replay
) -> None:
    settings = shipped(tmp_path, replay, tickers=["AAPL", "TSLA"], start="2025-06-01")
    extract_once(settings)
    replay.faults = [Fault("404", method="TSLA")]
    replay.date = date(2025, 10, 22)
    assert [f.subject for f in failures_of(settings)] == ["markets[TSLA]"]
    replay.faults = ()
    extract_once(settings)
    counts = query(settings, "SELECT ticker, count(*) FROM markets_raw.prices GROUP BY 1")
    assert len({count for _, count in counts}) == 1


def test_when_all_tickers_vanished_nothing_is_loaded(tmp_path: Path, replay: Replay) -> None:
    settings = shipped(tmp_path, replay, tickers=["GONE", "LOST"])
    ctx = context(settings)
    (failure,) = failures_of(settings, ctx)
    assert (failure.code, ctx.done_sources) == (5, set())
    assert failure.subject.startswith("markets.")


def test_a_source_that_is_down_is_no_missing_ticker(tmp_path: Path, replay: Replay) -> None:
    """The rows of the tickers before it are not loaded either: the next try reads them again."""
    settings = shipped(tmp_path, replay, tickers=["AAPL", "TSLA"])
    replay.faults = [Fault("503", method="TSLA")]
    (failure,) = failures_of(settings)
    assert failure.code == 4
    replay.faults = ()
    assert extract_once(settings).run.sources[0].rows == 2 * len(trading_days(replay.date))


# -- the job ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restated:
    """The project after a correction; each run's record, and the mart's rows by their key."""

    project: Bluesky
    records: list[RunRecord]
    marts: list[dict[Any, Any]]


@pytest.fixture(scope="module")
def restated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restated]:
    """A run before the correction and one after it; NOPE is no ticker."""
    with Replay(CORRECTED) as replay:
        project = Bluesky(tmp_path_factory.mktemp("markets") / "project", replay, *OTHERS)
        path = project.folder / "config" / "demo.yaml"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("META, NVDA, TSLA]", "META, NVDA, TSLA, NOPE]"))
        found = Restated(project, [], [])
        for day in (date(2025, 10, 16), CORRECTED):
            found.records.append(project.run(day, sources=("markets",)))
            rows = project.mart("SELECT * FROM stock_metrics")
            found.marts.append({(row[0], row[1]): row for row in rows})
        yield found


@pytest.mark.slow
def test_a_corrected_price_changes_exactly_the_rows_that_it_should(
    restated: Restated,
) -> None:
    before, after = restated.marts
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("NVDA", date(2025, 10, day)) for day in (13, 14, 15)}
    assert after.keys() - before.keys() == {(t, date(2025, 10, 16)) for t in TICKERS}
    assert before.keys() <= after.keys()


@pytest.mark.slow
def test_the_run_publishes_the_rest_and_ends_with_5(
    restated: Restated,
) -> None:
    for record in restated.records:
        assert (record.exit_code, record.partial) == (5, True)
        assert [f.subject for f in record.failures] == ["markets[NOPE]"]
        assert {s.name: s.status for s in record.stages} == {
            "extract": "partial", "transform": "ok", "audit": "ok", "load": "ok",
        }  # fmt: skip
        # `etl retry` reads it again.
        assert extracted_sources(record) == set()
    (load,) = (x for x in restated.records[1].loads if x.model == "marts.stock_metrics")
    assert (load.status, load.inserted, load.updated, load.deleted) == ("published", 7, 3, 0)


MADE = {
    "marts.stock_metrics": "*",
    "staging.int_markets__smoothed": "* EXCLUDE (_changed_at)",
    "staging.int_markets__macd": "*",
}
# Days go from the middle and from the start, one is corrected, one comes late, a ticker is new.
LATER = """
INSERT INTO markets_raw._dlt_loads BY NAME
SELECT '2.0' AS load_id, 'markets' AS schema_name, 0 AS status, now() AS inserted_at;
DELETE FROM markets_raw.prices WHERE ticker = 'AAPL' AND date = '2022-03-15'
    OR ticker = 'MSFT' AND date < '2020-02-20';
UPDATE markets_raw.prices SET close_price = low_price, _dlt_load_id = '2.0', _dlt_id = 'corrected'
WHERE ticker = 'TSLA' AND date = '2025-10-13';
INSERT INTO markets_raw.prices SELECT * REPLACE (
    'META' AS ticker, '2023-06-17'::DATE AS date, '2.0' AS _dlt_load_id, 'late' AS _dlt_id
) FROM markets_raw.prices WHERE ticker = 'META' AND date = '2023-06-16';
INSERT INTO markets_raw.prices SELECT * REPLACE (
    'NEW' AS ticker, '2.0' AS _dlt_load_id, 'new' || date AS _dlt_id
) FROM markets_raw.prices WHERE ticker = 'NVDA' AND date > '2024-01-01';
"""


@pytest.mark.slow
def test_what_is_made_from_the_changed_day_on_is_what_a_full_refresh_makes(
    tmp_path: Path, restated: Restated
) -> None:
    project = restated.project.copy(tmp_path / "project")

    def made() -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: sorted(project.staged(f"SELECT {columns} FROM {name}"), key=repr)
            for name, columns in MADE.items()
        }

    def transform(**options: Any) -> dict[str, list[tuple[Any, ...]]]:
        record = project.run(CORRECTED, sources=("markets",), stages=("transform",), **options)
        assert record.exit_code == 0, record.failures
        return made()

    # All of it is of earlier days: a run makes today's interval again.
    for table, column in {
        "markets_raw._dlt_loads": "inserted_at",
        project.physical("staging.stg_markets__prices"): "_loaded_at",
        project.physical("staging.int_markets__smoothed"): "_changed_at",
    }.items():
        project.staged(f"UPDATE {table} SET {column} = {column} - INTERVAL 9 DAY")
    before = made()
    project.staged(LATER)
    after = transform()
    made_again = project.staged(
        "SELECT ticker, min(trade_date) FROM staging.int_markets__smoothed "
        "WHERE _changed_at > now() - INTERVAL 2 DAY GROUP BY ticker"
    )
    assert dict(made_again) == {
        "AAPL": date(2022, 3, 16),
        "MSFT": date(2020, 2, 20),
        "TSLA": date(2025, 10, 13),
        "META": date(2023, 6, 17),
        "NEW": date(2024, 1, 2),
    }
    assert after != before
    assert after == transform(full_refresh=True)
    # In a run keys are judged from the first changed day on, by the stage alone all of them.
    table = project.physical("marts.stock_metrics")
    project.staged(
        f"INSERT INTO {table} FROM {table} WHERE ticker = 'NVDA' AND trade_date = '2020-03-03'"
    )
    audited = project.run(CORRECTED, sources=("markets",), stages=("audit",))
    assert audited.exit_code == 3
    assert [f.message for f in audited.failures] == [
        "audit days_unique failed on marts.stock_metrics: 1 row"
    ]
