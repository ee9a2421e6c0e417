"""What a run would refuse, told by `etl plan` and a dry run in the same words; nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from etl.cli import main
from etl.errors import EtlError, ExitCode
from etl.planning import show_plan
from etl.records import RunRecord
from tests.integration.projects import Shop

HISTORY = """
MODEL (name marts.history, kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [amount]));
SELECT id::BIGINT AS id, MAX(amount)::BIGINT AS amount FROM staging.stg_shop__orders GROUP BY id
"""


def lose_state_of_history(shop: Shop) -> None:
    shop.write("sqlmesh/models/history.sql", HISTORY)
    assert shop.go_on().exit_code == 0
    (shop.data / "state.duckdb").unlink()


def lose_warehouse(shop: Shop) -> None:
    shop.warehouse.unlink()


def lose_table(shop: Shop) -> None:
    shop.query(f"DROP TABLE {shop.physical('marts.totals')}")


def lose_view(shop: Shop) -> None:
    shop.query("DROP VIEW marts.totals")


def lose_view_and_change_another_model(shop: Shop) -> None:
    shop.query("DROP VIEW marts.totals")
    shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "2 * COUNT(*)")


def show_something_else(shop: Shop) -> None:
    shop.query("CREATE OR REPLACE VIEW marts.totals AS SELECT 'ann' AS customer, 1 AS amount")


def put_back_older_warehouse(shop: Shop) -> None:
    backup = shutil.copy(shop.warehouse, shop.folder / "backup")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(amount * 10)")
    assert shop.go_on().exit_code == 0
    shutil.copy(backup, shop.warehouse)


def damage_state(shop: Shop) -> None:
    (shop.data / "state.duckdb").write_bytes(b"no database")


def set_clock_back(shop: Shop) -> None:
    shop.query("UPDATE shop_raw._dlt_loads SET inserted_at = now() + INTERVAL 1 DAY")


def refusal(shop: Shop) -> tuple[int, str, str]:
    """That of `etl plan`."""
    with pytest.raises(EtlError) as caught:
        show_plan(shop.settings, "prod", 0)
    error = caught.value
    return error.code, said(error.message), error.hint


def failure(record: RunRecord) -> tuple[int, str, str]:
    (found,) = record.failures
    return found.exit_code, said(found.message), found.hint


def said(message: str) -> str:
    """Without the time of the day."""
    return message.partition(" it says ")[0]


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lose_state_of_history, ExitCode.TRANSFORM),
        (lose_warehouse, ExitCode.TRANSFORM),
        (lose_table, ExitCode.TRANSFORM),
        (lose_view, ExitCode.TRANSFORM),
        (lose_view_and_change_another_model, ExitCode.TRANSFORM),
        (show_something_else, ExitCode.TRANSFORM),
        (put_back_older_warehouse, ExitCode.TRANSFORM),
        (damage_state, ExitCode.CONNECTION),
        (set_clock_back, ExitCode.RESOURCES),
    ],
    ids=lambda case: getattr(case, "__name__", None),
)
def test_refusal_of_a_run_is_foreseen(
    shop: Shop, break_it: Callable[[Shop], None], code: ExitCode
) -> None:
    break_it(shop)
    shop.sell((3, "eve", 5))
    before = shop.contents()
    told = refusal(shop)
    assert told[0] == code
    assert failure(shop.run(dry_run=True)) == told
    assert shop.contents() == before
    assert failure(shop.run()) == told


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"full_refresh": True}, ExitCode.OK),
        ({"full_refresh": True, "select": ["marts.items"]}, ExitCode.TRANSFORM),
        ({"start": "2026-01-01"}, ExitCode.TRANSFORM),
        ({"environment": "dev_ann"}, ExitCode.OK),
    ],
    ids=["anew", "another anew", "a day anew", "for development"],
)
def test_lost_table_is_refused_ahead_by_the_options_of_the_run(
    shop: Shop, options: dict[str, Any], code: ExitCode
) -> None:
    lose_table(shop)
    # The load of a dry run is of what stands, which is no more.
    stages = "transform", "audit"
    assert shop.run(*stages, dry_run=True, **options).exit_code == code
    assert shop.run(*stages, **options).exit_code == code


def test_lost_state_without_a_history_is_nothing_to_refuse(shop: Shop) -> None:
    (shop.data / "state.duckdb").unlink()
    before = shop.contents()
    assert "transform: added marts.totals" in show_plan(shop.settings, "prod", 0)
    assert shop.go_on(dry_run=True).exit_code == 0
    assert shop.contents() == before
    assert shop.go_on((3, "eve", 5)).exit_code == 0


def test_changes_that_wait_for_approval_are_named_ahead(shop: Shop) -> None:
    shop.edit("config/etl.yaml", "transform:\n", "transform:\n  approve: additive\n")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    foreseen = shop.go_on(dry_run=True)
    assert "transform: breaking marts.totals: rebuilds marts.customers" in foreseen.plan
    lines = show_plan(shop.settings, "prod", 0)
    record = shop.go_on()
    assert failure(foreseen) == failure(record)
    assert foreseen.exit_code == ExitCode.APPROVAL
    assert f"transform: {record.failures[0].message}" in lines
    assert shop.go_on(dry_run=True, environment="dev_ann").exit_code == 0


def test_package_that_is_partly_in_raw_is_told_ahead_when_nothing_finishes_it(shop: Shop) -> None:
    folder = shop.data / "dlt/shop/load/normalized/1.5/started_jobs"
    folder.mkdir(parents=True)
    (folder / "orders.parquet").touch()
    before = shop.contents()
    foreseen = shop.go_on(dry_run=True)
    assert shop.contents() == before
    assert foreseen.exit_code == ExitCode.RECONCILIATION
    assert failure(foreseen) == failure(shop.go_on())


def test_plan_of_a_project_without_its_models_is_refused(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its approval would remove every mart."""
    (shop.folder / "sqlmesh").rename(shop.folder / "elsewhere")
    for command in (["plan"], ["plan", "--apply"]):
        assert main([*command, "--project", str(shop.folder)]) == ExitCode.CONFIG
        assert "no such folder" in capsys.readouterr().err
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.query("SELECT COUNT(*) FROM marts.totals") == [(2,)]
