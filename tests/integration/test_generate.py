"""`etl generate` on real schemas of dlt, its models built by real SQLMesh."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.errors import ApprovalError, ConfigError, TransformError
from etl.generate.generation import refuse_changes
from etl.project.engine import open_context
from tests.integration.generating import Made

EVENTS: dict[str, Any] = {"name": "events", "write_disposition": "append"}
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}


def refer(column: str, table: str) -> dict[str, Any]:
    return {"columns": [column], "referenced_table": table, "referenced_columns": ["id"]}


COUNTRIES = {"name": "countries", **MERGE}
COMPANIES = {"name": "companies", **MERGE, "references": [refer("country_id", "countries")]}
CUSTOMERS = {"name": "customers", **MERGE, "references": [refer("company_id", "companies")]}
ORDERS = {"name": "orders", **MERGE, "references": [refer("customer_id", "customers")]}
CHAIN = (
    {**COUNTRIES, "rows": [{"id": 1, "name": "USA"}, {"id": 2, "name": "Germany"}]},
    {**COMPANIES, "rows": [{"id": 1, "country_id": 2}, {"id": 2, "country_id": 1}]},
    {**CUSTOMERS, "rows": [{"id": 1, "company_id": 1}, {"id": 2, "company_id": 2},
                           {"id": 3, "company_id": None}]},
    {**ORDERS, "rows": [
        {"id": 1, "customer_id": 1, "lines": [{"n": 1, "discounts": [{"part": 0.5}]}, {"n": 2}]},
        {"id": 2, "customer_id": 2}, {"id": 3, "customer_id": 3}, {"id": 4, "customer_id": 99},
        {"id": 5, "customer_id": None}]},
)  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Orders → customers → companies → countries, generated with two facts and built."""
    project = Made(tmp_path_factory.mktemp("chain"))
    project.extract(*CHAIN)
    project.generate(facts=["orders", "orders__lines__discounts"])
    project.build()
    return project


