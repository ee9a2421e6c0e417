"""Every option of `etl run` that says what to build, where, and over which time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etl.cli import main
from etl.errors import ExitCode
from tests.duckdb_files import opened
from tests.integration.conftest import Template
from tests.integration.projects import ALL, Shop


def evaluated(record: Any) -> set[str]:
    return {m.name for m in record.models}


# -- environment -----------------------------------------------------------------------------


def test_environment_shares_the_tables_of_unchanged_models_and_publishes_nothing(
    shop: Shop,
) -> None:
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    before = shop.physical("marts.totals")
    record = shop.run("transform", "audit", "load", environment="dev_ann")
    assert (record.exit_code, record.environment, record.loads) == (0, "dev_ann", ())
    assert shop.query("FROM marts__dev_ann.totals ORDER BY ALL") == [("ann", 100), ("bob", 400)]
    assert shop.physical("marts.items", "dev_ann") == shop.physical("marts.items")
    assert shop.physical("staging.stg_shop__orders", "dev_ann") == shop.physical(
        "staging.stg_shop__orders"
    )
    assert shop.physical("marts.totals", "dev_ann") != before
    # prod is as it was.
    assert shop.physical("marts.totals") == before
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.verdicts("dev_ann") == shop.verdicts() == dict.fromkeys(ALL, "passed")


def test_failing_audit_in_an_environment_leaves_prod_alone(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(-amount)")
    record = shop.go_on(environment="dev_ann")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert shop.verdicts("dev_ann")["marts.totals"] == "failed"
    assert set(shop.verdicts().values()) == {"passed"}
    shop.edit("sqlmesh/models/totals.sql", "SUM(-amount)", "SUM(amount)")
    assert shop.go_on().exit_code == 0


def test_rows_of_an_environments_run_are_in_prod_after_the_next_one(shop: Shop) -> None:
    assert shop.go_on((3, "eve", 5), environment="dev_ann").exit_code == 0
    assert shop.query("SELECT count(*) FROM marts__dev_ann.totals") == [(3,)]
    assert shop.go_on().exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 5)


# -- select and source -----------------------------------------------------------------------


ORDERS, ITEMS = "staging.stg_shop__orders", "staging.stg_shop__orders__items"
SELECTED = {
    "tag:things": {ORDERS, ITEMS, "marts.items"},
    "marts.i*": {ORDERS, ITEMS, "marts.items"},
    "marts.totals+": {ORDERS, "marts.totals", "marts.customers"},
    "marts.totals": {ORDERS, "marts.totals"},
}


def test_select_builds_these_models_and_what_they_read(shop: Shop) -> None:
    shop.edit("sqlmesh/models/items.sql", "grain name", "grain name, tags (things)")
    shop.edit(
        "sqlmesh/models/order_items.sql",
        "grain _dlt_id,",
        "grain _dlt_id, depends_on (staging.stg_shop__orders),",
    )
    assert shop.go_on().exit_code == 0
    for number, (selector, chosen) in enumerate(SELECTED.items(), 1):
        before = dict(shop.published("totals")), dict(shop.published("items"))
        record = shop.go_on((number + 2, "eve", 30), select=[selector])
        assert record.exit_code == 0, (selector, record.failures)
        assert evaluated(record) == chosen, selector
        totals, items = dict(shop.published("totals")), dict(shop.published("items"))
        assert (totals != before[0]) is ("marts.totals" in chosen), selector
        assert (items != before[1]) is ("marts.items" in chosen), selector
        if "marts.totals" in chosen:
            assert totals["eve"] == 30 * number, selector
        if "marts.items" in chosen:
            assert items["tea"] == 2 + number, selector
    # The next whole run brings the rest.
    assert shop.published("items")[-1] == ("tea", 4)
    assert shop.published("customers")[-1] == ("eve", False)
    assert shop.go_on().exit_code == 0
    assert shop.published("items")[-1] == ("tea", 6)
    assert shop.published("customers")[-1] == ("eve", True)


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        ("marts.total", "did you mean marts.totals?"),
        ("+marts.itemz", "did you mean marts.items?"),
        ("tag:none", "known: marts."),
    ],
)
def test_selector_that_picks_nothing_is_told_before_anything_is_read(
    shop: Shop, selector: str, hint: str
) -> None:
    shop.sell((9, "eve", 30))
    record = shop.run(select=[selector])
    assert record.exit_code == ExitCode.CONFIG
    assert record.failures[0].message == f"--select {selector}: picks no model"
    assert record.failures[0].hint.startswith(hint)
    assert (shop.folder / "rows.json").exists(), "nobody has read the source"


def test_select_of_a_first_run_builds_and_publishes_only_that(extracted: Shop) -> None:
    record = extracted.go_on(select=["marts.totals"])
    assert record.exit_code == 0, record.failures
    assert evaluated(record) == {"staging.stg_shop__orders", "marts.totals"}
    assert [x.model for x in record.loads] == ["marts.totals"]
    assert extracted.published("totals") == [("ann", 50), ("bob", 200)]
    # The whole job still asks for every mart.
    assert {f.subject for f in extracted.run("load").failures} == {"marts.customers", "marts.items"}
    assert extracted.go_on().exit_code == 0
    assert extracted.published("items") == [("cup", 2), ("tea", 2)]


def test_selected_mart_that_may_not_be_published_is_a_failure_still(shop: Shop) -> None:
    shop.query("UPDATE etl_meta.model_states SET verdict = 'failed'")
    record = shop.run("load", select=["marts.totals"])
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert [f.subject for f in record.failures] == ["marts.totals"]


# Each order of these tests has the amount 1 and one item.
AGREE = """
AUDIT (name sums_agree, standalone TRUE);
SELECT totals.n AS totals, items.n AS items
FROM (SELECT SUM(amount) AS n FROM marts.totals) AS totals
CROSS JOIN (SELECT SUM(n) AS n FROM marts.items) AS items
WHERE totals.n <> items.n
"""


def sums(record: Any) -> list[str]:
    return [a.status for a in record.audits if a.name == "sums_agree"]


@pytest.fixture(scope="module")
def judged_template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project with that audit after its first run: one order of ann's; tests work on copies."""
    shop = Shop.create(tmp_path_factory.mktemp("judged") / "shop")
    shop.write("sqlmesh/audits/sums_agree.sql", AGREE)
    shop.sell((1, "ann", 1))
    record = shop.run()
    assert (record.exit_code, sums(record)) == (0, ["passed"])
    return shop


