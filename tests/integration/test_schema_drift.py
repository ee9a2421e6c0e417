"""Schema drift with real dlt and SQLMesh: told once, with what it touches; tables made ahead."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.drift import MIN_ROWS
from etl.errors import SchemaError
from etl.job import run_job
from etl.planning import show_plan
from etl.records import Options, RunRecord
from etl.settings import Settings
from etl.stages.tables import ensure_raw_tables
from tests.integration.extracting import (
    Api,
    context,
    count,
    extract_once,
    failure_of,
    pending,
    query,
    serving,
    settings_of,
)

ROWS = 2 * MIN_ROWS
EXTERNAL = """
- name: shop_raw.orders
  columns: {id: BIGINT, name: TEXT, city: TEXT, amount: BIGINT, _dlt_load_id: TEXT, _dlt_id: TEXT}
- name: shop_raw.orders__items
  columns: {sku: TEXT, _dlt_parent_id: TEXT, _dlt_list_idx: BIGINT, _dlt_id: TEXT}
"""
STAGING = """
MODEL (name staging.stg_shop__orders, kind FULL, allow_partials TRUE);
SELECT id::BIGINT AS id, name::TEXT AS customer, city::TEXT AS city, amount::BIGINT AS amount
FROM shop_raw.orders
"""
ITEMS = """
MODEL (name staging.stg_shop__orders__items, kind FULL, allow_partials TRUE);
SELECT sku::TEXT AS sku FROM shop_raw.orders__items
"""
MART = """
MODEL (name marts.cities, kind FULL, allow_partials TRUE);
SELECT city::TEXT AS city, SUM(amount)::BIGINT AS amount
FROM staging.stg_shop__orders GROUP BY city
"""


class Shop:
    """An API whose answers a test sets, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.api: Api

    def answer(self, path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return self.answers[path.strip("/")]

    def sell(self, *changes: Any) -> None:
        """Orders, each with one item; a change is made in every one of them."""
        rows: list[dict[str, Any]] = [
            {"id": i, "name": "Ann", "city": "Bonn", "amount": 3, "items": [{"sku": "tea"}]}
            for i in range(ROWS)
        ]
        for row in rows:
            for change in changes:
                change(row)
        self.answers["orders"] = rows

    def settings(self, folder: Path, *more: Any, **source: Any) -> Settings:
        settings = settings_of(
            folder,
            {
                "shop": {
                    "client": {"base_url": self.api.url, "paginator": "single_page"},
                    "resource_defaults": {"write_disposition": "append"},
                    "resources": [{"name": "orders", "endpoint": {"path": "orders"}}, *more],
                    "attempts": 1,
                }
                | source
            },
        )
        return settings.model_copy(update={"project": folder})


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    with serving(shop.answer) as api:
        shop.api = api
        shop.sell()
        yield shop


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        kind = "external_models/shop.yaml" if name == "external" else f"models/{name}.sql"
        path = folder / "sqlmesh" / kind
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def told(settings: Settings) -> list[str]:
    ctx = context(settings)
    try:
        extract_once(settings, ctx)
    finally:
        ctx.close()
    return [str(c) for s in ctx.run.sources for c in s.schema_changes]


def planned(settings: Settings) -> list[str]:
    """The drift of the shop that a plan tells, sorted."""
    start = "raw schema drift in shop: "
    lines = show_plan(settings, "prod", 0)
    return sorted(x.removeprefix(start) for x in lines if x.startswith("raw schema drift"))


def run(settings: Settings, *stages: str) -> RunRecord:
    return run_job(settings, Options.model_validate({"stages": stages}))


def rename(old: str, new: str) -> Any:
    return lambda row: row.update({new: row.pop(old)})


def test_drift_is_told_once_with_all_that_it_touches(shop: Shop, tmp_path: Path) -> None:
    write(tmp_path, external=EXTERNAL, orders=STAGING, items=ITEMS, cities=MART)
    settings = shop.settings(tmp_path)
    assert told(settings) == ["new table orders", "new table orders__items"]
    assert told(settings) == []
    shop.sell(
        rename("name", "full_name"),
        lambda row: row.update(amount="many"),
        lambda row: row.pop("city"),
        rename("items", "lines"),
        lambda row: row.update(is_paid=True),
    )
    expected = [
        (
            "table orders__items looks renamed to orders__lines; "
            "touches staging.stg_shop__orders__items.*, staging.stg_shop__orders__items.sku"
        ),
        (
            "column orders.amount was bigint, now comes as text (in amount__v_text); "
            "touches marts.cities.amount, staging.stg_shop__orders.amount"
        ),
        (
            "column orders.city has no value any more; touches marts.cities.*, marts.cities.city, "
            "staging.stg_shop__orders.city"
        ),
        "new column orders.is_paid bool",
        "column orders.name looks renamed to full_name; touches staging.stg_shop__orders.customer",
    ]
    assert sorted(told(settings)) == sorted(expected)
    assert told(settings) == []
    # A plan goes on telling it, until the models change.
    assert planned(settings) == sorted(expected)
    shop.sell(
        lambda row: row.update(full_name="Ann Lee", is_paid=True, lines=[{"sku": "tea"}]),
    )
    assert told(settings) == []  # what was gone came back
    assert planned(settings) == sorted(
        text for text in expected if "renamed" not in text and "any more" not in text
    )
    write(tmp_path, other=MART.replace("marts.cities", "marts.towns"))
    assert planned(settings) == []


def test_a_root_table_that_was_renamed_is_told_with_all_that_it_touches(
    shop: Shop, tmp_path: Path
) -> None:
    write(tmp_path, external=EXTERNAL, orders=STAGING, items=ITEMS, cities=MART)
    run(shop.settings(tmp_path), "extract")
    # The resource has another name now; nobody touched the models.
    purchases = {"name": "purchases", "endpoint": {"path": "orders"}}
    settings = shop.settings(tmp_path, resources=[purchases])
    record = run(settings, "extract")
    expected = [
        (
            "table orders looks renamed to purchases; touches marts.cities.*, "
            "marts.cities.amount, marts.cities.city, staging.stg_shop__orders.*, "
            "staging.stg_shop__orders.amount and 3 more"
        ),
        (
            "table orders__items looks renamed to purchases__items; "
            "touches staging.stg_shop__orders__items.*, staging.stg_shop__orders__items.sku"
        ),
    ]
    assert sorted(str(c) for s in record.sources for c in s.schema_changes) == expected
    log = settings.data.joinpath("runs", record.run_id, "log.jsonl").read_text(encoding="utf-8")
    assert log.count("schema drift in shop: table orders looks renamed to purchases; touches") == 1
    assert planned(settings) == expected


def test_a_table_that_rows_name_themselves_is_told_when_they_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_by_rows.py").write_text(
        "import dlt\n\ndef make(kinds):\n"
        "    rows = [{'kind': k, 'n': n, 'at': 'x'} for k in kinds for n in range(3)]\n"
        "    return dlt.resource(rows, name='events', table_name=lambda row: row['kind'],\n"
        "                        write_disposition='append')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def changes(*kinds: str) -> list[str]:
        source = {"factory": "named_by_rows:make", "arguments": {"kinds": list(kinds)}}
        return told(settings_of(tmp_path, {"log": source}).model_copy(update={"project": tmp_path}))

    assert changes("click", "view") == ["new table click", "new table view"]
    assert changes("click") == []  # there may be no view today
    assert changes("click", "seen") == ["table view looks renamed to seen"]


def test_a_table_without_rows_is_told_where_they_were_all_there_are(
    shop: Shop, tmp_path: Path
) -> None:
    more = [
        {"name": way, "write_disposition": way, "endpoint": {"path": way}}
        for way in ("append", "replace")
    ]
    settings = shop.settings(tmp_path, *more)
    shop.answers |= {"append": [{"id": 1}], "replace": [{"id": 1}]}
    told(settings)
    shop.answers |= {"append": [], "replace": []}
    assert told(settings) == ["table replace has no row any more"]


def test_a_project_that_does_not_parse_leaves_open_what_is_touched(
    shop: Shop, tmp_path: Path
) -> None:
    write(tmp_path, orders="MODEL (name staging.broken); SELEC")
    settings = shop.settings(tmp_path)
    told(settings)
    shop.sell(lambda row: row.pop("city"))
    assert told(settings) == ["column orders.city has no value any more"]


def test_drift_of_columns_that_were_never_noted_is_found_by_the_rows_before(
    shop: Shop, tmp_path: Path
) -> None:
    settings = shop.settings(tmp_path)
    told(settings)
    query(settings, "DROP TABLE etl_meta.raw_columns")
    shop.sell(rename("city", "town"))
    assert told(settings) == ["column orders.city looks renamed to town"]


def test_discarded_rows_are_counted_named_and_accounted_for(shop: Shop, tmp_path: Path) -> None:
    told(shop.settings(tmp_path))
    rows = shop.answers["orders"]
    rows[0]["elo"], rows[1]["elo"], rows[2]["amount"] = 1, 2, "many"
    rows[3]["items"][0]["colour"], rows[4]["gifts"] = "red", [{"n": 1}, {"n": 2}]
    shop.answers["late"] = [{"n": 1}, {"n": 2}, {"n": 3}]
    late = {"name": "late", "endpoint": {"path": "late"}}
    settings = shop.settings(tmp_path, late, schema_contract="discard_row")
    ctx = extract_once(settings)
    discarded = {
        (d.table, d.column): (d.rows, d.values) for s in ctx.run.sources for d in s.discarded
    }
    assert discarded == {
        ("orders", "elo"): (2, 0),
        ("orders", "amount__v_text"): (1, 0),
        ("orders__items", "colour"): (1, 0),
        ("orders__gifts", ""): (2, 0),
        ("late", ""): (3, 0),
    }
    assert "shop: the schema contract discarded 2 rows because of orders.elo" in ctx.run.warnings
    assert len(ctx.run.warnings) == len(discarded)
    [counted] = ctx.run.reconciliations
    assert (counted.expected, counted.found, counted.discarded) == (ROWS - 3, ROWS - 3, 3)
    assert count(settings, "shop_raw.orders") == 2 * ROWS - 3
    assert count(settings, "shop_raw.orders__items") == 2 * ROWS - 4
    assert count(settings, "shop_raw.late") == 0
    assert "elo" not in types(settings, "orders")


def test_discarded_values_are_counted_and_their_rows_kept(shop: Shop, tmp_path: Path) -> None:
    told(shop.settings(tmp_path))
    rows = shop.answers["orders"]
    rows[0]["elo"], rows[1]["elo"], rows[2]["amount"] = 1, 2, "many"
    rows[3]["items"][0]["colour"] = "red"
    settings = shop.settings(tmp_path, schema_contract="discard_value")
    ctx = extract_once(settings)
    discarded = {(d.table, d.column): (d.rows, d.values) for d in ctx.run.sources[0].discarded}
    assert discarded == {
        ("orders", "elo"): (0, 2),
        ("orders", "amount__v_text"): (0, 1),
        ("orders__items", "colour"): (0, 1),
    }
    assert [r.agrees for r in ctx.run.reconciliations] == [True]
    assert count(settings, "shop_raw.orders") == 2 * ROWS
    assert count(settings, "shop_raw.orders__items") == 2 * ROWS
    assert "elo" not in types(settings, "orders")


@pytest.mark.parametrize(
    ("mode", "rows", "values"), [("discard_row", 2, 0), ("discard_value", 0, 2)]
)
def test_what_is_discarded_of_arrow_tables_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, rows: int, values: int
) -> None:
    (tmp_path / f"arrow_{mode}.py").write_text(
        "import dlt, pyarrow as pa\n\ndef make(extra):\n"
        "    page = {'id': [1, 2, 3]} | ({'elo': [1, None, 3]} if extra else {})\n"
        "    return dlt.resource([pa.table(page)], name='things', write_disposition='append')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID", "true")

    def settings(extra: bool) -> Settings:
        source = {"factory": f"arrow_{mode}:make", "arguments": {"extra": extra}}
        return settings_of(tmp_path, {"things": source | {"schema_contract": {"columns": mode}}})

    extract_once(settings(False))
    ctx = extract_once(settings(True))
    [discard] = ctx.run.sources[0].discarded
    assert (discard.table, discard.column, discard.rows, discard.values) == (
        "things", "elo", rows, values,
    )  # fmt: skip
    assert [r.agrees for r in ctx.run.reconciliations] == [True]
    assert count(settings(True), "things_raw.things") == 6 - rows