@pytest.fixture(scope="module")
def various(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Tables of many kinds: loaded, generated and built, then loaded twice and built again."""
    project = Made(tmp_path_factory.mktemp("various"))
    orders = {"name": "orders", **MERGE, "columns": {"gone": {"hard_delete": True}}}
    prices = {"name": "prices", "write_disposition": "append", "primary_key": "id"}
    accounts = {"name": "accounts", "primary_key": "id",
                "write_disposition": {"disposition": "merge", "strategy": "scd2"}}  # fmt: skip
    plans = {
        "name": "plans", "primary_key": "id",
        "write_disposition": {
            "disposition": "merge", "strategy": "scd2", "validity_column_names": ["from", "to"],
            "active_record_timestamp": "9999-12-31"},
    }  # fmt: skip
    users = {"name": "users", **MERGE, "references": [refer("plan_id", "plans")]}
    mails = {"name": "mails", **MERGE,
             "columns": {"sender_id": {"x-references": "people.id"},
                         "reader_id": {"x-references": "people.id"}}}  # fmt: skip
    staff = {"name": "staff", **MERGE, "references": [refer("boss_id", "staff")]}
    free = [{"id": 1, "plan": "free", "tags": ["a", "b"]}]
    project.extract(
        {**orders, "rows": [
            {"id": 1, "n": 1, "gone": False, "lines": [{"x": 1, "subs": [{"y": 1}, {"y": 2}]}]},
            {"id": 2, "n": 1, "gone": False, "lines": [{"x": 2, "subs": [{"y": 3}]}]}]},
        {**prices, "rows": [{"id": 1, "usd": 1}, {"id": 2, "usd": 2}]},
        {**accounts, "rows": free},
        {**plans, "rows": [{"id": 1, "eur": 5}]},
        {**users, "rows": [{"id": 7, "plan_id": 1}]},
        {"name": "people", **MERGE, "rows": [{"id": 1}, {"id": 2}]},
        {**mails, "rows": [{"id": 1, "sender_id": 1, "reader_id": 2}]},
        {**staff, "rows": [{"id": 1, "boss_id": None}, {"id": 2, "boss_id": 1}]},
        {"name": "empty", "rows": []},
    )  # fmt: skip
    project.generate(facts=["users", "mails", "staff"])
    project.build()
    project.extract(
        {**orders, "rows": [
            {"id": 1, "n": 2, "gone": False, "lines": [{"x": 9, "subs": []}]},
            {"id": 2, "gone": True}, {"id": 3, "n": 1, "gone": False}]},
        {**prices, "rows": [{"id": 1, "usd": 3}]},
        {**accounts, "rows": [{"id": 1, "plan": "paid", "tags": ["a"]}]},
        {**plans, "rows": [{"id": 1, "eur": 6}]},
    )  # fmt: skip
    project.extract({**accounts, "rows": free})
    project.build()
    return project


def generated(folder: Path, table: dict[str, Any]) -> Made:
    """A project with one load of a table, generated and not built."""
    project = Made(folder)
    project.extract(table)
    project.generate()
    return project


@pytest.fixture(scope="module")
def events_template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A table of events with one load, generated and not built; tests work on copies."""
    return generated(tmp_path_factory.mktemp("events"), {**EVENTS, "rows": [{"n": 1}]})


@pytest.fixture
def events(tmp_path: Path, events_template: Made) -> Made:
    return events_template.copy(tmp_path / "copy")


def test_rows_of_arrow_tables_are_built_as_those_of_dicts(made: Made) -> None:
    """On the first day and the second, whatever becomes of the rows that stand."""
    ways: dict[str, Any] = {
        "added": "append", "renewed": "replace", "merged": "merge",
        "upserted": {"disposition": "merge", "strategy": "upsert"},
        "inserted": {"disposition": "merge", "strategy": "insert-only"},
    }  # fmt: skip

    def give(*rows: dict[str, Any]) -> None:
        made.extract(
            *(
                {"name": f"{name}_{arrow}", "write_disposition": way, "primary_key": "id",
                 "arrow": arrow, "rows": rows}
                for name, way in ways.items() for arrow in (True, False)
            )
        )  # fmt: skip

    give({"id": 1, "v": "a"}, {"id": 2, "v": "b"})
    made.generate()
    made.build()
    give({"id": 2, "v": "c"}, {"id": 3, "v": "d"})
    made.build()
    for name in ways:
        for model in ("staging.stg", "marts.dim"):
            found = [made.read(f"{model}_made__{name}_{a}", "id, v") for a in ("true", "false")]
            assert found[0] == found[1] != [], (model, name)


# -- merge ---------------------------------------------------------------------------------------


def test_a_merged_table_holds_the_newest_version_and_follows_hard_deletes(various: Made) -> None:
    assert various.read("staging.stg_made__orders", "id, n") == [(1, 2), (3, 1)]
    assert various.read("staging.stg_made__orders__lines", "x") == [(9,)]
    assert various.read("staging.stg_made__orders__lines__subs", "y") == []
    assert various.read("marts.dim_made__orders", "id, n") == [(1, 2), (3, 1)]


def test_only_committed_packages_are_seen_each_under_its_first_commit(events: Made) -> None:
    made = events
    made.extract({**EVENTS, "rows": [{"n": 2}]})
    ids = [r[0] for r in made.read("made_raw._dlt_loads", "load_id")]
    made.query(f"UPDATE made_raw._dlt_loads SET status = 1 WHERE load_id = '{ids[1]}'")
    made.query(
        "INSERT INTO made_raw._dlt_loads SELECT * REPLACE (inserted_at + INTERVAL 1 SECOND AS "
        f"inserted_at) FROM made_raw._dlt_loads WHERE load_id = '{ids[0]}'"
    )
    made.build()
    assert made.read("staging.stg_made__events", "n, _dlt_load_id") == [(1, ids[0])]
    made.query(f"UPDATE made_raw._dlt_loads SET status = 0 WHERE load_id = '{ids[1]}'")
    made.build()
    assert made.read("staging.stg_made__events", "n, _dlt_load_id") == [(1, ids[0]), (2, ids[1])]


def test_a_dimension_of_appended_rows_shows_each_key_once_as_it_stands_now(various: Made) -> None:
    assert various.read("staging.stg_made__prices", "id, usd") == [(1, 1), (1, 3), (2, 2)]
    assert various.read("marts.dim_made__prices", "id, usd") == [(1, 3), (2, 2)]


def test_a_version_that_comes_back_does_not_double_its_lists(various: Made) -> None:
    assert various.read("marts.dim_made__accounts", "plan, is_current") == [
        ("free", False), ("free", True), ("paid", False)]  # fmt: skip
    raw = various.query("SELECT count(*) FROM made_raw.accounts__tags")
    assert various.query("SELECT count(*) FROM staging.stg_made__accounts__tags") == raw


def test_versions_with_names_and_an_end_of_their_own_are_understood(various: Made) -> None:
    assert various.read("marts.dim_made__plans", "eur, is_current") == [(5, False), (6, True)]
    assert various.read("marts.fact_made__users", "id, plans__id") == [(7, 1)]


# -- facts ---------------------------------------------------------------------------------------


def test_a_fact_has_the_keys_of_all_that_its_rows_refer_to_and_no_row_more(chain: Made) -> None:
    found = chain.read(
        "marts.fact_made__orders",
        "id, customer_id, customers__id, customers__company_id, companies__id, "
        "companies__country_id, countries__id",
    )
    assert found == [
        (1, 1, 1, 1, 1, 2, 2),
        (2, 2, 2, 2, 2, 1, 1),
        (3, 3, 3, None, None, None, None),
        (4, 99, None, None, None, None, None),
        (5, None, None, None, None, None, None),
    ]


def test_a_fact_on_a_nested_table_goes_up_to_its_root_and_on_from_there(chain: Made) -> None:
    found = chain.read(
        "marts.fact_made__orders__lines__discounts",
        "part, orders__id, customers__id, countries__id",
    )
    assert found == [(0.5, 1, 1, 2)]


def test_the_fact_is_audited_to_have_as_many_rows_as_its_base(chain: Made, tmp_path: Path) -> None:
    copy = chain.copy(tmp_path / "copy")
    path = "sqlmesh/models/marts/fact_made__orders.sql"
    copy.edit(
        path, "LEFT JOIN staging.stg_made__companies", "INNER JOIN staging.stg_made__companies"
    )
    record = copy.run("transform")
    assert record.exit_code == 3
    failed = {a.name for a in record.audits if a.status == "failed" and a.blocking}
    assert failed == {"same_row_count"}


def test_a_reference_to_a_row_that_is_not_there_warns_and_stops_nothing(chain: Made) -> None:
    audits = chain.query(
        "SELECT failing_rows, status, blocking FROM etl_meta.audits WHERE name = 'relationship' "
        "AND model = 'staging.stg_made__orders'"
    )
    assert audits == [(1, "failed", False)]


def test_rows_that_somebody_deleted_in_raw_are_told_with_what_brings_them_back(
    chain: Made, tmp_path: Path
) -> None:
    """A source is read from where it stood: the next run does not bring them."""
    copy = chain.copy(tmp_path / "copy")
    copy.query("DELETE FROM made_raw.orders WHERE id = 1")
    copy.extract({**ORDERS, "rows": [{"id": 6}]})
    record = copy.run("transform")
    assert record.exit_code == 3
    assert {f.subject for f in record.failures} == {"staging.stg_made__orders__lines"}
    assert "etl run --full-refresh --source NAME" in record.failures[0].hint


def test_two_references_to_one_table_go_by_the_columns_that_lead_there(various: Made) -> None:
    found = various.read("marts.fact_made__mails", "sender_id__people__id, reader_id__people__id")
    assert found == [(1, 2)]


def test_a_reference_to_its_own_table_is_a_hierarchy_not_a_circle(various: Made) -> None:
    assert various.read("marts.fact_made__staff", "id, boss_id") == [(1, None), (2, 1)]


CUSTOMER = refer("customer_id", "customers")
# By table: its reference, and what is told of it.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "of_no_table": (refer("customer_id", "clients"), "clients: no such table"),
    "by_no_column": (refer("client_id", "customers"), "column client_id is not in by_no_column"),
    "to_no_column": ({**CUSTOMER, "referenced_columns": ["nr"]}, "column nr is not in customers"),
    "to_no_key": (
        {**CUSTOMER, "referenced_columns": ["name"]}, "name does not identify a row of customers",
    ),
    "of_another_type": (refer("note", "customers"), "note is VARCHAR, customers.id is BIGINT"),
    "to_more_columns": (
        {**CUSTOMER, "referenced_columns": ["id", "name"]}, "1 columns refer to 2",
    ),
}  # fmt: skip
CIRCLE = {"a": "b", "b": "c", "c": "a"}


