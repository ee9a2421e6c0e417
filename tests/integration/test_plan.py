"""Changes of the models under each policy, `etl plan`, and who approves."""

from __future__ import annotations

import json
import signal
from contextlib import suppress

import pytest

from etl.cli import main
from etl.errors import ExitCode, Stopped
from etl.planning import show_plan
from etl.records import RunRecord
from tests.integration.projects import Shop


def change(shop: Shop, kind: str) -> str:
    """Make one change; returns how it is named."""
    if kind == "added":
        shop.write(
            "sqlmesh/models/added.sql",
            "MODEL (name marts.added, kind FULL, allow_partials TRUE);\n"
            "SELECT customer::TEXT AS customer FROM marts.totals",
        )
        return "added marts.added"
    if kind == "non-breaking":
        shop.edit("sqlmesh/models/items.sql", " AS n FROM", " AS n, 1::INT AS extra FROM")
        return "non-breaking marts.items: +extra"
    if kind == "breaking":
        shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
        return "breaking marts.totals: rebuilds marts.customers"
    if kind == "removed":
        (shop.folder / "sqlmesh/models/items.sql").unlink()
        return "removed marts.items"
    assert kind == "metadata"
    path = "sqlmesh/models/order_items.sql"
    shop.edit(path, "grain _dlt_id,", "grain _dlt_id, description 'Things',")
    return "metadata staging.stg_shop__orders__items"


def policy(shop: Shop, name: str) -> None:
    shop.edit("config/etl.yaml", "transform:\n", f"transform:\n  approve: {name}\n")


def assert_old_models_published_new_data(shop: Shop, record: RunRecord) -> None:
    """Each has what was extracted, eve 7, and none of the changes."""
    assert record.exit_code == ExitCode.APPROVAL
    assert [f.exit_name for f in record.failures] == ["APPROVAL"]
    assert record.partial
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 7)]
    assert shop.published("customers")[-1] == ("eve", False)
    assert shop.published("items") == [("cup", 2), ("tea", 3)]


def test_additive_lets_additions_through(shop: Shop) -> None:
    policy(shop, "additive")
    for kind in ("added", "non-breaking", "metadata"):
        change(shop, kind)
    record = shop.go_on((3, "eve", 7))
    assert record.exit_code == 0, record.failures
    assert len(shop.query("FROM marts.added")) == 3
    assert shop.query("SELECT DISTINCT extra FROM marts.items") == [(1,)]


def test_change_of_a_seed_says_in_which_columns_and_how_many_rows(shop: Shop) -> None:
    shop.write("sqlmesh/models/codes.csv", "code,label\na,Alpha\nb,Beta\n")
    shop.write(
        "sqlmesh/models/codes.sql",
        "MODEL (name marts.codes, kind SEED (path 'codes.csv'), columns (code TEXT, label TEXT))",
    )
    assert shop.go_on().exit_code == 0
    shop.write("sqlmesh/models/codes.csv", "code,label\na,Alpha\nb,Betta\n")
    told = "breaking marts.codes: CSV differs in label (2 rows now)"
    assert f"transform: {told}" in show_plan(shop.settings, "prod", 0)
    shop.edit("sqlmesh/models/codes.csv", "b,Betta\n", "")
    policy(shop, "manual")
    (failure,) = shop.go_on().failures
    assert "CSV differs in code, label (1 row now)" in failure.message


@pytest.mark.parametrize(
    ("approve", "kinds"),
    [("additive", ("breaking", "removed")), ("manual", ("added", "breaking", "metadata"))],
)
def test_what_the_policy_does_not_let_through_is_held_back_and_named(
    shop: Shop, approve: str, kinds: tuple[str, ...]
) -> None:
    policy(shop, approve)
    named = [change(shop, kind) for kind in kinds]
    record = shop.go_on((3, "eve", 7))
    assert_old_models_published_new_data(shop, record)
    message = record.failures[0].message
    expected = f"{len(kinds)} changes need approval (transform.approve: {approve})"
    assert message.startswith(expected)
    assert all(n in message for n in named)


def test_auto_applies_every_change(shop: Shop) -> None:
    for kind in ("added", "non-breaking", "breaking"):
        change(shop, kind)
    record = shop.go_on()
    assert record.exit_code == 0
    (version,) = (m.version for m in record.models if m.name == "marts.totals")
    tables = shop.query("SELECT table_name FROM duckdb_tables()")
    assert (f"marts__totals__{version}",) in tables, "the record says which of its versions it was"
    assert shop.published("totals") == [("ann", 100), ("bob", 400)]
    assert shop.query("SELECT DISTINCT extra FROM marts.items") == [(1,)]
    assert len(shop.query("FROM marts.added")) == 2