def test_a_new_table_breaks_a_frozen_contract_and_the_next_run_goes_on(
    shop: Shop, tmp_path: Path
) -> None:
    told(shop.settings(tmp_path))
    shop.answers["late"] = [{"Id": 1}]
    late = {"name": "late", "endpoint": {"path": "late"}}
    frozen = shop.settings(tmp_path, late, schema_contract="freeze")
    failure = failure_of(frozen, SchemaError)
    assert failure.message == "shop: late: the contract on tables (freeze) does not allow it"
    assert failure.sample == ({"Id": 1},)
    assert count(frozen, "shop_raw.orders") == ROWS
    extract_once(shop.settings(tmp_path, late))
    assert count(frozen, "shop_raw.orders") == 2 * ROWS
    assert count(frozen, "shop_raw.late") == 1


def test_a_null_in_a_column_that_must_not_be_null_breaks_the_schema_and_poisons_nothing(
    shop: Shop, tmp_path: Path
) -> None:
    keyed = {
        "name": "keyed",
        "endpoint": {"path": "keyed"},
        "columns": {"id": {"data_type": "bigint", "nullable": False}},
    }
    settings = shop.settings(tmp_path, keyed)
    shop.answers["keyed"] = [{"id": 1}, {"id": None}]
    failure_of(settings, SchemaError)
    assert pending(settings, "shop") == []
    assert count(settings, "shop_raw.orders") == 0
    shop.answers["keyed"] = [{"id": 1}]
    extract_once(settings)
    assert count(settings, "shop_raw.keyed") == 1