def test_references_that_do_not_hold_are_refused_each_by_name(made: Made) -> None:
    made.extract(
        {"name": "customers", **MERGE, "rows": [{"id": 1, "name": "Ann"}]},
        *({"name": name, **MERGE, "references": [reference],
           "rows": [{"id": 1, "customer_id": 1, "note": "x"}]}
          for name, (reference, _) in WRONG.items()),
        {"name": "staff", **MERGE, "rows": [{"id": 1, "boss_id": 1}],
         "columns": {"boss_id": {"x-references": "staff"}}},
        *({"name": name, **MERGE, "references": [refer("its_id", other)],
           "rows": [{"id": 1, "its_id": 1}]}
          for name, other in CIRCLE.items()),
    )  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        made.generate()
    problems = [str(p) for p in raised.value.problems]
    for name, (_, told) in WRONG.items():
        (found,) = [p for p in problems if f"made.{name} " in p]
        assert told in found, name
    # A reference of a column that names no column.
    (found,) = [p for p in problems if "made.staff" in p]
    assert "made.staff → staff: 1 columns refer to 0" in found
    # A circle is told once, with its way.
    (found,) = [p for p in problems if "circle" in p]
    assert "a → b → c → a" in found
    assert len(problems) == len(WRONG) + 2
    assert not made.file("models").exists()


# -- hints ---------------------------------------------------------------------------------------


def test_hints_become_descriptions_grain_and_audits(made: Made) -> None:
    made.extract({
        "name": "tickets", **MERGE, "rows": [{"id": 1, "state": "open", "code": "x"}],
        "columns": {
            "state": {"description": "Where it stands.", "x-accepted-values": ["open", "closed"],
                      "data_type": "text", "nullable": False},
            "code": {"unique": True}}})  # fmt: skip
    made.generate()
    text = made.file("models/staging/stg_made__tickets.sql").read_text()
    assert "state = 'Where it stands.'" in text
    assert "grain id" in text
    assert "not_null(columns := (id, state, _loaded_at, _dlt_load_id, _dlt_id))" in text
    made.build()
    made.query("UPDATE made_raw.tickets SET state = 'lost'")
    record = made.run("transform", full_refresh=True)
    assert record.exit_code == 3
    assert {a.name for a in record.audits if a.status == "failed"} == {"accepted_values"}


# -- names and shapes ----------------------------------------------------------------------------


