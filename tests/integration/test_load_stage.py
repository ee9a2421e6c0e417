"""What the load stage publishes when it is run by itself, after failures and kills."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from etl.errors import ExitCode
from tests.integration.projects import Shop
from tests.processes import Process

SLOW_MODEL = """
import pathlib
import time

import pandas as pd
from sqlmesh import ExecutionContext, model


@model(
    "marts.customers",
    kind="FULL",
    allow_partials=True,
    columns={{"customer": "text"}},
    depends_on={{"marts.totals"}},
)
def execute(context: ExecutionContext, **kwargs):
    pathlib.Path("{flag}").touch()
    time.sleep(60)
    return pd.DataFrame({{"customer": ["x"]}})
"""


@pytest.fixture
def shop(tmp_path: Path, template: Shop) -> Shop:
    return template.copy(tmp_path / "shop")


def test_after_a_failed_audit_stage_nothing_of_it_is_published(shop: Shop) -> None:
    # Good when it was transformed, spoiled by hand since.
    shop.query(f"UPDATE {shop.physical('marts.totals')} SET amount = -1")
    assert shop.run("audit").exit_code == ExitCode.DATA_QUALITY
    record = shop.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert {x.model: x.status for x in record.loads} == {
        "marts.totals": "held_back",
        "marts.customers": "held_back",
        "marts.items": "unchanged",
    }
    assert {f.subject for f in record.failures} == {"marts.totals", "marts.customers"}
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


def test_mart_that_was_never_built_is_told(shop: Shop) -> None:
    shop.edit("config/etl.yaml", "marts.items", "marts.imets")
    record = shop.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.failures[0].message == (
        "marts.imets was not published: it was never built, or it is gone"
    )


def test_only_prod_is_published(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    record = shop.run(environment="dev_ann")
    assert (record.exit_code, record.loads) == (0, ())
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


@pytest.mark.slow
def test_transformation_killed_half_way_publishes_nothing(shop: Shop) -> None:
    """SIGKILL while one mart is built and the other waits."""
    shop.sell((3, "eve", -5), (4, "eve", 6))
    flag = shop.folder / "building"
    query = (shop.folder / "sqlmesh/models/customers.sql").read_text(encoding="utf-8")
    (shop.folder / "sqlmesh/models/customers.sql").unlink()
    shop.write("sqlmesh/models/customers.py", SLOW_MODEL.format(flag=flag))
    process = Process(
        ["run", "--stage", "extract", "--stage", "transform"], shop.folder, shop.environment()
    )
    deadline = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert set(shop.verdicts().values()) == {"unfinished"}
    record = shop.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert {x.status for x in record.loads} == {"held_back"}
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    # Started again, it ends as if nothing had happened.
    (shop.folder / "sqlmesh/models/customers.py").unlink()
    shop.write("sqlmesh/models/customers.sql", query)
    assert shop.run().exit_code == 0
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 1)]
