"""The warehouse and SQLMesh's state are two files: what of one the other knows nothing of."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from sqlmesh.core.snapshot import Snapshot

from etl.arrival import Arrival, forget_arrival
from etl.errors import ExitCode, StageError
from etl.job import run_job
from etl.past_runs import last_failed
from etl.planning import apply_plan, show_plan
from etl.project.evaluator import Evaluator
from etl.records import Options
from etl.stages.models import transform_models
from tests.integration.projects import Shop

INCREMENTAL = """
MODEL (
  name marts.sales, kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at), grain id
);
SELECT id, amount, _loaded_at FROM staging.stg_shop__orders
WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz
"""


@pytest.fixture
def sales(aged: Shop) -> Shop:
    """Orders of two days ago, and a published mart that is incremental."""
    aged.write("sqlmesh/models/sales.sql", INCREMENTAL)
    aged.publish("marts.sales")
    assert aged.go_on().exit_code == 0
    return aged


def without_state(shop: Shop) -> Shop:
    """What the refusal advises."""
    (shop.data / "state.duckdb").rename(shop.data / "state.old")
    return shop


def test_warehouse_from_before_a_change_is_not_published_as_the_new_version(shop: Shop) -> None:
    backup = shutil.copy(shop.warehouse, shop.folder / "backup")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(amount * 10)")
    assert shop.go_on().exit_code == 0
    assert shop.published("totals") == [("ann", 500), ("bob", 2000)]
    shutil.copy(backup, shop.warehouse)
    for orders in ((3, "eve", 5),), ():
        record = shop.go_on(*orders)
        assert (record.exit_code, record.loads) == (ExitCode.TRANSFORM, ())
        assert "marts.customers, marts.totals" in record.failures[0].message
        assert "move state.duckdb away" in record.failures[0].hint
    record = without_state(shop).go_on()
    assert record.exit_code == 0, record.failures
    assert shop.published("totals") == [("ann", 500), ("bob", 2000), ("eve", 50)]


def test_retry_refuses_a_warehouse_without_the_rows_that_its_run_brought(shop: Shop) -> None:
    """It would publish what the backup has, and call the run's rows published."""
    backup = shutil.copy(shop.warehouse, shop.folder / "backup")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(amnt)")
    shop.sell((3, "eve", 5))
    assert shop.run().exit_code == ExitCode.TRANSFORM
    shop.edit("sqlmesh/models/totals.sql", "SUM(amnt)", "SUM(amount)")
    shutil.copy(backup, shop.warehouse)
    record = run_job(shop.settings, Options(), resume=last_failed)
    assert (record.exit_code, record.loads) == (ExitCode.RECONCILIATION, ())
    assert "no longer in raw" in record.failures[0].message
    assert record.failures[0].hint.startswith("`etl run`")
    shop.sell((3, "eve", 5))
    assert shop.run().exit_code == 0
    assert ("eve", 5) in shop.published("totals")


def test_new_state_takes_no_version_from_the_cache_of_the_old_one(shop: Shop) -> None:
    """A model whose parent gained a column keeps its table; built anew it has its own."""
    shop.edit("sqlmesh/models/totals.sql", "AS amount\n", "AS amount, COUNT(*)::BIGINT AS n\n")
    assert shop.go_on().exit_code == 0
    record = without_state(shop).go_on((3, "eve", 5))
    assert record.exit_code == 0, record.failures
    assert [c for c, *_ in shop.published("totals")] == ["ann", "bob", "eve"]


def test_lost_table_is_not_made_again_without_its_history(sales: Shop) -> None:
    sales.query(f"DROP TABLE {sales.physical('marts.sales')}")
    record = sales.go_on((3, "eve", 5))
    assert (record.exit_code, record.failures[0].subject) == (ExitCode.TRANSFORM, "marts.sales")
    assert [i for i, *_ in sales.published("sales")] == [1, 2]
    record = sales.go_on(full_refresh=True, select=["marts.sales"])
    assert record.exit_code == 0, "built anew it is whole"
    assert [i for i, *_ in sales.published("sales")] == [1, 2, 3]
    sales.query(f"DROP TABLE {sales.physical('marts.sales')}")
    sales.edit("sqlmesh/models/sales.sql", "id, amount,", "id, 2 * amount AS amount,")
    record = sales.go_on()
    assert record.exit_code == 0, "what has changed gets a table of its own"
    assert [i for i, *_ in sales.published("sales")] == [1, 2, 3]