@pytest.fixture
def judged(tmp_path: Path, judged_template: Shop) -> Shop:
    return judged_template.copy(tmp_path / "shop")


def test_standalone_audit_does_not_judge_a_selection_by_marts_of_an_earlier_run(
    judged: Shop,
) -> None:
    record = judged.go_on((2, "bob", 1), select=["marts.totals"])
    assert record.exit_code == 0, record.failures
    assert sums(record) == []
    assert "sums_agree is left to the next whole run" in record.warnings[0]
    assert judged.published("totals") == [("ann", 1), ("bob", 1)]
    assert judged.published("items") == [("tea", 1)]
    # With both marts it is judged, and by the next whole run.
    record = judged.go_on(select=["marts.totals", "marts.items"])
    assert (record.exit_code, sums(record)) == (0, ["passed"])
    assert judged.go_on((3, "eve", 1), select=["marts.totals"]).exit_code == 0
    record = judged.go_on()
    assert (record.exit_code, sums(record), record.warnings) == (0, ["passed"], ())
    assert judged.published("items") == [("tea", 3)]


def test_selection_does_not_free_what_a_standalone_audit_holds_back(judged: Shop) -> None:
    assert judged.go_on((2, "ann", 4)).exit_code == ExitCode.DATA_QUALITY
    for options in ({"select": ["marts.totals"]}, {"full_refresh": True, "select": ["marts.t*"]}):
        record = judged.go_on(**options)
        assert record.exit_code == ExitCode.DATA_QUALITY
        assert "standalone audit has still to pass" in record.failures[0].message
        assert judged.published("totals") == [("ann", 1)]
        assert judged.published("items") == [("tea", 1)]
    judged.bring((3, "bob", -2))
    judged.edit("sqlmesh/models/totals.sql", "forall(criteria := (amount >= 0))", "")
    record = judged.go_on()
    assert (record.exit_code, sums(record)) == (0, ["passed"]), record.failures
    assert judged.published("totals") == [("ann", 5), ("bob", -2)]


def test_audit_stage_alone_of_a_selection_does_not_free_it(judged: Shop) -> None:
    judged.bring((2, "bob", 1))
    assert judged.run("transform").exit_code == 0
    assert judged.run("audit", select=["marts.totals"]).exit_code == 0
    assert judged.verdicts()["marts.totals"] == "unaudited"
    assert judged.run("audit").exit_code == 0
    assert judged.verdicts()["marts.totals"] == "passed"


@pytest.mark.parametrize("selector", ["marts.nothing", "tag:none", "((", '"', "git:nosuch"])
def test_selector_that_picks_nothing_is_a_configuration_error(shop: Shop, selector: str) -> None:
    record = shop.run("transform", select=[selector])
    assert record.exit_code == ExitCode.CONFIG
    assert selector in record.failures[0].message
    assert record.failures[0].hint