KEYWORDS = [r[0] for r in duckdb.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
TABLES = ["order", "select", "values", "end", "left", "interval"]
MORE_COLUMNS = [f"c{i}" for i in range(len(KEYWORDS), 500)]
LONG_COLUMN, LONG_TABLE = "n" * 200, "t" * 120


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Five hundred columns, keywords and others; keywords as tables; long names; JSON."""
    project = Made(tmp_path_factory.mktemp("odd"))
    words = {
        "id": 1,
        **dict.fromkeys(KEYWORDS, 1),
        **dict.fromkeys(MORE_COLUMNS, 2),
        LONG_COLUMN: 7,
    }
    project.extract(
        {"name": "words", **MERGE, "rows": [words]},
        *({"name": k, "write_disposition": "merge", "primary_key": k, "rows": [{k: 1}]}
          for k in TABLES),
        {"name": "deep", **MERGE, "max_table_nesting": 0,
         "rows": [{"id": 1, "blob": {"a": [1, {"b": "ü"}]}}]},
        {"name": "x", **MERGE, "rows": [{"id": 1, LONG_TABLE: [{"n": 1}]}]},
    )  # fmt: skip
    project.generate(facts=["order", "select"])
    project.build()
    return project


def test_every_keyword_of_duckdb_can_be_a_column_and_a_table(odd_names: Made) -> None:
    assert set(TABLES) <= set(KEYWORDS)
    names = ", ".join(f'"{k}"' for k in KEYWORDS)
    assert odd_names.read("marts.dim_made__words", names) == [(1,) * len(KEYWORDS)]
    for table in TABLES:
        assert odd_names.read(f"marts.dim_made__{table}", f'"{table}"') == [(1,)]
    for table in ("order", "select"):
        assert odd_names.read(f"marts.fact_made__{table}", f'"{table}"') == [(1,)]
    assert odd_names.query(
        "SELECT count(*) FROM information_schema.columns WHERE column_name LIKE '%\"%'"
    ) == [(0,)]


def test_long_names_many_columns_and_blobs_of_json_work(odd_names: Made) -> None:
    assert len(KEYWORDS) + len(MORE_COLUMNS) >= 500
    columns = f'"{KEYWORDS[0]}", "{KEYWORDS[-1]}", {MORE_COLUMNS[-1]}, {LONG_COLUMN}'
    assert odd_names.read("staging.stg_made__words", columns) == [(1, 1, 2, 7)]
    found = odd_names.query("SELECT blob ->> '$.a[1].b', typeof(blob) FROM staging.stg_made__deep")
    assert found == [("ü", "JSON")]
    assert odd_names.read(f"staging.stg_made__x__{LONG_TABLE}", "n") == [(1,)]


# By source: a row, the place that two of its fields would share, and the fields.
COLLISIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "spaced": ({"id": 1, "a b": 1, "a_b": 2}, "odd.a_b", "$.a_b and $['a b']"),
    "cased": ({"id": 1, "isOn": None, "is_on": 2}, "odd.is_on", "$.isOn and $.is_on"),
    "nested": ({"id": 1, "a": {"b-c": 1, "b_c": 2}}, "odd.a__b_c", "$.a.b_c and $.a['b-c']"),
    "lists": ({"id": 1, "a b": [1], "a_b": [2, 3]}, "odd__a_b", "$.a_b and $['a b']"),
    "buried": ({"id": 1500, "a": {"l": [{"n": 1}, {"y-z": 1, "y_z": 1}]}}, "odd__a__l.y_z",
               "$.y_z and $['y-z']"),
}  # fmt: skip
# Enough that a look at the first rows of a page, and at some of the others, would miss the pair.
USUAL: list[dict[str, Any]] = [{"id": i, "a": {"l": [{"n": 1}]}} for i in range(2, 1500)]


def test_two_fields_that_would_share_a_column_are_refused_and_nothing_is_committed(
    tmp_path: Path,
) -> None:
    made = Made(tmp_path, "spaced")
    for source in COLLISIONS:
        if source != "spaced":
            made.add_source(source)
    places = {source: "" if source == "spaced" else source for source in COLLISIONS}
    for source, (row, _, _) in COLLISIONS.items():
        usual = USUAL if source == "buried" else []
        rows = [{"id": 0}, *usual, row, *usual[:500]]
        made.give({"name": "odd", **MERGE, "rows": rows}, source=places[source])
    record = made.run("extract")
    assert record.exit_code == 10
    assert len(record.failures) == len(COLLISIONS)
    for source, (row, place, fields) in COLLISIONS.items():
        told = f"{source}_raw.{place}: {fields} of one row"
        [failure] = [f for f in record.failures if f.message.startswith(told)]
        # The row of the table: the one in the list where the fields are in one.
        assert failure.sample in ((row,), ({"y-z": 1, "y_z": 1},)), told
        assert made.query(f"SELECT count(*) FROM {source}_raw._dlt_loads") == [(0,)], source
        # In different rows each has the column to itself.
        apart = {k: v for k, v in row.items() if not isinstance(v, dict)}
        rows = [{"id": i, k: v} for i, (k, v) in enumerate(apart.items())]
        made.give({"name": "odd", **MERGE, "rows": rows}, source=places[source])
    record = made.run("extract")
    assert record.exit_code == 0, record.failures


def test_resources_that_would_share_a_table_are_refused(made: Made) -> None:
    def refused() -> tuple[int | None, str]:
        record = made.run("extract")
        return record.exit_code, record.failures[0].message

    listed = {"name": "orders", **MERGE, "rows": [{"id": 1, "items": [{"n": 1}]}]}
    made.give(listed, {"name": "Orders", **MERGE, "rows": [{"id": 1}]})
    assert refused() == (2, "made_raw.orders: Orders and orders would both go to this table")
    items = {"name": "orders__items", **MERGE, "rows": [{"id": 7}]}
    place = "made_raw.orders__items"
    made.give(items, listed)
    what = "a nested list of orders would go to a table that belongs to a resource"
    assert refused() == (10, f"{place}: {what}")
    made.extract(listed)
    made.give(items)
    what = "orders__items would go to a table that holds a nested list of orders"
    assert refused() == (2, f"{place}: {what}")


def test_names_that_no_model_can_have_are_refused(made: Made) -> None:
    made.extract(
        {"name": "x", **MERGE, "rows": [{"id": 1, "t" * 200: [{"n": 1}]}]},
        {"name": "odd", **MERGE, "rows": [{"id": 1, "_loaded_at": "x"}]},
    )
    # Too long for SQLMesh; a column that the models add themselves.
    with pytest.raises(ConfigError, match="would have 221 characters"):
        made.generate(table="x__" + "t" * 200)
    with pytest.raises(ConfigError, match=r"made_raw\.odd\._loaded_at"):
        made.generate(table="odd")


def test_a_table_without_any_column_writes_no_model(various: Made) -> None:
    assert list(various.file("models").rglob("*people*"))
    assert not list(various.file("models").rglob("*empty*"))


@pytest.fixture(scope="module")
def column_template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A table with a column, generated and not built; tests work on copies."""
    orders = {"name": "orders", **MERGE, "rows": [{"id": 1, "n": 1}]}
    return generated(tmp_path_factory.mktemp("column"), orders)


@pytest.fixture
def column(tmp_path: Path, column_template: Made) -> Made:
    return column_template.copy(tmp_path / "copy")


def test_a_list_that_appears_in_the_second_load_is_generated_then(column: Made) -> None:
    made = column
    made.build()
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 1, "lines": [{"x": 1}]}]})
    changes = {c.path: c.action for c in made.generate() if c.changes}
    assert changes == {
        "external_models/made/orders__lines.yaml": "new",
        "models/staging/stg_made__orders__lines.sql": "new",
    }
    made.build()
    assert made.read("staging.stg_made__orders__lines", "x") == [(1,)]