def test_plan_lists_and_its_approval_lets_the_next_run_end_with_0(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(shop, "manual")
    named = change(shop, "breaking")
    assert shop.go_on().exit_code == ExitCode.APPROVAL
    assert shop.go_on().exit_code == ExitCode.APPROVAL, "held until somebody approves"
    here = ("--project", str(shop.folder))
    capsys.readouterr()
    assert main(["plan", *here]) == 0
    assert named in capsys.readouterr().out
    assert shop.published("totals") == [("ann", 50), ("bob", 200)], "listing changes nothing"
    assert main(["plan", "--apply", *here]) == 0
    said = capsys.readouterr()
    assert f"applied: {named}" in said.out
    lines = [json.loads(line) for line in said.err.splitlines()]
    built = {n["model"] for n in lines if n["event"] == "model evaluated"}
    assert "marts.totals" in built, "its log is a run's: JSON, with its fields"
    assert shop.go_on().exit_code == 0
    assert shop.published("totals") == [("ann", 100), ("bob", 400)]
    assert main(["plan", *here]) == 0
    assert named not in capsys.readouterr().out


def test_plan_shows_the_lines_that_differ_without_secrets(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    condition = "'https://reader:hunter2@example.com' <> ''"
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", f"{condition} AS x, SUM(amount)")
    change(shop, "metadata")
    (shop.folder / "sqlmesh/models/items.sql").unlink()
    assert main(["plan", "--project", str(shop.folder), "--json"]) == 0
    metadata, added, removed, *_ = json.loads(capsys.readouterr().out)["changes"]
    assert [line for line in added.splitlines() if line[:5] in ("    -", "    +")] == [
        "    +  'https://**********@example.com' <> '' AS x,"
    ]
    assert "\n    +/* Things */" in metadata
    assert removed == "transform: removed marts.items"


def test_apply_without_a_change_says_what_it_evaluated(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.bring((3, "eve", 7))
    assert main(["plan", "--apply", "--project", str(shop.folder)]) == 0
    assert capsys.readouterr().out == (
        "transform: no model changed; 5 models evaluated for what is new in raw\n"
    )
    change(shop, "metadata")
    assert main(["plan", "--apply", "--project", str(shop.folder)]) == 0
    assert capsys.readouterr().out == (
        "applied: metadata staging.stg_shop__orders__items\ntransform: 5 models evaluated\n"
    )


def test_first_plan_under_manual_waits_for_approval(extracted: Shop) -> None:
    policy(extracted, "manual")
    record = extracted.run()
    assert (record.exit_code, record.partial) == (ExitCode.APPROVAL, False)
    assert "added marts.totals" in record.failures[0].message
    assert main(["plan", "--apply", "--project", str(extracted.folder)]) == 0
    assert extracted.go_on().exit_code == 0
    assert extracted.published("totals") == [("ann", 50), ("bob", 200)]


def test_policy_guards_prod_only(shop: Shop) -> None:
    policy(shop, "manual")
    change(shop, "breaking")
    assert shop.run("transform", environment="dev_ann").exit_code == 0
    assert shop.query("FROM marts__dev_ann.totals ORDER BY ALL") == [("ann", 100), ("bob", 400)]
    assert shop.query("FROM marts.totals ORDER BY ALL") == [("ann", 50), ("bob", 200)]


def test_plan_without_data_creates_nothing(fresh: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--project", str(fresh.folder)]) == 0
    assert "added marts.totals" in capsys.readouterr().out
    assert not fresh.data.exists()


def test_failing_model_is_told_by_the_one_who_approves(shop: Shop) -> None:
    policy(shop, "manual")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "SUM(-amount)")
    assert main(["plan", "--apply", "--project", str(shop.folder)]) == ExitCode.DATA_QUALITY
    record = shop.run("load")
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


def test_refused_change_holds_back_no_other_that_is_approved(shop: Shop) -> None:
    history = (
        "MODEL (name marts.history, kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [amount])); "
        "SELECT id, amount, customer FROM staging.stg_shop__orders"
    )
    shop.write("sqlmesh/models/history.sql", history)
    assert shop.go_on().exit_code == 0
    shop.edit("sqlmesh/models/history.sql", ", customer", "")
    change(shop, "breaking")
    assert main(["plan", "--apply", "--project", str(shop.folder)]) == ExitCode.TRANSFORM
    assert shop.query("FROM marts.totals ORDER BY ALL") == [("ann", 100), ("bob", 400)]


def test_signal_ends_a_plan_with_its_code_whatever_duckdb_makes_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> list[str]:
        with suppress(Stopped):
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr("etl.planning.show_plan", interrupted)
    assert main(["plan", "--project", str(shop.folder)]) == ExitCode.TERMINATED


@pytest.mark.parametrize(
    "query",
    ["SELECT DISTINCT {} FROM {}", "SELECT {} FROM {} UNION SELECT {} FROM {}"],
    ids=["distinct", "union"],
)
def test_new_column_that_tells_rows_apart_rebuilds_what_counts_them(aged: Shop, query: str) -> None:
    """SQLMesh calls it harmless, and days that have passed would stay as they were counted."""
    orders = "staging.stg_shop__orders"
    head, columns = "MODEL (name marts.days, kind FULL); ", "_loaded_at"
    aged.write("sqlmesh/models/days.sql", head + query.format(*(columns, orders) * 2))
    aged.write(
        "sqlmesh/models/counts.sql",
        "MODEL (name marts.counts, kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at));\n"
        "SELECT _loaded_at, COUNT(*)::BIGINT AS n FROM marts.days\n"
        "WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz GROUP BY _loaded_at",
    )
    aged.publish("marts.counts")
    assert aged.go_on().exit_code == 0
    assert [n for _, n in aged.published("counts")] == [1]
    columns = "_loaded_at, id"
    aged.write("sqlmesh/models/days.sql", head + query.format(*(columns, orders) * 2))
    assert "breaking marts.days: +id rebuilds marts.counts" in " ".join(
        show_plan(aged.settings, "prod", 0)
    )
    assert aged.go_on((3, "eve", 5)).exit_code == 0
    assert [n for _, n in aged.published("counts")] == [2, 1]