def test_lost_warehouse_is_told_and_built_anew_without_its_state(shop: Shop) -> None:
    shop.warehouse.unlink()
    shop.sell((3, "eve", 5))
    record = shop.run()
    assert record.exit_code == ExitCode.TRANSFORM
    assert "the warehouse does not fit state.duckdb" in record.failures[0].message
    assert without_state(shop).run().exit_code == 0
    assert shop.published("totals") == [("eve", 5)]


@pytest.mark.parametrize("model", ["staging.stg_shop__orders", "marts.totals"])
def test_lost_view_is_told_whether_anything_is_new_or_not(shop: Shop, model: str) -> None:
    shop.query(f"DROP VIEW {model}")
    for orders in (), ((3, "eve", 5),):
        record = shop.go_on(*orders)
        assert (record.exit_code, record.loads) == (ExitCode.TRANSFORM, ())
        assert f"their views are gone or show another version: {model}" in (
            record.failures[0].message
        )
    assert without_state(shop).go_on().exit_code == 0
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 5)]


def test_lost_state_is_made_again(sales: Shop) -> None:
    record = without_state(sales).go_on((3, "eve", 5))
    assert record.exit_code == 0, record.failures
    assert [i for i, *_ in sales.published("sales")] == [1, 2, 3]


HISTORY = """
MODEL (name marts.history, kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [amount]));
SELECT id::BIGINT AS id, MAX(amount)::BIGINT AS amount FROM staging.stg_shop__orders GROUP BY id
"""


def test_history_of_a_first_run_that_was_killed_is_begun_again(shop: Shop) -> None:
    """When its view stood already, and SQLMesh's state was not yet at its end."""
    shop.write("sqlmesh/models/history.sql", HISTORY)
    assert shop.go_on().exit_code == 0
    shop.query("UPDATE etl_meta.model_states SET verdict = 'unfinished'")
    shop.query("DELETE FROM etl_meta.models")
    assert without_state(shop).go_on().exit_code == 0
    assert shop.query("SELECT id, amount FROM marts.history ORDER BY id") == [(1, 50), (2, 200)]


def test_history_that_a_lost_state_does_not_know_is_not_begun_anew(shop: Shop) -> None:
    shop.write("sqlmesh/models/history.sql", HISTORY)
    for orders in ((), ((1, "ann", 70),)):
        assert shop.go_on(*orders).exit_code == 0
    versions = "SELECT id, amount FROM marts.history ORDER BY ALL"
    assert shop.query(versions) == [(1, 50), (1, 70), (2, 200)]
    for verdict in ("passed", "unfinished"):  # as after a crash that damaged the state, too
        shop.query(f"UPDATE etl_meta.model_states SET verdict = '{verdict}'")
        record = without_state(shop).go_on()
        assert (record.exit_code, record.failures[0].subject) == (6, "marts.history")
        assert shop.query(versions) == [(1, 50), (1, 70), (2, 200)]
    shop.query("CREATE TABLE marts.kept AS FROM marts.history")
    shop.query("DROP VIEW marts.history")
    assert shop.go_on().exit_code == 0, "as the hint says"
    assert shop.query(versions) == [(1, 70), (2, 200)]


def test_mart_that_says_nothing_of_partial_days_has_todays_rows(shop: Shop) -> None:
    shop.edit("sqlmesh/models/items.sql", "allow_partials TRUE, ", "")
    for i, n in ((3, 3), (4, 4)):
        assert shop.go_on((i, "eve", 5)).exit_code == 0
        assert shop.published("items") == [("cup", 2), ("tea", n)]