# -- files ---------------------------------------------------------------------------------------


def test_files_are_formatted_as_sqlmesh_does_and_the_same_each_time(
    chain: Made, tmp_path: Path
) -> None:
    assert {c.action for c in chain.generate()} == {"unchanged"}
    copy = chain.copy(tmp_path / "copy")
    shutil.rmtree(copy.file("models"))
    shutil.rmtree(copy.file(".generated"))
    shutil.rmtree(copy.file("external_models"))
    copy.generate(facts=["orders", "orders__lines__discounts"])
    for path in chain.file("models").rglob("*.sql"):
        assert copy.file(str(path.relative_to(chain.file("")))).read_text() == path.read_text()
    context = open_context(copy.settings)
    try:
        assert context.format(check=True)
    finally:
        context.close()


def test_the_schema_is_read_from_the_warehouse_when_dlts_folder_is_lost(
    chain: Made, tmp_path: Path
) -> None:
    copy = chain.copy(tmp_path / "copy")
    shutil.rmtree(copy.settings.dlt_dir)
    assert {c.action for c in copy.generate()} == {"unchanged"}


@pytest.fixture(scope="module")
def widened_template(column_template: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same after a second load with a column more, which is in no file yet."""
    project = column_template.copy(tmp_path_factory.mktemp("widened") / "copy")
    project.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 4, "extra": "new"}]})
    return project


@pytest.fixture
def widened(tmp_path: Path, widened_template: Made) -> Made:
    return widened_template.copy(tmp_path / "copy")


STAGING = "models/staging/stg_made__orders.sql"


def test_a_new_column_arrives_and_hand_edits_stay(widened: Made) -> None:
    made, path = widened, widened.file(STAGING)
    path.write_text(
        path.read_text()
        .replace("  raw.n::BIGINT AS n,", "  raw.n::BIGINT AS n,\n  raw.n * 2 AS twice,")
        .replace("n = 'n of each row of orders; as the source sends it.'", "n = 'How many.'")
    )
    assert {c.path: c.action for c in made.generate() if c.changes} == {
        "external_models/made/orders.yaml": "updated",
        "models/marts/dim_made__orders.sql": "updated",
        "models/staging/stg_made__orders.sql": "merged",
    }
    assert "n = 'How many.'" in path.read_text()
    made.build()
    assert made.read("staging.stg_made__orders", "id, twice, extra") == [
        (1, 2, None), (2, 8, "new")]  # fmt: skip
    assert {c.action for c in made.generate()} == {"unchanged"}


def test_a_true_conflict_leaves_the_file_proposes_and_ends_with_11(column: Made) -> None:
    made, path = column, column.file(STAGING)
    text = path.read_text()
    edited = text.replace(
        "  kind INCREMENTAL_BY_UNIQUE_KEY (\n    unique_key (id)\n  ),", "  kind VIEW,"
    )
    edited = edited.split("\n\n@IF")[0]
    path.write_text(edited)
    made.extract({"name": "orders", "write_disposition": "replace", "rows": [{"id": 1, "n": 1}]})
    changes = made.generate()
    (conflict,) = [c for c in changes if c.action == "conflict"]
    assert conflict.path == "models/staging/stg_made__orders.sql"
    assert conflict.lines
    assert "kind VIEW" in edited.splitlines()[conflict.lines[0][0] - 1]
    assert path.read_text() == edited
    proposal = path.with_name(path.name + ".new")
    assert "kind FULL" in proposal.read_text()
    with pytest.raises(ApprovalError) as raised:
        refuse_changes(changes, check=False)
    assert raised.value.code == 11
    assert f"{conflict.path}: changed by hand in lines {conflict.lines[0][0]}" in str(raised.value)
    assert "take from each .new file" in raised.value.hint
    # Asked again it says the same; with the proposal removed, what stands is the answer.
    assert [c.action for c in made.generate() if c.path == conflict.path] == ["conflict"]
    proposal.unlink()
    assert {c.action for c in made.generate()} == {"unchanged"}
    assert path.read_text() == edited


def test_check_writes_nothing_and_ends_with_11(widened: Made) -> None:
    made = widened
    before = {p: p.read_bytes() for p in made.file("").rglob("*") if p.is_file()}
    changes = made.generate(write=False)
    with pytest.raises(ApprovalError, match=r"stg_made__orders\.sql"):
        refuse_changes(changes, check=True)
    assert {p: p.read_bytes() for p in made.file("").rglob("*") if p.is_file()} == before
    made.generate()
    refuse_changes(made.generate(write=False), check=True)


@pytest.fixture(scope="module")
def two_template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two tables that were extracted, and nothing generated; tests work on copies."""
    project = Made(tmp_path_factory.mktemp("two"))
    project.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]},
                    {"name": "items", **MERGE, "references": [refer("order_id", "orders")],
                     "rows": [{"id": 1, "order_id": 1}]})  # fmt: skip
    return project


