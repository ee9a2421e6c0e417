"""A frozen contract, by process: code 10, the row shown masked, nothing committed or poisoned."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from etl.records import json_schema
from tests.duckdb_files import opened
from tests.integration.extracting import serving
from tests.processes import run_etl, without_settings

CONFIG = """
job: shop
retry: {{attempts: 1}}
transform: {{pii: [email, staging.stg_shop__orders.nick_name]}}
sources:
  shop:
    schema_contract: freeze
    client:
      base_url: {url}
      auth: {{type: bearer, token: t0p-s3cret-t0ken}}
      paginator: single_page
    resources:
      - {{name: orders, primary_key: email, endpoint: {{path: orders}}}}
"""
PRIVATE = ("ann@example.com", "Annie", "t0p-s3cret-t0ken", "eve@example.com")
GOOD = {"email": "ann@example.com", "nickName": "Annie", "owner": {"email": "eve@example.com"}}
FOUND = {
    "email": "**********",
    "nick_name": "**********",
    "owner__email": "**********",
    "note": "**********",
    "elo": 7,
}


class Job:
    """A project in a folder, run as a process against an API of the test's."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "config").mkdir()
        self.config = folder / "config" / "etl.yaml"
        self.config.write_text(CONFIG.format(url=url), encoding="utf-8")

    def extract(self) -> subprocess.CompletedProcess[str]:
        """`python -m etl run --stage extract`."""
        variables = without_settings(ETL_PROJECT=str(self.folder), ETL_LOG__FORMAT="text")
        return run_etl(["run", "--stage", "extract"], self.folder, variables)

    def orders(self) -> list[tuple[Any, ...]]:
        """What stands in raw."""
        with opened(self.folder / "data" / "warehouse.duckdb") as connection:
            return connection.execute("SELECT * EXCLUDE (_dlt_load_id, _dlt_id) "
                                      "FROM shop_raw.orders ORDER BY ALL").fetchall()  # fmt: skip


@pytest.fixture
def answer() -> dict[str, Any]:
    return {"orders": [GOOD]}


@pytest.fixture
def job(tmp_path: Path, answer: dict[str, Any]) -> Iterator[Job]:
    with serving(lambda path, asked, headers: answer["orders"]) as api:
        yield Job(tmp_path, api.url)


def test_a_broken_contract_ends_with_10_shows_the_row_masked_and_commits_nothing(
    job: Job, answer: dict[str, Any]
) -> None:
    """Until the data is mended, or the contract: then it takes the rows that broke it."""
    done = job.extract()
    assert done.returncode == 0, done.stderr
    before = job.orders()
    answer["orders"] = [
        {"email": "bob@example.com"},
        {**GOOD, "elo": 7, "note": "t0p-s3cret-t0ken"},
    ]
    # `elo` comes before `note` in the row, both are new: one of them is named.
    done = job.extract()
    assert done.returncode == 10
    text = (job.folder / "data" / "runs" / "latest" / "run.json").read_text(encoding="utf-8")
    record = json.loads(text)
    jsonschema.Draft202012Validator(json_schema()).validate(record)
    [failure] = record["failures"]
    assert failure["message"] == (
        "shop: orders.elo: the contract on columns (freeze) does not allow it: bigint came"
    )
    [row] = failure["sample"]
    assert {k: v for k, v in row.items() if not k.startswith("_dlt")} == FOUND
    log = (job.folder / "data" / "runs" / record["run_id"] / "log.jsonl").read_text("utf-8")
    for told in (text, log, done.stdout, done.stderr):
        assert not [word for word in PRIVATE if word in told]
    assert job.orders() == before

    answer["orders"] = [{**GOOD, "elo": 7}]
    assert job.extract().returncode == 10
    answer["orders"] = [GOOD]  # the data is mended
    assert job.extract().returncode == 0
    assert len(job.orders()) == 2

    answer["orders"] = [{**GOOD, "elo": 7}]  # the contract is mended
    frozen = job.config.read_text(encoding="utf-8")
    job.config.write_text(frozen.replace("freeze", "evolve"), encoding="utf-8")
    assert job.extract().returncode == 0
    assert [row[-1] for row in job.orders()] == [7, None, None]