def test_midnight_that_passes_meanwhile_is_still_to_come(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class JustBefore(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            return today - timedelta(seconds=1)

    with monkeypatch.context() as patch:
        patch.setattr("etl.stages.models.datetime", JustBefore)
        assert shop.go_on((3, "eve", 5)).models
    assert shop.go_on().models, "it is the first run after midnight"
    assert not shop.go_on().models


@pytest.mark.parametrize("how", ["added", "edited"])
def test_new_audit_judges_old_rows_too(sales: Shop, how: str) -> None:
    sales.write("sqlmesh/audits/small.sql", "AUDIT (name small); SELECT * FROM @this_model")
    if how == "edited":
        sales.edit("sqlmesh/audits/small.sql", "@this_model", "@this_model WHERE amount > 1000")
        sales.edit("sqlmesh/models/sales.sql", "grain id", "grain id, audits (small)")
        assert sales.go_on().exit_code == 0
        sales.edit("sqlmesh/audits/small.sql", "1000", "100")
    else:
        sales.edit("sqlmesh/audits/small.sql", "@this_model", "@this_model WHERE amount > 100")
        sales.edit("sqlmesh/models/sales.sql", "grain id", "grain id, audits (small)")
    for i in (3, 4):
        record = sales.go_on((i, "eve", 5))
        assert record.exit_code == ExitCode.DATA_QUALITY, "bob's 200 are two days old"
        assert record.failures[0].message == "audit small failed on marts.sales: 1 row"
        assert [i for i, *_ in sales.published("sales")] == [1, 2]
    sales.edit("sqlmesh/audits/small.sql", "> 100", "> 1000")
    assert sales.go_on().exit_code == 0
    assert [i for i, *_ in sales.published("sales")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("defaults", "most", "place"),
    [(", defaults (most = 1000)", "@most", "audits/small.sql"), ("", "@most()", "macros/most.py")],
    ids=["defaults", "macro"],
)
def test_change_of_what_an_audit_is_made_of_judges_old_rows_too(
    sales: Shop, defaults: str, most: str, place: str
) -> None:
    """SQLMesh takes neither for a change of the audit."""
    macro = "from sqlmesh import macro\n\n\n@macro()\ndef most(evaluator):\n    return 1000\n"
    sales.write("sqlmesh/macros/most.py", macro)
    audit = f"AUDIT (name small{defaults}); SELECT * FROM @this_model WHERE amount > {most}"
    sales.write("sqlmesh/audits/small.sql", audit)
    sales.edit("sqlmesh/models/sales.sql", "grain id", "grain id, audits (small)")
    assert sales.go_on().exit_code == 0
    sales.edit(f"sqlmesh/{place}", "1000", "100")
    record = sales.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.DATA_QUALITY, "bob's 200 are two days old"
    assert record.failures[0].message == "audit small failed on marts.sales: 1 row"
    assert [i for i, *_ in sales.published("sales")] == [1, 2]


def test_audit_that_compares_rows_sees_those_of_earlier_days(sales: Shop) -> None:
    """SQLMesh shows it those of the interval: a key of last week would be there again."""
    sales.edit("sqlmesh/models/sales.sql", "grain id", "audits (unique_values(columns := (id)))")
    assert sales.go_on().exit_code == 0
    record = sales.go_on((1, "eve", 5))
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.failures[0].message == "audit unique_values failed on marts.sales: 1 row"
    assert [i for i, *_ in sales.published("sales")] == [1, 2]


def test_audit_that_speaks_of_its_interval_sees_no_more(sales: Shop) -> None:
    few = "SELECT 1 AS x FROM @this_model WHERE _loaded_at >= @start_tstz HAVING COUNT(*) > 2"
    sales.write("sqlmesh/audits/few.sql", f"AUDIT (name few); {few}")
    sales.edit("sqlmesh/models/sales.sql", "grain id", "audits (few)")
    assert sales.go_on().exit_code == 0
    assert sales.go_on((3, "eve", 5)).exit_code == 0, "there are three rows, of two days"


def test_model_that_is_gone_leaves_nothing_behind(shop: Shop) -> None:
    shop.edit("sqlmesh/models/items.sql", "grain name", "audits (forall(criteria := (n < 0)))")
    assert shop.go_on().exit_code == ExitCode.DATA_QUALITY
    (shop.folder / "sqlmesh/models/items.sql").unlink()
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.CONFIG
    assert record.failures[0].message == "loads: no model is called marts.items"
    assert {x.model: x.status for x in record.loads} == {
        "marts.totals": "published", "marts.customers": "published", "marts.items": "held_back"
    }  # fmt: skip
    shop.edit("config/etl.yaml", "  - {model: marts.items, target: marts}\n", "")
    assert shop.go_on().exit_code == 0
    assert not shop.go_on().models, "nothing is new"


def test_project_in_a_linked_folder_is_looked_into(shop: Shop) -> None:
    (shop.folder / "sqlmesh/models").rename(shop.folder / "shared")
    (shop.folder / "sqlmesh/models").symlink_to(shop.folder / "shared")
    assert shop.go_on().exit_code == 0
    shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "COUNT(*) + 1")
    assert shop.go_on().exit_code == 0
    assert shop.published("items") == [("cup", 3), ("tea", 3)]


def test_model_that_waits_for_a_signal_is_asked_in_every_run(shop: Shop) -> None:
    shop.write(
        "sqlmesh/signals/__init__.py",
        "from pathlib import Path\nfrom sqlmesh import signal\n\n\n@signal()\ndef ready(batch):\n"
        f"    return Path({str(shop.folder / 'ready')!r}).exists()\n",
    )
    shop.edit("sqlmesh/models/items.sql", "grain name", "grain name, signals (ready())")
    record = shop.go_on((3, "eve", 5))
    (warning,) = record.warnings
    assert (record.exit_code, warning.partition(" was not evaluated")[0]) == (0, "marts.items")
    assert warning.endswith("it waits for its signals")
    assert shop.published("items") == [("cup", 2), ("tea", 2)]
    shop.write("ready", "")
    record = shop.go_on()
    assert (record.exit_code, record.warnings) == (0, ())
    assert shop.published("items") == [("cup", 2), ("tea", 3)]


def test_mart_whose_end_has_passed_says_so(aged: Shop) -> None:
    aged.edit("sqlmesh/models/items.sql", "kind FULL", "kind FULL, end '2026-01-02'")
    record = aged.go_on((3, "eve", 5))
    assert record.exit_code == 0, record.failures
    told = "marts.items was not evaluated, and is without what is new: its `end` 2026-01-02"
    assert record.warnings[0].startswith(told)
    assert aged.published("items") == [("cup", 2), ("tea", 2)]


def test_approval_does_not_pass_a_package_that_is_partly_in_raw(shop: Shop) -> None:
    folder = shop.data / "dlt/shop/load/normalized/1.5/started_jobs"
    folder.mkdir(parents=True)
    (folder / "orders.parquet").touch()
    shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "COUNT(*) + 1")
    with pytest.raises(StageError, match="only partly in raw"):
        apply_plan(shop.settings, "prod", 0)
    assert shop.run("load").exit_code == 0
    assert shop.published("items") == [("cup", 2), ("tea", 2)]