# -- tables that were declared and never loaded ----------------------------------------------------

DECLARED = {
    "name": "refunds",
    "endpoint": {"path": "refunds"},
    "primary_key": "id",
    "columns": {
        "id": {"data_type": "bigint", "nullable": False},
        "paid_at": {"data_type": "timestamp"},
        "euros": {"data_type": "decimal", "precision": 10, "scale": 2, "nullable": False},
    },
}
REFUNDS = {
    "id": "BIGINT",
    "paid_at": "TIMESTAMP WITH TIME ZONE",
    "euros": "DECIMAL(10,2)",
    "_dlt_load_id": "VARCHAR",
    "_dlt_id": "VARCHAR",
}
READS_REFUNDS = """
MODEL (name staging.stg_shop__refunds, kind FULL, allow_partials TRUE);
SELECT refunds.id::BIGINT AS id, refunds.euros::DECIMAL(10, 2) AS euros
FROM shop_raw.refunds AS refunds
INNER JOIN shop_raw._dlt_loads AS loads ON refunds._dlt_load_id = loads.load_id
"""


def types(settings: Settings, table: str) -> dict[str, str]:
    return {c: t for c, t, *_ in query(settings, f"DESCRIBE shop_raw.{table}")}


def test_declared_tables_exist_on_a_fresh_warehouse_without_an_extraction(
    shop: Shop, tmp_path: Path
) -> None:
    write(tmp_path, refunds=READS_REFUNDS)
    settings = shop.settings(tmp_path, DECLARED)
    record = run(settings, "transform")
    assert record.exit_code == 0, record.failures
    assert types(settings, "refunds") == REFUNDS
    assert {"_dlt_load_id", "_dlt_id"} <= types(settings, "orders").keys()
    assert count(settings, "staging.stg_shop__refunds") == 0
    assert shop.api.asked == []
    assert ensure_raw_tables(settings) == []