@pytest.fixture
def two(tmp_path: Path, two_template: Made) -> Made:
    return two_template.copy(tmp_path / "copy")


def test_a_file_written_by_hand_is_kept_and_one_removed_by_hand_stays_away(two: Made) -> None:
    made = two
    made.write("sqlmesh/models/marts/dim_made__orders.sql", "-- mine")
    changes = {c.path: c.action for c in made.generate()}
    assert changes["models/marts/dim_made__orders.sql"] == "kept"
    staging = made.file(STAGING)
    staging.unlink()
    changes = {c.path: c.action for c in made.generate()}
    assert changes[STAGING] == "removed"
    assert not staging.exists()
    made.file(f".generated/{STAGING}").unlink()
    assert {c.path: c.action for c in made.generate()}[STAGING] == "new"
    assert staging.exists()
    assert made.file("models/marts/dim_made__orders.sql").read_text() == "-- mine"


@pytest.mark.parametrize("path", [STAGING, f".generated/{STAGING}"])
def test_a_file_that_is_no_text_is_named_and_left_as_it_is(two: Made, path: str) -> None:
    two.generate()
    two.file(path).write_bytes("-- M\xfcller".encode("latin-1"))
    with pytest.raises(TransformError, match=re.escape(f"{path}: is not UTF-8 text (byte 4)")):
        two.generate()
    assert two.file(path).read_bytes() == b"-- M\xfcller"


def test_nothing_is_generated_on_top_of_staging_that_was_written_by_hand(two: Made) -> None:
    made = two
    made.write(
        "sqlmesh/models/staging/stg_made__orders.sql",
        "MODEL (name staging.stg_made__orders, kind VIEW);\n"
        "SELECT id::BIGINT AS order_id FROM made_raw.orders",
    )
    changes = {c.path: c.action for c in made.generate()}
    assert "models/marts/dim_made__orders.sql" not in changes
    assert changes["models/marts/dim_made__items.sql"] == "new"
    with pytest.raises(ConfigError, match="staging of orders was written by hand"):
        made.generate(facts=["items"])


def test_a_column_added_by_hand_and_by_the_source_is_a_conflict(widened: Made) -> None:
    path = widened.file(STAGING)
    path.write_text(
        path.read_text().replace("  raw.n::BIGINT AS n,", "  raw.n::BIGINT AS n,\n  'x' AS extra,")
    )
    changes = {c.path: c.action for c in widened.generate()}
    assert changes[STAGING] == "conflict"


