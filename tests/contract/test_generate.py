"""`etl generate` as a process: the shipped models are what the shop's schema asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.process import Job, Models, new_job

SHOP = ("--profile", "demo", "--source", "shop")
MARKETS = ("--profile", "demo", "--source", "markets")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The shop, extracted."""
    with new_job(tmp_path_factory.mktemp("generate"), models=Models.SHOP) as found:
        address = {"ETL_SOURCES__SHOP__CLIENT__BASE_URL": found.replay.shop_url}
        found.variables |= address
        done = found.run("--stage", "extract", *SHOP)
        assert done.code == 0, done.err
        yield found


@pytest.mark.slow
def test_the_shipped_models_of_the_shop_are_up_to_date(job: Job) -> None:
    done = job.run(*SHOP, "--check", command="generate")
    assert (done.code, done.err) == (0, "")
    assert done.out == "20 unchanged\n"


@pytest.mark.slow
def test_the_shipped_models_of_the_markets_are_up_to_date(tmp_path: Path) -> None:
    """The dimension was taken out by hand: prices are a fact."""
    with new_job(tmp_path, models=Models.WHOLE) as job:
        job.variables["ETL_SOURCES__MARKETS__ARGUMENTS__BASE_URL"] = job.replay.market_url
        job.variables["ETL_SOURCES__MARKETS__ARGUMENTS__TICKERS"] = "[AAPL]"
        assert job.run("--stage", "extract", *MARKETS).code == 0
        done = job.run(*MARKETS, "--check", command="generate")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "models/marts/dim_markets__prices.sql: removed by hand: not written again",
        "5 unchanged",
    ]


@pytest.mark.slow
def test_check_ends_with_11_and_names_what_would_change(job: Job) -> None:
    path = job.folder / "sqlmesh" / "models" / "marts" / "dim_shop__orders.sql"
    base = job.folder / "sqlmesh" / ".generated" / path.relative_to(job.folder / "sqlmesh")
    text = path.read_text(encoding="utf-8")
    old = text.replace("  currency AS currency,\n", "")
    path.write_text(old, encoding="utf-8")
    base.write_text(old, encoding="utf-8")
    done = job.run(*SHOP, "--check", "--json", command="generate")
    assert done.code == 11
    assert "models/marts/dim_shop__orders.sql: updated" in done.err
    actions = {f["path"]: f["action"] for f in json.loads(done.out)["files"]}
    assert actions.pop("models/marts/dim_shop__orders.sql") == "updated"
    assert set(actions.values()) == {"unchanged"}
    assert path.read_text(encoding="utf-8") == old
    assert job.run(*SHOP, command="generate").code == 0
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("option", ["--fact", "--table"])
def test_what_is_not_there_ends_with_2(job: Job, option: str) -> None:
    done = job.run(*SHOP, option, "order", command="generate")
    assert done.code == 2
    assert "order: no such raw table" in done.err
    assert done.out == ""


def test_nothing_recorded_ends_with_2(tmp_path: Path) -> None:
    with new_job(tmp_path) as job:
        done = job.run(command="generate")
    assert done.code == 2
    assert "dlt has recorded no schema of any source\n     → etl run --stage extract" in done.err


@pytest.mark.slow
def test_lineage_goes_through_generated_models_to_the_apis_field(job: Job) -> None:
    asked = "marts.fact_shop__orders.companies__country_code"
    done = job.run(asked, "--profile", "demo", command="lineage")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[2:] == [
        f"{asked} TEXT",
        "└─ staging.stg_shop__companies.country_code TEXT",
        "   └─ shop_raw.companies.country_code TEXT",
        "      └─ GET companies $.data[*].country_code",
    ]
    done = job.run("shop_raw.countries.eur_rate", "--profile", "demo", command="lineage")
    assert "└─ target marts: revenue_daily.revenue_eur DECIMAL(38, 10)" in done.out
