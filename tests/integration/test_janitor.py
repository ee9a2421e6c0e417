"""What nothing uses any more goes after a while: versions of models, environments, notes."""

from __future__ import annotations

import duckdb
import pytest
from sqlmesh import Context

from tests.integration.projects import Shop

WEEK = 7 * 24 * 3600 * 1000


def state(shop: Shop, sql: str) -> list[tuple[int]]:
    with duckdb.connect(str(shop.data / "state.duckdb")) as connection:
        return connection.execute(sql).fetchall()


def make_older(shop: Shop) -> None:
    """All that stands in the state was last touched more than a week ago."""
    state(shop, f"UPDATE sqlmesh._snapshots SET updated_ts = updated_ts - {WEEK} - 1")
    state(
        shop,
        f"UPDATE sqlmesh._environments SET expiration_ts = expiration_ts - {WEEK} - 1 "
        "WHERE expiration_ts IS NOT NULL",
    )


def tables(shop: Shop) -> set[str]:
    found = shop.query("SELECT schema_name || '.' || table_name FROM duckdb_tables()")
    return {name for (name,) in found}


def test_version_that_no_environment_uses_is_dropped_a_week_later(shop: Shop) -> None:
    earlier = shop.physical("marts.totals").partition(".")[2]
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(amount * 10)")
    assert shop.go_on().exit_code == 0
    assert earlier in tables(shop)
    make_older(shop)
    assert shop.go_on((3, "bob", 1)).exit_code == 0
    assert earlier not in tables(shop)
    assert shop.published("totals") == [("ann", 500), ("bob", 2010)]


def test_environment_that_nobody_renews_is_dropped_a_week_later(shop: Shop) -> None:
    assert shop.run("transform", environment="dev").exit_code == 0
    assert shop.query("SELECT count(*) FROM marts__dev.totals") == [(2,)]
    make_older(shop)
    assert shop.go_on((3, "bob", 1)).exit_code == 0
    assert shop.query("SELECT 1 FROM duckdb_views() WHERE schema_name = 'marts__dev'") == []
    assert shop.query("SELECT count(*) FROM marts.totals") == [(2,)]


def test_notes_of_evaluations_do_not_become_more_with_each_run(shop: Shop) -> None:
    """Every run reads them all: in a job of each hour, thousands for each model after a year."""
    count = "SELECT count(*) FROM sqlmesh._intervals"
    assert shop.go_on((3, "bob", 1)).exit_code == 0
    before = state(shop, count)
    for number in (4, 5):
        assert shop.go_on((number, "bob", 1)).exit_code == 0
    assert state(shop, count) == before


def test_what_cannot_be_dropped_is_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Context, ignore_ttl: bool) -> bool:
        raise OSError("no")

    monkeypatch.setattr(Context, "run_janitor", fail)
    record = shop.go_on((3, "bob", 1))
    assert (record.exit_code, len(record.warnings)) == (0, 1)
    assert "expired versions of models cannot be dropped" in record.warnings[0]


@pytest.mark.parametrize(("broken", "code"), [("error('no')", 6), ("-SUM(amount)", 3)])
def test_model_that_fails_for_weeks_keeps_its_version_and_is_mended(
    shop: Shop, broken: str, code: int
) -> None:
    text = shop.text("sqlmesh/models/totals.sql")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", broken)
    for number in (3, 4, 5):
        assert shop.go_on((number, "bob", 1)).exit_code == code
        assert shop.published("totals") == [("ann", 50), ("bob", 200)]
        make_older(shop)
    shop.write("sqlmesh/models/totals.sql", text)
    assert shop.go_on((6, "bob", 1)).exit_code == 0
    assert shop.published("totals") == [("ann", 50), ("bob", 204)]