def test_first_rows_come_into_a_table_as_dlt_makes_it(shop: Shop, tmp_path: Path) -> None:
    write(tmp_path, external=EXTERNAL, refunds=READS_REFUNDS)
    settings = shop.settings(tmp_path, DECLARED)
    run(settings, "transform")
    # A pod that keeps its warehouse and nothing else.
    shutil.rmtree(settings.dlt_dir)
    shop.answers["refunds"] = [{"id": 1, "euros": "2.50", "why": "late"}]
    record = run(settings, "extract", "transform")
    assert record.exit_code == 0, record.failures
    assert types(settings, "refunds") == REFUNDS | {"why": "VARCHAR"}
    nullable = dict(
        query(
            settings,
            "SELECT column_name, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'shop_raw' AND table_name = 'refunds'",
        )
    )
    assert nullable["id"] == nullable["euros"] == nullable["_dlt_id"] == "NO"
    assert count(settings, "staging.stg_shop__refunds") == 1


def test_a_source_that_fails_in_its_first_run_breaks_no_other_plan(
    shop: Shop, tmp_path: Path
) -> None:
    write(tmp_path, refunds=READS_REFUNDS, orders=STAGING)
    settings = shop.settings(tmp_path, DECLARED)
    shop.answers["refunds"] = (500, {}, {})
    other = settings.sources["shop"].model_copy(update={"resources": ("orders",)})
    both = settings.model_copy(update={"sources": settings.sources | {"other": other}})
    record = run(both, "extract", "transform")
    assert {f.subject for f in record.failures} == {"shop.refunds"}
    assert types(settings, "refunds") == REFUNDS
    assert count(both, "other_raw.orders") == ROWS
    shop.answers["refunds"] = [{"id": 1, "euros": "2.50"}]
    assert run(both, "extract", "transform").exit_code == 0
    assert count(both, "staging.stg_shop__refunds") == 1