def test_one_table_can_be_generated_alone_and_unknown_ones_are_named(two: Made) -> None:
    made = two
    written = {c.path for c in made.generate(table="orders")}
    assert STAGING in written
    assert "models/staging/stg_made__items.sql" not in written
    with pytest.raises(ConfigError, match=r"itams: no such raw table") as raised:
        made.generate(table="itams")
    assert raised.value.hint == "did you mean items?"
    with pytest.raises(ConfigError, match=r"--source maid: no such source"):
        made.generate(sources=["maid"])
    made.add_source("other")
    with pytest.raises(ConfigError, match=r"other: dlt has recorded no schema of it"):
        made.generate(sources=["other"])


# -- load packages -------------------------------------------------------------------------------


def test_each_package_is_processed_once_by_the_run_that_transformed_it(events: Made) -> None:
    made = events
    seen = "SELECT source, load_id, run_id, is_active FROM etl_meta.load_packages ORDER BY ALL"
    (first,) = made.query(seen)
    assert first[0] == "made"
    assert first[2:] == (None, True)
    one = made.build()
    assert made.query(seen) == [("made", first[1], one.run_id, False)]
    made.extract({**EVENTS, "rows": [{"n": 2}]})
    second = made.query(seen)[1]
    # Committed later than a younger one, as after a crash.
    older = "1000000000.000001"
    for table, column in (("_dlt_loads", "load_id"), ("events", "_dlt_load_id")):
        made.query(
            f"UPDATE made_raw.{table} SET {column} = '{older}' WHERE {column} = '{second[1]}'"
        )
    two = made.build()
    assert made.query(seen) == [
        ("made", older, two.run_id, False), ("made", first[1], one.run_id, False)]  # fmt: skip
    made.run("transform", full_refresh=True)
    assert [r[2] for r in made.query(seen)] == [two.run_id, one.run_id]
    assert made.read("staging.stg_made__events", "n") == [(1,), (2,)]


def test_a_pipeline_of_somebody_else_in_the_warehouse_is_no_source_of_ours(events: Made) -> None:
    made = events
    for schema in ("it's", "it's_raw"):
        made.query(
            f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}"._dlt_loads AS '
            "SELECT * FROM made_raw._dlt_loads"
        )
    assert {c.action for c in made.generate()} == {"unchanged"}
    made.build()
    found = made.query("SELECT source, is_active FROM etl_meta.load_packages ORDER BY ALL")
    assert found == [("it's", True), ("made", False)]


def test_a_package_whose_staging_failed_stays_active(events: Made) -> None:
    made = events
    path = "sqlmesh/models/staging/stg_made__events.sql"
    made.edit(path, "not_null(", "forall(criteria := (n > 1)), not_null(")
    assert made.run("transform").exit_code == 3
    assert made.query("SELECT is_active FROM etl_meta.load_packages") == [(True,)]
    made.edit(path, "forall(criteria := (n > 1)), not_null(", "not_null(")
    made.build()
    assert made.query("SELECT is_active FROM etl_meta.load_packages") == [(False,)]


def test_what_a_failed_model_holds_back_is_neither_counted_nor_processed(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.add_source("other")
    notes = {"name": "notes", **MERGE, "rows": [{"id": 1}]}
    made.give(notes, source="other")
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1, "lines": [{"n": 1}]}]})
    made.generate()
    # A staging model of another source that reads this one's.
    made.edit(
        "sqlmesh/models/staging/stg_other__notes.sql",
        "WHERE\n  packages.inserted_at",
        "WHERE\n  EXISTS(SELECT 1 FROM staging.stg_made__orders) AND packages.inserted_at",
    )
    made.build()
    path = "sqlmesh/models/staging/stg_made__orders.sql"
    made.edit(path, "raw.id::BIGINT", "error(raw.id::TEXT)::BIGINT")
    made.give({**notes, "rows": [{"id": 2}]}, source="other")
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1, "lines": [{"n": 2}, {"n": 3}]}]})
    record = made.run("transform")
    assert [f.subject for f in record.failures] == ["staging.stg_made__orders"]
    assert record.exit_code == 6
    active = "SELECT count(*) FROM etl_meta.load_packages WHERE is_active"
    assert made.query(active) == [(2,)]
    made.edit(path, "error(raw.id::TEXT)::BIGINT", "raw.id::BIGINT")
    made.build()
    assert made.query(active) == [(0,)]
    assert made.read("staging.stg_made__orders__lines", "n") == [(2,), (3,)]


def test_models_are_held_back_while_a_package_is_only_partly_in_raw(column: Made) -> None:
    made = column
    made.build()
    # Killed between two files of a merge: the old rows are out, the new ones not yet in.
    made.query("DELETE FROM made_raw.orders WHERE id = 1")
    half = made.settings.dlt_dir / "made" / "load" / "normalized" / "1.5" / "completed_jobs"
    half.mkdir(parents=True)
    (half / "orders.0.parquet").touch()
    record = made.run("transform", "audit", "load")
    assert record.exit_code == 12
    assert [(f.subject, f.stage) for f in record.failures] == [("made", "extract")]
    assert "package 1.5 of an earlier run is only partly in raw" in record.failures[0].message
    assert made.read("staging.stg_made__orders", "id") == [(1,)]