SECOND = """\
  second:
    factory: tests.integration.projects:shop
    arguments: {{folder: "{folder}/second"}}
    required: false
"""


def second_source(shop: Shop) -> str:
    return SECOND.format(folder=shop.folder)


def add_second_source(shop: Shop) -> None:
    (shop.folder / "second").mkdir()
    shop.edit("config/etl.yaml", "transform:\n", second_source(shop) + "transform:\n")
    external = (shop.folder / "sqlmesh/external_models/shop.yaml").read_text(encoding="utf-8")
    shop.write("sqlmesh/external_models/second.yaml", external.replace("shop_raw", "second_raw"))
    model = (shop.folder / "sqlmesh/models/orders.sql").read_text(encoding="utf-8")
    shop.write(
        "sqlmesh/models/second.sql",
        model.replace("shop_raw", "second_raw").replace("stg_shop__", "stg_second__"),
    )


def test_first_run_of_a_source_publishes_only_what_depends_on_it(fresh: Shop) -> None:
    add_second_source(fresh)
    Shop(fresh.folder / "second").sell((7, "kim", 7))
    record = fresh.run(sources=["second"])
    assert (record.exit_code, record.loads) == (0, ()), record.failures
    assert evaluated(record) == {"staging.stg_second__orders"}


@pytest.fixture(scope="module")
def two_template(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project with two sources after a run of both; tests work on copies."""
    shop = template.copy(tmp_path_factory.mktemp("two") / "shop")
    add_second_source(shop)
    Shop(shop.folder / "second").sell((7, "kim", 7))
    assert shop.run().exit_code == 0
    return shop


@pytest.fixture
def two(tmp_path: Path, two_template: Shop) -> Shop:
    shop = two_template.copy(tmp_path / "shop")
    # A copy's settings are written anew.
    shop.edit("config/etl.yaml", "transform:\n", second_source(shop) + "transform:\n")
    return shop


def test_source_reads_and_builds_only_what_depends_on_it(two: Shop) -> None:
    two.sell((3, "eve", 5))
    record = two.run(sources=["second"])
    assert record.exit_code == 0
    assert {s.source for s in record.sources} <= {"second"}
    assert evaluated(record) <= {"staging.stg_second__orders"}
    record = two.run(sources=["shop"])
    assert record.exit_code == 0
    assert evaluated(record) == ALL
    assert two.published("totals")[-1] == ("eve", 5)


def test_select_and_source_together_name_what_both_name(shop: Shop) -> None:
    shop.write("sqlmesh/models/answer.sql", "MODEL (name marts.answer, kind FULL); SELECT 42 AS n")
    chosen = ["marts.answer", "marts.totals"]
    record = shop.go_on((3, "eve", 5), select=chosen, sources=["shop"])
    assert record.exit_code == 0, record.failures
    assert evaluated(record) == {"staging.stg_shop__orders", "marts.totals"}


# -- full refresh, start and end -------------------------------------------------------------


def test_full_refresh_extracts_and_builds_anew(aged: Shop) -> None:
    aged.sell((9, "zoe", 9))
    record = aged.run(full_refresh=True)
    assert record.exit_code == 0, record.failures
    # The source no longer returns what stood in raw: it is gone everywhere.
    assert aged.query("SELECT id FROM shop_raw.orders") == [(9,)]
    assert aged.published("totals") == [("zoe", 9)]
    assert aged.published("items") == [("tea", 1)]


def test_full_refresh_of_a_selection_builds_anew_and_leaves_raw(aged: Shop) -> None:
    aged.query(f"DELETE FROM {aged.physical('staging.stg_shop__orders')} WHERE id = 1")
    aged.sell((9, "zoe", 9))
    record = aged.run(full_refresh=True, select=["staging.stg_shop__orders"])
    assert record.exit_code == 0, record.failures
    assert aged.query("SELECT id FROM shop_raw.orders ORDER BY 1") == [(1,), (2,), (9,)]
    # What is below was built with it.
    assert aged.published("totals") == [("ann", 50), ("bob", 200), ("zoe", 9)]


def test_full_refresh_of_a_source_leaves_the_other(two: Shop) -> None:
    two.query(f"UPDATE {two.physical('staging.stg_second__orders')} SET amount = 0")
    two.sell((9, "zoe", 9))
    record = two.run(full_refresh=True, sources=["shop"])
    assert record.exit_code == 0, record.failures
    assert two.published("totals") == [("zoe", 9)]
    assert two.query("SELECT amount FROM staging.stg_second__orders") == [(0,)]


def test_interval_is_built_anew_and_nothing_outside_of_it(shop: Shop) -> None:
    # Not counted, so that raw and staging may differ.
    shop.edit("sqlmesh/models/orders.sql", "grain _dlt_id,", "grain _dlt_id, tags (filtered),")
    # Three days: the package of the template, and one on each of the two days after it.
    for number, name in ((3, "eve"), (4, "zoe")):
        shop.age(days=1)
        shop.bring((number, name, 5))
        assert shop.run("transform").exit_code == 0
    table = shop.physical("staging.stg_shop__orders")
    days = [
        d
        for (d,) in shop.query(f"SELECT DISTINCT _loaded_at::DATE::VARCHAR FROM {table} ORDER BY 1")
    ]
    assert len(days) == 3
    shop.query(f"UPDATE {table} SET amount = 1000")
    record = shop.run("transform", "audit", "load", start=days[1], end=days[1])
    assert record.exit_code == 0, record.failures
    amounts = dict(
        shop.query(f"SELECT _loaded_at::DATE::VARCHAR, MAX(amount) FROM {table} GROUP BY 1")
    )
    # Today is evaluated in every run.
    assert amounts == {days[0]: 1000, days[1]: 5, days[2]: 5}
    assert dict(shop.published("totals"))["eve"] == 5


# -- dry run ---------------------------------------------------------------------------------


def tables(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("warehouse", "state", "published"):
        with opened(shop.data / f"{name}.duckdb", read_only=True) as connection:
            for schema, table in connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
            ).fetchall():
                found[f"{name}.{schema}.{table}"] = connection.execute(
                    f'SELECT count(*), sum(hash(t)) FROM "{schema}"."{table}" t'
                ).fetchone()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"full_refresh": True},
        {"environment": "dev_ann"},
        {"select": ["marts.totals"]},
        {"start": "2026-01-01", "end": "2026-01-02"},
    ],
    ids=lambda o: next(iter(o), "plain"),
)
def test_dry_run_says_what_each_stage_would_do_and_changes_nothing(
    shop: Shop, options: dict[str, Any]
) -> None:
    shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "2 * COUNT(*)")
    shop.sell((3, "eve", 5))
    before = shop.contents(), tables(shop)
    record = shop.run(dry_run=True, **options)
    assert (shop.contents(), tables(shop)) == before
    assert record.exit_code == 0, record.failures
    assert {s.status for s in record.stages} == {"dry_run"}
    stages = {line.split(" ")[0].rstrip(":") for line in record.plan}
    expected = {"extract", "transform", "audit"}
    assert stages == (expected if "environment" in options else expected | {"load"})
    if not options:
        assert "transform: breaking marts.items" in record.plan
    if "select" in options:
        assert [p for p in record.plan if p.startswith("load")] == [
            "load marts.totals → marts: +0 ~0 -0"
        ]
    lost = "extract shop: in place of all that raw holds of it" in record.plan
    assert lost == ("full_refresh" in options)
    if "full_refresh" in options:
        assert any(p == "transform: build marts.totals anew" for p in record.plan)


def test_dry_run_without_data_creates_nothing(fresh: Shop) -> None:
    before = fresh.contents()
    record = fresh.run(dry_run=True)
    assert record.exit_code == 0, record.failures
    assert fresh.contents() == before
    assert not fresh.data.exists()
    assert {line.split(" ")[0].rstrip(":") for line in record.plan} == {
        "extract",
        "transform",
        "audit",
        "load",
    }


def test_dry_run_tells_each_line_once(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", "--dry-run", "--project", str(shop.folder)]
    assert main([*command, "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["plan"]
    assert "extract shop.orders → shop_raw.orders (append)" in lines
    for form in ("text", "json"):
        monkeypatch.setenv("ETL_LOG__FORMAT", form)
        assert main(command) == 0
        told = capsys.readouterr().err
        assert [told.count(line) for line in lines] == [1] * len(lines), form


# -- stages ----------------------------------------------------------------------------------


def test_stages_one_by_one_do_what_one_run_does_and_each_only_its_part(shop: Shop) -> None:
    shop.sell((3, "eve", 5))

    def run(stage: str) -> None:
        record = shop.run(stage)
        assert (record.exit_code, [s.name for s in record.stages]) == (0, [stage])

    run("extract")
    assert shop.query("SELECT count(*) FROM shop_raw.orders") == [(3,)]
    assert shop.query("SELECT count(*) FROM marts.totals") == [(2,)]
    run("load")
    assert len(shop.published("totals")) == 2
    run("transform")
    run("audit")
    assert len(shop.published("totals")) == 2
    run("load")
    assert shop.published("totals")[-1] == ("eve", 5)


def test_models_that_were_audited_as_they_were_built_can_be_loaded_at_once(shop: Shop) -> None:
    shop.bring((3, "eve", 5))
    assert shop.run("transform", "load").exit_code == 0
    assert len(shop.published("totals")) == 3
