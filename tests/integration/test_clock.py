"""A clock that was ahead in one run, or is behind in this one."""

from __future__ import annotations

import pytest

from etl.doctor.places import check_warehouse
from etl.errors import ExitCode, ResourcesError
from etl.planning import apply_plan
from etl.records import RunRecord
from tests.duckdb_files import opened
from tests.integration.projects import Shop

AHEAD = "INTERVAL 3 DAY"


def be_ahead(shop: Shop) -> None:
    """What the transformations so far had left if the clock had been three days ahead."""
    shift = 3 * 24 * 3600 * 1000
    with opened(shop.data / "state.duckdb") as state:
        state.execute(
            f"UPDATE sqlmesh._intervals SET end_ts = end_ts + {shift}, "
            f"created_ts = created_ts + {shift}"
        )
    shop.query(
        f"UPDATE etl_meta.transformations SET finished_at = finished_at + {AHEAD}, "
        f"due_at = due_at + {AHEAD}"
    )
    shop.query(f"UPDATE etl_meta.processed_packages SET processed_at = processed_at + {AHEAD}")


def commit_ahead(shop: Shop, load_id: str) -> None:
    """Let a load package have been committed then."""
    shop.query(
        f"UPDATE shop_raw._dlt_loads SET inserted_at = inserted_at + {AHEAD} "
        f"WHERE load_id = '{load_id}'"
    )


def succeed(record: RunRecord) -> RunRecord:
    assert record.exit_code == 0, record.failures
    return record


def test_what_comes_after_a_clock_that_was_ahead_is_transformed(shop: Shop) -> None:
    be_ahead(shop)
    # The clock of a pipeline that is not ours, in the same file, is its own affair.
    shop.query(
        "CREATE SCHEMA other; CREATE TABLE other._dlt_loads AS "
        f"SELECT * REPLACE (now() + {AHEAD} AS inserted_at) FROM shop_raw._dlt_loads"
    )
    record = succeed(shop.go_on((3, "eve", 5)))
    assert "the clock was ahead in an earlier run" in record.warnings[0]
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 5)]
    assert not succeed(shop.go_on((4, "eve", 5))).warnings
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 10)]


def test_a_day_that_the_clock_had_seen_too_early_is_not_skipped(shop: Shop) -> None:
    be_ahead(shop)
    assert succeed(shop.go_on()).models
    assert not succeed(shop.go_on()).models


def test_nothing_is_done_while_the_clock_is_behind_what_raw_holds(shop: Shop) -> None:
    load_id = shop.bring((3, "eve", 5))
    commit_ahead(shop, load_id)
    shop.sell((4, "dan", 5))
    failure = shop.run().failures[0]
    assert (failure.exit_code, failure.stage) == (ExitCode.RESOURCES, "extract")
    assert "the clock is behind" in failure.message
    assert load_id in failure.message
    assert (shop.folder / "rows.json").exists(), "nothing was read"
    with pytest.raises(ResourcesError, match="the clock is behind"):
        apply_plan(shop.settings, "prod", 0)
    (warehouse, _) = check_warehouse(shop.settings)
    assert warehouse.code is ExitCode.RESOURCES


@pytest.mark.parametrize(
    ("transformed", "days"),
    [(True, 0), (True, 1), (False, 0)],
    ids=["transformed", "transformed, put right yesterday", "waiting"],
)
def test_a_commit_whose_time_is_put_right_counts_once(
    shop: Shop, transformed: bool, days: int
) -> None:
    load_id = shop.bring((3, "eve", 5))
    if transformed:
        succeed(shop.go_on())
        shop.query(
            f"UPDATE {shop.physical('staging.stg_shop__orders')} "
            f"SET _loaded_at = _loaded_at + {AHEAD} WHERE _dlt_load_id = '{load_id}'"
        )
        be_ahead(shop)
    commit_ahead(shop, load_id)
    assert shop.go_on().exit_code == ExitCode.RESOURCES
    shop.query(
        f"UPDATE shop_raw._dlt_loads SET inserted_at = now() - INTERVAL {days} DAY "
        "WHERE inserted_at > now()"
    )
    succeed(shop.go_on((4, "eve", 5)))
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 10)]
    assert not succeed(shop.go_on()).models
