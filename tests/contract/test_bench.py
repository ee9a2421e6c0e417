"""The benchmarks run: with few rows, once."""

from __future__ import annotations

import pytest

from bench.load_postgres import main as load_postgres
from bench.transform_markets import main as transform_markets


@pytest.mark.slow
def test_loads_into_postgresql_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Each way's rows are counted at the server; one that loses some is an error."""
    load_postgres(
        ["--rows", "300", "--rounds", "1", "--only", "limit: CSV, COPY", "--only", "etl, full",
         "--only", "etl, 1 % changed"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "300 rows, 20 columns, 1 rounds" in said
    for way in ("limit: CSV, COPY", "etl, full", "etl, 1 % changed"):
        assert f"| {way} | " in said
    assert "the load itself" in said


@pytest.mark.slow
def test_the_markets_models_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """The mart's rows are counted against raw's; one that is missing is an error."""
    transform_markets(["--tickers", "3", "--years", "0.1", "--rounds", "1"])
    said = capsys.readouterr().out
    assert "3 tickers, 0.1 years, 1 rounds" in said
    for way in ("etl, full", "DuckDB alone", "etl, one new day"):
        assert f"| {way} | " in said
    assert "the work itself" in said