def test_package_that_was_not_found_whole_in_raw_holds_its_models_back(shop: Shop) -> None:
    folder = shop.data / "dlt/shop"
    (folder / "load/loaded/1.5").mkdir(parents=True)
    Arrival(load_ids=("1.5",), tables={}).write(folder)
    for stages in (("transform",), ("transform", "audit", "load")):
        record = shop.run(*stages)
        assert record.exit_code == ExitCode.RECONCILIATION
        assert "1.5 of an earlier run was not yet found whole in raw" in record.failures[0].message
        assert "--stage extract --source shop" in record.failures[0].hint
    forget_arrival(folder)
    assert shop.run("transform", "audit", "load").exit_code == 0


def test_killed_rebuilding_is_finished_by_the_next_run(
    sales: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing is tidied up, as after a SIGKILL."""

    def kill(self: Evaluator, snapshot: Snapshot, **kwargs: Any) -> list[Any]:
        if "stg_shop__orders__items" in snapshot.name or "sales" in snapshot.name:
            raise Killed
        return audit(self, snapshot, **kwargs)

    audit = Evaluator.audit
    small = "grain id, audits (forall(criteria := (amount < 1000)))"
    sales.edit("sqlmesh/models/sales.sql", "grain id", small)
    assert sales.go_on().exit_code == 0
    sales.query("UPDATE shop_raw.orders SET amount = 5000 WHERE id = 2")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "audit", kill)
        with pytest.raises(Killed):
            sales.go_on(full_refresh=True)
    record = sales.go_on()
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert [amount for _, amount, _ in sales.published("sales")] == [50, 200]
    sales.query("UPDATE shop_raw.orders SET amount = 500 WHERE id = 2")
    assert sales.go_on(full_refresh=True).exit_code == 0
    assert [amount for _, amount, _ in sales.published("sales")] == [50, 500]


def test_file_that_is_edited_meanwhile_is_new_to_the_next_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(*arguments: Any) -> Any:
        shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "COUNT(*) + 1")
        return transform_models(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("etl.stages.transform.transform_models", edit)
        assert shop.go_on((3, "eve", 5)).exit_code == 0
    told = "\n".join(show_plan(shop.settings, "prod", 0))
    assert "transform: breaking marts.items\n" in told
    assert shop.go_on().exit_code == 0
    assert shop.published("items") == [("cup", 3), ("tea", 4)]


def test_failure_that_passed_is_not_told_when_the_stage_is_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.edit("config/etl.yaml", "attempts: 1", "attempts: 2")
    evaluate, unreachable = Evaluator.evaluate, [True]

    def evaluate_at_last(self: Evaluator, snapshot: Snapshot, **kwargs: Any) -> Any:
        if "items" in snapshot.name and "stg" not in snapshot.name and unreachable:
            unreachable.clear()
            raise duckdb.HTTPException("the file of a model's read_csv")
        return evaluate(self, snapshot, **kwargs)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate_at_last)
    monkeypatch.setattr("etl.stop.Stop.wait", lambda self, seconds: None)
    record = shop.go_on((3, "eve", 5))
    assert (record.exit_code, record.stages[0].attempts) == (0, 2), record.failures
    assert shop.published("items") == [("cup", 2), ("tea", 3)]


def test_seed_outside_of_the_project_is_looked_into(shop: Shop) -> None:
    shop.write("outside.csv", "name,n\ntea,1\n")
    shop.write(
        "sqlmesh/models/seeded.sql",
        "MODEL (name marts.seeded, kind SEED (path '../../outside.csv'), "
        "columns (name TEXT, n BIGINT), grain name);",
    )
    shop.publish("marts.seeded")
    assert shop.go_on().exit_code == 0
    shop.write("outside.csv", "name,n\ntea,2\n")
    assert "transform: 6 models" not in " ".join(show_plan(shop.settings, "prod", 0))
    assert shop.go_on().exit_code == 0
    assert shop.published("seeded") == [("tea", 2)]


@pytest.mark.parametrize(
    ("alone", "read"),
    [
        (True, "ref.budget"),
        (False, "ref.budget"),
        (True, "READ_CSV('{}/budget.csv')"),
        (False, "READ_CSV('{}/budget.csv')"),
        (False, "'{}/budget.csv'"),
    ],
)
def test_audit_that_reads_elsewhere_runs_in_every_run(shop: Shop, alone: bool, read: str) -> None:
    shop.query("CREATE SCHEMA ref; CREATE TABLE ref.budget AS SELECT 1000 AS budget")
    shop.write("budget.csv", "budget\n1000\n")
    name, table = (
        ("budget, standalone TRUE", "marts.totals") if alone else ("budget", "@this_model")
    )
    shop.write(
        "sqlmesh/audits/budget.sql",
        f"AUDIT (name {name}); SELECT t.* FROM {table} AS t "
        f"CROSS JOIN {read.format(shop.folder)} AS b WHERE t.amount > b.budget",
    )
    if not alone:
        shop.edit("sqlmesh/models/totals.sql", "audits (", "audits (budget,")
    assert shop.go_on().exit_code == 0
    shop.query("UPDATE ref.budget SET budget = 10")
    shop.write("budget.csv", "budget\n10\n")
    assert shop.go_on().exit_code == ExitCode.DATA_QUALITY
