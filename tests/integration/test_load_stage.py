"""What the load stage publishes when it is run by itself, after failures and kills."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import Any, Never

import pytest

from etl import targets
from etl.errors import ConfigError, ExitCode, Stopped, UnreachableError
from etl.records import RunRecord
from etl.settings import Settings
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

GOOD = [("ann", 50), ("bob", 200)]


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
    text = shop.text("sqlmesh/models/items.sql")
    shop.write("sqlmesh/models/names.sql", text.replace("marts.items", "marts.names"))
    shop.edit("config/etl.yaml", "marts.items", "marts.names")
    record = shop.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.failures[0].message == "marts.names was not published: it was never built"
    assert "--stage transform" in record.failures[0].hint
    assert shop.run("transform", "audit", "load").exit_code == 0


def test_dry_run_of_a_load_that_fails_tells_no_changes(shop: Shop) -> None:
    shop.edit(
        "config/etl.yaml", "marts.items, target: marts", "marts.items, target: marts, columns: [x]"
    )
    record = shop.run("load", dry_run=True)
    assert record.exit_code == ExitCode.CONFIG
    assert "load marts.items → marts: failed" in record.plan


@pytest.mark.parametrize(
    ("stages", "dry_run", "totals"),
    [
        ((), False, [("ann", 100), ("bob", 400)]),
        ((), True, GOOD),
        (("load",), False, GOOD),
    ],
    ids=["run", "dry run", "load alone"],
)
def test_load_of_a_model_that_is_nowhere_is_a_configuration_error(
    shop: Shop, stages: tuple[str, ...], dry_run: bool, totals: list[tuple[str, int]]
) -> None:
    shop.edit("config/etl.yaml", "marts.items", "marts.imets")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    record = shop.run(*stages, dry_run=dry_run)
    assert record.exit_code == ExitCode.CONFIG
    assert [(f.message, f.hint) for f in record.failures] == [
        ("loads: no model is called marts.imets", "did you mean marts.items?")
    ]
    assert shop.published("totals") == totals, "the others go on"


def test_run_without_its_models_does_not_pass_for_one(shop: Shop) -> None:
    """Green for ever, with marts of the day before."""
    (shop.folder / "sqlmesh").rename(shop.folder / "elsewhere")
    with pytest.raises(ConfigError, match=r"sqlmesh: no such folder, and `loads` names marts\."):
        shop.run()


def test_only_prod_is_published(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    record = shop.run(environment="dev_ann")
    assert (record.exit_code, record.loads) == (0, ())
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


TWO = "  marts: {kind: duckdb, path: published.duckdb}"


def test_targets_are_told_which_marts_the_run_evaluated(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers look for the rows that changed at once then, and do not ask whether any did."""
    told: list[dict[str, bool]] = []

    def publish(*arguments: Any, **options: Any) -> Any:
        told.append({p.model: p.evaluated for p in arguments[3]})
        return targets.publish(*arguments, **options)

    monkeypatch.setattr("etl.stages.load.publish", publish)
    shop.bring((5, "ann", 5))
    assert shop.run("transform", "audit", "load").exit_code == 0
    assert shop.run("load").exit_code == 0
    assert any(told[0].values())
    assert not any(told[1].values())


def test_load_that_is_tried_again_is_told_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same labels make the metrics unreadable for Prometheus."""
    shop.edit("config/etl.yaml", "{attempts: 1}", "{attempts: 2, first_wait_seconds: 0.01}")
    shop.edit("config/etl.yaml", TWO, TWO + "\n  other: {kind: duckdb, path: other.duckdb}")
    shop.edit("config/etl.yaml", "marts.items, target: marts", "marts.items, target: other")
    (shop.data / "published.duckdb").unlink()
    tries = []

    def publish(settings: Settings, connection: Any, name: str, *more: Any, **options: Any) -> Any:
        tries.append(name)
        if tries == ["marts", "other"]:
            raise UnreachableError("busy")
        return targets.publish(settings, connection, name, *more, **options)

    monkeypatch.setattr("etl.stages.load.publish", publish)
    record = shop.run("load")
    assert (record.exit_code, len(tries)) == (0, 4)
    assert sorted((x.target, x.model, x.status, x.inserted) for x in record.loads) == [
        ("marts", "marts.customers", "published", 2),
        ("marts", "marts.totals", "published", 2),
        ("other", "marts.items", "published", 2),
    ]


def add_target_before(shop: Shop) -> None:
    """Let `marts.items` go to a target of its own, which comes first."""
    shop.edit("config/etl.yaml", TWO, "  other: {kind: parquet, path: other}\n" + TWO)
    shop.edit("config/etl.yaml", "marts.items, target: marts", "marts.items, target: other")
    (shop.data / "published.duckdb").unlink()


def sink(items: Any, table: Any) -> None:
    """A destination of dlt that is a function: nothing can be read back."""


def test_mart_that_cannot_be_compared_at_its_target_is_no_failure(shop: Shop) -> None:
    add_target_before(shop)
    function = f"dlt, destination: destination, options: {{destination_callable: {__name__}.sink}}"
    shop.edit("config/etl.yaml", "parquet, path: other", function)
    record = shop.run("load")
    assert record.exit_code == 0
    assert sorted((x.target, x.status, x.reconciled) for x in record.loads) == [
        ("marts", "published", True),
        ("marts", "published", True),
        ("other", "published", False),
    ]


def break_parquet() -> None:
    """Put a bug into a kind of target."""

    def publish(*_: object, **__: object) -> Never:
        raise KeyError("what")

    targets.FILE_TARGETS["parquet"] = publish


def test_bug_at_one_target_holds_back_none_of_the_others(shop: Shop) -> None:
    add_target_before(shop)
    variables = shop.environment(ETL_LOG__LEVEL="DEBUG")
    process = Process(["run", "--stage", "load"], shop.folder, variables, break_parquet)
    process.communicate()
    assert process.returncode == ExitCode.UNEXPECTED
    record = RunRecord.model_validate_json(shop.text("data/runs/latest/run.json"))
    assert [(f.exit_code, f.subject, f.message) for f in record.failures] == [
        (ExitCode.UNEXPECTED, "other", "KeyError: 'what'")
    ]
    assert {(x.target, x.model, x.status) for x in record.loads} == {
        ("other", "marts.items", "failed"),
        ("marts", "marts.totals", "published"),
        ("marts", "marts.customers", "published"),
    }
    assert shop.published("totals") == GOOD
    assert "Traceback" in shop.text("data/runs/latest/log.jsonl"), "as of any other bug"


def test_stop_at_one_target_stops_whatever_duckdb_makes_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_target_before(shop)
    asked = []

    def publish(settings: Settings, connection: Any, name: str, *_: Any, **__: Any) -> Never:
        asked.append(name)
        with suppress(Stopped):
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr("etl.stages.load.publish", publish)
    assert shop.run("load").exit_code == ExitCode.TERMINATED
    assert asked == ["other"]


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


def test_load_of_a_model_that_has_no_table_is_a_configuration_error(shop: Shop) -> None:
    shop.write(
        "sqlmesh/models/part.sql",
        "MODEL (name marts.part, kind EMBEDDED); SELECT id FROM staging.stg_shop__orders",
    )
    shop.publish("marts.part")
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.CONFIG
    assert record.failures[0].message == "loads: marts.part is EMBEDDED: it has no table"
    assert shop.published("totals")[-1] == ("eve", 5), "the target's other tables are published"
