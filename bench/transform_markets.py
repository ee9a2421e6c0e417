"""The markets' models: all days, and one new day, against DuckDB running their SELECTs once.

Whole processes of `etl run --stage transform` on the shipped models, medians; the prices are random
walks, written into raw as a load package. Models and audits run; DuckDB's way has neither.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb

from bench.measure import Timing, alternate, ratios, table, time_process
from tests.shipped_models import columns_of, shipped_model

ROOT = Path(__file__).parents[1]
# In the order in which they read each other.
MODELS = ("staging/int_markets__smoothed", "staging/int_markets__macd", "marts/stock_metrics")
OTHERS = shutil.ignore_patterns("*bluesky*", "*shop*", "*follower*", "*mutuals*", "*revenue*",
                                "labels_*", "changes_*", "marts_agree*", ".cache", "logs",
                                "tests", "__pycache__")  # fmt: skip
RAW = """
CREATE SCHEMA IF NOT EXISTS markets_raw;
CREATE TABLE IF NOT EXISTS markets_raw._dlt_loads (load_id VARCHAR, schema_name VARCHAR,
    status BIGINT, inserted_at TIMESTAMPTZ, schema_version_hash VARCHAR);
CREATE TABLE IF NOT EXISTS markets_raw.prices (ticker VARCHAR, date DATE, close_price DOUBLE,
    dividend DOUBLE, high_price DOUBLE, low_price DOUBLE, open_price DOUBLE, split_ratio DOUBLE,
    unadjusted_close_price DOUBLE, volume BIGINT, _dlt_id VARCHAR, _dlt_load_id VARCHAR);
"""
# A price on each weekday, that swings about its start; the same for everyone.
PACKAGE = """
INSERT INTO markets_raw.prices
SELECT 'T' || t, day, close, 0, close * 1.01, close * 0.99, close * 1.002, 0, close,
    1000 + (hash(t, day) % 1000000)::BIGINT, 'T' || t || day, '{load_id}'
FROM (
    SELECT t, day, 100 * exp(0.3 * sin(n / 40.0 + t) + (hash(t, n) % 1000)::DOUBLE / 20000) AS close
    FROM range({tickers}) AS a(t), range({first}, {last}) AS b(n),
        (SELECT 1) AS one(x), LATERAL (SELECT DATE '2020-01-01' + n::INTEGER) AS c(day)
    WHERE isodow(day) < 6
);
INSERT INTO markets_raw._dlt_loads VALUES ('{load_id}', 'markets', 0, {committed}, 'x');
"""


def from_nothing(model: str) -> list[str]:
    """Statements that make a model's rows of all time in the schema `plain`."""
    loaded = shipped_model(model)
    query = loaded.render_query(start="2020-01-01", end="2100-01-01")
    if query is None:
        raise RuntimeError(f"{model} has no query")
    name = f"plain.{model.partition('/')[2]}"
    text = re.sub(r'"staging"\."int_', '"plain"."int_', query.sql("duckdb"))
    return [f"CREATE TABLE {name} ({columns_of(loaded)})", f"INSERT INTO {name} BY NAME {text}"]


class Market:
    """A project with the markets' models alone, and prices up to some day."""

    def __init__(self, folder: Path, tickers: int, days: int) -> None:
        self.folder, self.tickers, self.days = folder, tickers, days
        shutil.copytree(ROOT / "sqlmesh", folder / "sqlmesh", ignore=OTHERS)
        (folder / "config").mkdir()
        (folder / "config" / "etl.yaml").write_text("transform: {start: 2026-01-01}\n")
        self.data = folder / "data"

    def bring(self, load_id: str, first: int, last: int, committed: str = "now()") -> None:
        """A load package with the days from `first` up to `last`."""
        self.data.mkdir(exist_ok=True)
        with duckdb.connect(str(self.data / "warehouse.duckdb")) as connection:
            connection.execute(RAW)
            connection.execute(
                PACKAGE.format(
                    load_id=load_id,
                    tickers=self.tickers,
                    first=first,
                    last=last,
                    committed=committed,
                )
            )

    def run(self) -> Timing:
        """`etl run --stage transform`; the mart's rows are counted.

        The work itself is what the run record says of the models, their audits included.
        """
        timing = time_process(
            [sys.executable, "-m", "etl", "run", "--stage", "transform",
             "--project", str(self.folder)]
        )  # fmt: skip
        with duckdb.connect(str(self.data / "warehouse.duckdb"), read_only=True) as connection:
            (raw,) = connection.execute("SELECT count(*) FROM markets_raw.prices").fetchall()
            (rows,) = connection.execute("SELECT count(*) FROM marts.stock_metrics").fetchall()
        if raw != rows:
            raise RuntimeError(f"{rows} rows in the mart, {raw} in raw")
        record = json.loads((self.data / "runs" / "latest" / "run.json").read_text("utf-8"))
        return replace(timing, work=sum(model["seconds"] for model in record["models"]))

    def full(self, number: int) -> Timing:
        """Everything anew."""
        shutil.rmtree(self.data, ignore_errors=True)
        # Not today: SQLMesh makes today's interval again in each run of the day.
        self.bring("1000.0", 0, self.days, committed="TIMESTAMPTZ '2026-01-02 12:00:00+00'")
        return self.run()

    def new_day(self, number: int) -> Timing:
        """One weekday more for each ticker, after `full`."""
        first = self.days + 7 * number
        self.bring(f"{2000 + number}.0", first, first + 1)
        return self.run()

    def plain(self, number: int) -> Timing:
        """The models' SELECTs, once, by DuckDB alone, on the staging that stands there."""
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name) / "warehouse.duckdb"
            shutil.copy2(self.data / "warehouse.duckdb", copy)
            script = Path(name) / "plain.py"
            statements = ["DROP SCHEMA IF EXISTS plain CASCADE", "CREATE SCHEMA plain"]
            for model in MODELS:
                statements += from_nothing(model)
            script.write_text(
                f"import duckdb\nc = duckdb.connect({str(copy)!r})\n"
                f"for s in {statements!r}: c.execute(s)\n"
            )
            return time_process([sys.executable, str(script)])


def main(arguments: list[str] | None = None) -> None:
    """Print one table, and the ratios that matter: of processes, and of the models alone."""
    parser = argparse.ArgumentParser(prog="python -m bench transform_markets", description=__doc__)
    parser.add_argument("--tickers", type=int, default=500)
    parser.add_argument("--years", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    # To a Sunday, so that the next days are trading days.
    days = int(options.years * 365.25) // 7 * 7 + 5
    with tempfile.TemporaryDirectory() as name:
        market = Market(Path(name), options.tickers, days)
        ways: dict[str, Callable[[int], Timing]] = {
            "etl, full": market.full, "DuckDB alone": market.plain,
            "etl, one new day": market.new_day,
        }  # fmt: skip
        results = alternate(ways, options.rounds)
    rows = options.tickers * (days // 7 * 5 + 3)
    sys.stdout.write(
        f"{options.tickers} tickers, {options.years:g} years, {options.rounds} rounds; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end\n\n"
        + table(results, rows, "etl, full") + "\n\n" + ratios(results, "etl, full") + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
