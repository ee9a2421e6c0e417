"""Audits that block, warn or stand alone, in a run and as a stage of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.errors import ExitCode
from etl.records import RunRecord
from etl.secrets import MASK
from tests.integration.conftest import Template
from tests.integration.projects import ALL, Shop

ALONE = """
AUDIT (name totals_agree, standalone TRUE{blocking});
SELECT customer, amount FROM marts.totals WHERE amount > 900
"""


def results(record: RunRecord) -> dict[tuple[str, str], str]:
    return {(a.model, a.name): a.status for a in record.audits}


@pytest.fixture(scope="module")
def warned(template: Template, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, RunRecord]:
    """A run in which two audits fail that do not block: one of a model, one that stands alone."""
    shop = template.copy(tmp_path_factory.mktemp("warned") / "shop")
    shop.edit(
        "sqlmesh/models/totals.sql",
        "forall(criteria := (amount >= 0))",
        "forall_non_blocking(criteria := (amount >= 0))",
    )
    shop.write("sqlmesh/audits/agree.sql", ALONE.format(blocking=", blocking FALSE"))
    return shop, shop.go_on((3, "eve", -5), (4, "kim", 901))


def test_non_blocking_audit_warns_and_is_listed(warned: tuple[Shop, RunRecord]) -> None:
    shop, record = warned
    assert (record.exit_code, record.partial) == (0, False)
    (failed,) = [a for a in record.audits if a.status == "failed" and a.model == "marts.totals"]
    assert (failed.name, failed.blocking, failed.failing_rows) == ("forall_non_blocking", False, 1)
    assert ("eve", -5) in shop.published("totals")


def test_standalone_audit_that_does_not_block_warns(warned: tuple[Shop, RunRecord]) -> None:
    shop, record = warned
    assert record.exit_code == 0
    assert results(record)["standalone", "totals_agree"] == "failed"
    assert ("kim", 901) in shop.published("totals")


def test_record_says_what_each_audit_asked(warned: tuple[Shop, RunRecord]) -> None:
    """Also of those that passed: a model may have several of one name."""
    _, record = warned
    assert all(a.sql for a in record.audits)
    assert len({(a.model, a.sql) for a in record.audits}) == len(record.audits)


@pytest.fixture(scope="module")
def agreed_run(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shop, RunRecord]:
    """A run that brings the standalone audit, eve 5, and a tag that leaves orders uncounted."""
    shop = template.copy(tmp_path_factory.mktemp("agreed") / "shop")
    shop.write("sqlmesh/audits/agree.sql", ALONE.format(blocking=""))
    shop.edit("sqlmesh/models/orders.sql", "grain _dlt_id,", "grain _dlt_id, tags (filtered),")
    return shop, shop.go_on((3, "eve", 5))


@pytest.fixture
def agreed(tmp_path: Path, agreed_run: tuple[Shop, RunRecord]) -> Shop:
    """A project after that run."""
    return agreed_run[0].copy(tmp_path / "shop")


def test_standalone_audit_runs_in_every_run_and_blocks(
    agreed_run: tuple[Shop, RunRecord], agreed: Shop
) -> None:
    record, shop = agreed_run[1], agreed
    assert record.exit_code == 0
    assert results(record)["standalone", "totals_agree"] == "passed"
    record = shop.go_on((4, "eve", 900))
    assert (record.exit_code, record.partial) == (ExitCode.DATA_QUALITY, True)
    (failure,) = record.failures
    assert (failure.stage, failure.subject) == ("audit", "totals_agree")
    assert "1 row" in failure.message
    assert "marts.totals" in failure.message
    # Held back: what it reads and what is below; the other mart goes on.
    assert {x.model: x.status for x in record.loads} == {
        "marts.totals": "held_back",
        "marts.customers": "held_back",
        "marts.items": "published",
    }
    assert shop.published("totals")[-1] == ("eve", 5)
    (failed,) = [a for a in record.audits if a.status == "failed"]
    assert failed.sample == ({"customer": MASK, "amount": 905},)
    assert len(shop.query(failed.sql)) == 1
    assert shop.go_on().exit_code == ExitCode.DATA_QUALITY, "and it goes on failing"
    assert shop.go_on((5, "eve", -10)).exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 895)


def test_standalone_audit_runs_after_all_models_and_not_among_them(extracted: Shop) -> None:
    """SQLMesh would run it within the first plan, and fail the plan as a whole."""
    extracted.write(
        "sqlmesh/audits/agree.sql", ALONE.format(blocking="").replace("amount >", "x >")
    )
    record = extracted.go_on()
    assert [(f.stage, f.subject) for f in record.failures] == [("audit", "totals_agree")]
    assert extracted.published("items") == [("cup", 2), ("tea", 2)]


def test_mart_waits_for_its_standalone_audit(agreed: Shop) -> None:
    agreed.bring((4, "kim", 901))
    assert agreed.run("transform").exit_code == 0
    record = agreed.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert "standalone audit" in record.failures[0].message
    # So does what is below; the other mart does not.
    assert {x.model: x.status for x in record.loads} == {
        "marts.totals": "held_back",
        "marts.customers": "held_back",
        "marts.items": "published",
    }
    assert [c for c, _ in agreed.published("totals")] == ["ann", "bob", "eve"]


def test_standalone_audit_that_cannot_run_holds_back_what_it_reads(shop: Shop) -> None:
    shop.write(
        "sqlmesh/audits/agree.sql", ALONE.format(blocking="").replace("amount >", "amuont >")
    )
    record = shop.go_on((4, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    assert record.failures[0].subject == "totals_agree"
    assert [c for c, _ in shop.published("totals")] == ["ann", "bob"]
    assert shop.published("items")[-1] == ("tea", 3)


def test_failing_model_leaves_what_a_standalone_audit_compares_it_with_unpublished(
    extracted: Shop,
) -> None:
    extracted.write(
        "sqlmesh/audits/both.sql",
        "AUDIT (name both_there, standalone TRUE);\n"
        "SELECT 1 AS x FROM marts.totals, marts.items WHERE FALSE",
    )
    extracted.edit("sqlmesh/models/items.sql", "COUNT(*)", "no_such_function(1)")
    record = extracted.go_on()
    assert record.exit_code == ExitCode.TRANSFORM
    assert {x.model: x.status for x in record.loads} == dict.fromkeys(
        ("marts.totals", "marts.customers", "marts.items"), "held_back"
    )


@pytest.fixture(scope="module")
def audited(
    agreed_run: tuple[Shop, RunRecord], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shop, RunRecord]:
    """Rows of two days ago went bad, and the audit stage ran alone."""
    shop = agreed_run[0].copy(tmp_path_factory.mktemp("audited") / "shop")
    shop.age(days=2)
    assert shop.run("transform").exit_code == 0
    # Two days ago: no transformation looks there.
    shop.query(f"UPDATE {shop.physical('staging.stg_shop__orders')} SET _dlt_load_id = NULL")
    return shop, shop.run("audit")


def test_stage_alone_runs_every_audit_over_all_data(audited: tuple[Shop, RunRecord]) -> None:
    shop, record = audited
    assert record.exit_code == ExitCode.DATA_QUALITY
    found = results(record)
    assert found["staging.stg_shop__orders", "not_null"] == "failed"
    assert found["marts.totals", "unique_values"] == "passed"
    assert found["standalone", "totals_agree"] == "passed"
    assert shop.verdicts() == {
        "staging.stg_shop__orders": "failed",
        "staging.stg_shop__orders__items": "passed",
        "marts.totals": "held_back",
        "marts.customers": "held_back",
        "marts.items": "passed",
    }


def test_model_that_failed_over_all_data_is_not_freed_by_a_look_at_today(
    audited: tuple[Shop, RunRecord], tmp_path: Path
) -> None:
    shop = audited[0].copy(tmp_path / "shop")
    record = shop.go_on((4, "kim", 7))
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.failures[0].subject == "staging.stg_shop__orders"
    assert [c for c, _ in shop.published("totals")] == ["ann", "bob", "eve"]
    assert shop.go_on(full_refresh=True).exit_code == 0
    assert shop.published("totals")[-1] == ("kim", 7)


def test_stage_alone_does_not_free_what_a_transformation_left(shop: Shop) -> None:
    shop.query("UPDATE etl_meta.model_states SET verdict = 'unfinished'")
    assert shop.run("audit").exit_code == 0
    assert set(shop.verdicts().values()) == {"unfinished"}


def test_stage_alone_before_any_transformation_says_so(fresh: Shop) -> None:
    record = fresh.run("audit", environment="dev_ann")
    assert record.exit_code == ExitCode.TRANSFORM
    assert "was never built" in record.failures[0].message
    assert record.failures[0].hint == "etl run --stage transform --environment dev_ann"


def test_stage_alone_audits_the_selected_models(shop: Shop) -> None:
    record = shop.run("audit", select=["marts.totals"])
    assert {a.model for a in record.audits} == {"marts.totals", "staging.stg_shop__orders"}


def test_passing_run_frees_every_model(shop: Shop) -> None:
    assert shop.verdicts() == dict.fromkeys(ALL, "passed")


@pytest.mark.parametrize(("hours", "code"), [(24, 0), (0.5, ExitCode.DATA_QUALITY)])
def test_data_that_is_too_old_fails(shop: Shop, hours: float, code: int) -> None:
    shop.edit(
        "config/etl.yaml", "    required: false", f"    required: false\n    freshness: {hours}"
    )
    shop.query("UPDATE shop_raw._dlt_loads SET inserted_at = inserted_at - INTERVAL 1 HOUR")
    record = shop.run("audit")
    assert record.exit_code == code
    if code:
        assert "hours old, it is 1." in record.failures[0].message
        assert record.started_at <= datetime.now(UTC)