# -- in a run ------------------------------------------------------------------------------------


def _generating(made: Made) -> None:
    made.edit(
        "config/etl.yaml", "    required: false", "    required: false\n    on_new_column: generate"
    )


@pytest.fixture(scope="module")
def generating_template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A project whose first run generated its models; tests work on copies."""
    project = Made(tmp_path_factory.mktemp("generating"))
    _generating(project)
    project.give({"name": "orders", **MERGE, "rows": [{"id": 1, "n": 1}]})
    record = project.run()
    assert record.exit_code == 0, record.failures
    return project


@pytest.fixture
def generating(tmp_path: Path, generating_template: Made) -> Made:
    project = generating_template.copy(tmp_path / "copy")
    _generating(project)  # a copy's settings are written anew
    return project


def test_a_run_brings_new_columns_and_tables_into_the_models_by_itself(generating: Made) -> None:
    made = generating
    assert made.read("staging.stg_made__orders", "id, n") == [(1, 1)]
    made.edit(
        "sqlmesh/models/marts/dim_made__orders.sql", "  n AS n,", "  n AS n,\n  n * 2 AS twice,"
    )
    made.give({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 4, "extra": "x", "l": [1]}]})
    assert made.run().exit_code == 0
    assert made.read("marts.dim_made__orders", "id, twice, extra") == [(1, 2, None), (2, 8, "x")]
    assert made.read("staging.stg_made__orders__l", "value") == [(1,)]
    # Nothing new: nothing is generated, and nothing is transformed.
    record = made.run()
    assert (record.exit_code, record.models) == (0, ())


@pytest.mark.parametrize(
    ("disposition", "rows"), [("replace", [(1, 3)]), ("append", [(1, 1), (1, 2), (1, 3)])]
)
def test_a_table_that_keeps_no_versions_any_more_has_no_validity(
    made: Made, disposition: str, rows: list[tuple[int, int]]
) -> None:
    """dlt leaves the columns in its schema, where no row fills them any more."""
    _generating(made)
    versions = {"disposition": "merge", "strategy": "scd2"}
    for n, hints in enumerate((versions, versions, disposition), 1):
        kept = {"primary_key": "id", "write_disposition": hints}
        made.give({"name": "orders", **kept, "rows": [{"id": 1, "n": n}]})
        record = made.run()
        assert record.exit_code == 0, record.failures
    assert made.read("staging.stg_made__orders", "id, n") == rows
    assert made.read("marts.dim_made__orders", "id, n") == [(1, 3)]


def test_a_type_that_raw_took_on_is_not_rounded_by_models_of_the_old_one(made: Made) -> None:
    """A full refresh makes raw's table anew where settings change a type; models follow later."""
    orders = {"name": "orders", **MERGE}
    made.extract({**orders, "rows": [{"id": 1, "n": 1}]})
    made.generate()
    assert made.run().exit_code == 0
    wider = {**orders, "columns": {"n": {"data_type": "double"}}}
    made.give({**wider, "rows": [{"id": 1, "n": 1.5}]})
    record = made.run(full_refresh=True)
    (failure,) = record.failures
    assert (record.exit_code, failure.subject) == (6, "staging.stg_made__orders")
    assert "made_raw.orders.n is DOUBLE, was BIGINT" in failure.message
    assert "etl generate" in failure.hint
    made.generate()
    made.give(wider)
    assert made.run().exit_code == 0, "as the hint says"
    assert made.read("marts.dim_made__orders", "id, n") == [(1, 1.5)]


def test_a_full_refresh_brings_a_new_type_into_the_models_by_itself(generating: Made) -> None:
    """Of one source: the plan of a part knows raw's tables as they were."""
    made = generating
    wider = {"name": "orders", **MERGE, "columns": {"n": {"data_type": "double"}}}
    made.give({**wider, "rows": [{"id": 1, "n": 1.5}]})
    record = made.run(full_refresh=True, sources=("made",))
    assert record.exit_code == 0, record.failures
    assert made.read("marts.dim_made__orders", "id, n") == [(1, 1.5)]


def test_a_run_killed_before_it_generated_leaves_it_to_the_next(made: Made) -> None:
    _generating(made)
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]})
    assert not made.file("models").exists()
    assert made.run("transform").exit_code == 0
    assert made.read("staging.stg_made__orders", "id") == [(1,)]


def test_a_conflict_in_a_run_keeps_the_models_that_stand_and_ends_with_11(
    generating: Made,
) -> None:
    made = generating
    path = "sqlmesh/models/staging/stg_made__orders.sql"
    made.edit(path, "  raw.n::BIGINT AS n,", "  raw.n::BIGINT AS n,\n  'by hand' AS extra,")
    made.give({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 4, "extra": "x"}]})
    for _ in range(2):
        record = made.run()
        assert (record.exit_code, record.failures[0].subject) == (11, "generate")
        assert made.read("staging.stg_made__orders", "id, extra") == [
            (1, "by hand"), (2, "by hand")]  # fmt: skip
    (made.folder / (path + ".new")).unlink()
    assert made.run().exit_code == 0
