"""`etl generate` on real schemas of dlt, its models built by real SQLMesh."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.errors import ApprovalError, ConfigError
from etl.generate.generation import refuse_changes
from etl.project.engine import open_context
from tests.integration.generating import Made

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


# -- merge ---------------------------------------------------------------------------------------


def test_a_merged_table_holds_the_newest_version_and_follows_hard_deletes(made: Made) -> None:
    hints = {"name": "orders", **MERGE, "columns": {"gone": {"hard_delete": True}}}
    made.extract({**hints, "rows": [
        {"id": 1, "n": 1, "gone": False, "lines": [{"x": 1, "subs": [{"y": 1}, {"y": 2}]}]},
        {"id": 2, "n": 1, "gone": False, "lines": [{"x": 2, "subs": [{"y": 3}]}]}]})  # fmt: skip
    made.generate()
    made.build()
    made.extract({**hints, "rows": [
        {"id": 1, "n": 2, "gone": False, "lines": [{"x": 9, "subs": []}]},
        {"id": 2, "gone": True}, {"id": 3, "n": 1, "gone": False}]})  # fmt: skip
    made.build()
    assert made.read("staging.stg_made__orders", "id, n") == [(1, 2), (3, 1)]
    assert made.read("staging.stg_made__orders__lines", "x") == [(9,)]
    assert made.read("staging.stg_made__orders__lines__subs", "y") == []
    assert made.read("marts.dim_made__orders", "id, n") == [(1, 2), (3, 1)]


def test_only_committed_packages_are_seen_each_under_its_first_commit(made: Made) -> None:
    made.extract({"name": "events", "write_disposition": "append", "rows": [{"n": 1}]})
    made.extract({"name": "events", "write_disposition": "append", "rows": [{"n": 2}]})
    ids = [r[0] for r in made.read("made_raw._dlt_loads", "load_id")]
    made.query(f"UPDATE made_raw._dlt_loads SET status = 1 WHERE load_id = '{ids[1]}'")
    made.query(
        "INSERT INTO made_raw._dlt_loads SELECT * REPLACE (inserted_at + INTERVAL 1 SECOND AS "
        f"inserted_at) FROM made_raw._dlt_loads WHERE load_id = '{ids[0]}'"
    )
    made.generate()
    made.build()
    assert made.read("staging.stg_made__events", "n, _dlt_load_id") == [(1, ids[0])]
    made.query(f"UPDATE made_raw._dlt_loads SET status = 0 WHERE load_id = '{ids[1]}'")
    made.build()
    assert made.read("staging.stg_made__events", "n, _dlt_load_id") == [(1, ids[0]), (2, ids[1])]


def test_a_dimension_of_appended_rows_shows_each_key_once_as_it_stands_now(made: Made) -> None:
    hints = {"name": "prices", "write_disposition": "append", "primary_key": "id"}
    made.extract({**hints, "rows": [{"id": 1, "usd": 1}, {"id": 2, "usd": 2}]})
    made.extract({**hints, "rows": [{"id": 1, "usd": 3}]})
    made.generate()
    made.build()
    assert made.read("staging.stg_made__prices", "id, usd") == [(1, 1), (1, 3), (2, 2)]
    assert made.read("marts.dim_made__prices", "id, usd") == [(1, 3), (2, 2)]


def test_a_version_that_comes_back_does_not_double_its_lists(made: Made) -> None:
    hints = {"name": "accounts", "primary_key": "id",
             "write_disposition": {"disposition": "merge", "strategy": "scd2"}}  # fmt: skip
    first = [{"id": 1, "plan": "free", "tags": ["a", "b"]}]
    for rows in (first, [{"id": 1, "plan": "paid", "tags": ["a"]}], first):
        made.extract({**hints, "rows": rows})
    made.generate()
    made.build()
    assert made.read("marts.dim_made__accounts", "plan, is_current") == [
        ("free", False), ("free", True), ("paid", False)]  # fmt: skip
    raw = made.query("SELECT count(*) FROM made_raw.accounts__tags")
    assert made.query("SELECT count(*) FROM staging.stg_made__accounts__tags") == raw


def test_versions_with_names_and_an_end_of_their_own_are_understood(made: Made) -> None:
    hints = {
        "name": "plans", "primary_key": "id",
        "write_disposition": {
            "disposition": "merge", "strategy": "scd2", "validity_column_names": ["from", "to"],
            "active_record_timestamp": "9999-12-31"},
    }  # fmt: skip
    users = {"name": "users", **MERGE, "references": [refer("plan_id", "plans")]}
    made.extract(
        {**hints, "rows": [{"id": 1, "eur": 5}]}, {**users, "rows": [{"id": 7, "plan_id": 1}]}
    )
    made.extract({**hints, "rows": [{"id": 1, "eur": 6}]})
    made.generate(facts=["users"])
    made.build()
    assert made.read("marts.dim_made__plans", "eur, is_current") == [(5, False), (6, True)]
    assert made.read("marts.fact_made__users", "id, plans__id") == [(7, 1)]


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


def test_two_references_to_one_table_go_by_the_columns_that_lead_there(made: Made) -> None:
    made.extract(
        {"name": "people", **MERGE, "rows": [{"id": 1}, {"id": 2}]},
        {"name": "mails", **MERGE, "rows": [{"id": 1, "sender_id": 1, "reader_id": 2}],
         "columns": {"sender_id": {"x-references": "people.id"},
                     "reader_id": {"x-references": "people.id"}}},
    )  # fmt: skip
    made.generate(facts=["mails"])
    made.build()
    found = made.read("marts.fact_made__mails", "sender_id__people__id, reader_id__people__id")
    assert found == [(1, 2)]


@pytest.mark.parametrize(
    ("references", "told"),
    [
        ([refer("customer_id", "clients")], "clients: no such table"),
        ([refer("client_id", "customers")], "column client_id is not in orders"),
        ([{**refer("customer_id", "customers"), "referenced_columns": ["nr"]}],
         "column nr is not in customers"),
        ([{**refer("customer_id", "customers"), "referenced_columns": ["name"]}],
         "name does not identify a row of customers"),
        ([refer("note", "customers")], "note is VARCHAR, customers.id is BIGINT"),
        ([{**refer("customer_id", "customers"), "referenced_columns": ["id", "name"]}],
         "1 columns refer to 2"),
    ],
)  # fmt: skip
def test_a_reference_that_does_not_hold_is_refused_by_name(
    made: Made, references: list[Any], told: str
) -> None:
    made.extract(
        {"name": "customers", **MERGE, "rows": [{"id": 1, "name": "Ann"}]},
        {"name": "orders", **MERGE, "references": references,
         "rows": [{"id": 1, "customer_id": 1, "note": "x"}]},
    )  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        made.generate()
    assert [told in str(p) for p in raised.value.problems] == [True]
    assert "orders" in str(raised.value.problems[0])
    assert not made.file("models").exists()


def test_a_reference_of_a_column_that_names_no_column_is_refused(made: Made) -> None:
    hint = {"columns": {"boss_id": {"x-references": "staff"}}}
    made.extract({"name": "staff", **MERGE, **hint, "rows": [{"id": 1, "boss_id": 1}]})
    with pytest.raises(ConfigError) as raised:
        made.generate()
    assert "made.staff → staff: 1 columns refer to 0" in str(raised.value.problems[0])


def test_references_in_a_circle_are_refused_once_with_their_way(made: Made) -> None:
    made.extract(
        {"name": "a", **MERGE, "references": [refer("b_id", "b")], "rows": [{"id": 1, "b_id": 1}]},
        {"name": "b", **MERGE, "references": [refer("c_id", "c")], "rows": [{"id": 1, "c_id": 1}]},
        {"name": "c", **MERGE, "references": [refer("a_id", "a")], "rows": [{"id": 1, "a_id": 1}]},
    )
    with pytest.raises(ConfigError) as raised:
        made.generate()
    (problem,) = raised.value.problems
    assert "a → b → c → a" in str(problem)


def test_a_reference_to_its_own_table_is_a_hierarchy_not_a_circle(made: Made) -> None:
    made.extract({"name": "staff", **MERGE, "references": [refer("boss_id", "staff")],
                  "rows": [{"id": 1, "boss_id": None}, {"id": 2, "boss_id": 1}]})  # fmt: skip
    made.generate(facts=["staff"])
    made.build()
    assert made.read("marts.fact_made__staff", "id, boss_id") == [(1, None), (2, 1)]


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


def test_every_keyword_of_duckdb_can_be_a_column_and_a_table(made: Made) -> None:
    keywords = [r[0] for r in duckdb.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
    some = [k for k in keywords if k in {"order", "select", "values", "end", "left", "interval"}]
    made.extract(
        {"name": "words", **MERGE, "rows": [{"id": 1, **dict.fromkeys(keywords, 1)}]},
        *({"name": k, "write_disposition": "merge", "primary_key": k, "rows": [{k: 1}]}
          for k in some),
    )  # fmt: skip
    made.generate(facts=some)
    made.build()
    row = made.read("marts.dim_made__words")[0]
    assert row[: len(keywords) + 1] == (1,) * (len(keywords) + 1)
    assert made.read("marts.fact_made__order", '"order"') == [(1,)]
    assert made.query(
        "SELECT count(*) FROM information_schema.columns WHERE column_name LIKE '%\"%'"
    ) == [(0,)]


def test_long_names_many_columns_and_blobs_of_json_work(made: Made) -> None:
    long, name = "n" * 200, "t" * 120
    wide = {f"c{i}": i for i in range(500)}
    made.extract(
        {"name": "wide", **MERGE, "rows": [{"id": 1, **wide, long: 7}]},
        {"name": "deep", **MERGE, "max_table_nesting": 0,
         "rows": [{"id": 1, "blob": {"a": [1, {"b": "ü"}]}}]},
        {"name": "x", **MERGE, "rows": [{"id": 1, name: [{"n": 1}]}]},
    )  # fmt: skip
    made.generate()
    made.build()
    assert made.read("staging.stg_made__wide", f"c0, c499, {long}") == [(0, 499, 7)]
    assert made.query("SELECT blob ->> '$.a[1].b', typeof(blob) FROM staging.stg_made__deep") == [
        ("ü", "JSON")]  # fmt: skip
    assert made.read(f"staging.stg_made__x__{name}", "n") == [(1,)]


@pytest.mark.parametrize(
    ("row", "column", "fields"),
    [
        ({"id": 1, "a b": 1, "a_b": 2}, "made_raw.odd.a_b", "$.a_b and $['a b']"),
        ({"id": 1, "isOn": None, "is_on": 2}, "made_raw.odd.is_on", "$.isOn and $.is_on"),
        ({"id": 1, "a": {"b-c": 1, "b_c": 2}}, "made_raw.odd.a__b_c", "$.a.b_c and $.a['b-c']"),
        ({"id": 1, "l": [{"x": 1}, {"y-z": 1, "y_z": 1}]}, "made_raw.odd__l.y_z",
         "$.l[*].y_z and $.l[*]['y-z']"),
    ],
)  # fmt: skip
def test_two_fields_that_would_share_a_column_are_refused_and_nothing_is_committed(
    made: Made, row: dict[str, Any], column: str, fields: str
) -> None:
    made.give({"name": "odd", **MERGE, "rows": [{"id": 0}, row]})
    record = made.run("extract")
    assert record.exit_code == 10
    assert record.failures[0].message.startswith(f"{column}: {fields} of one row")
    assert made.query("SELECT count(*) FROM made_raw._dlt_loads") == [(0,)]
    # In different rows each has the column to itself.
    row.pop("l", None)
    rows = [{"id": i, k: v} for i, (k, v) in enumerate(row.items()) if not isinstance(v, dict)]
    made.extract({"name": "odd", **MERGE, "rows": rows})


def test_a_table_whose_name_is_too_long_for_sqlmesh_is_refused(made: Made) -> None:
    made.extract({"name": "x", **MERGE, "rows": [{"id": 1, "t" * 200: [{"n": 1}]}]})
    with pytest.raises(ConfigError, match="would have 221 characters"):
        made.generate()


def test_a_table_without_any_column_writes_no_model(made: Made) -> None:
    made.extract({"name": "full", **MERGE, "rows": [{"id": 1}]}, {"name": "empty", "rows": []})
    made.generate()
    assert not list(made.file("models").rglob("*empty*"))
    made.build()


def test_a_column_that_the_models_add_themselves_is_refused(made: Made) -> None:
    made.extract({"name": "odd", **MERGE, "rows": [{"id": 1, "_loaded_at": "x"}]})
    with pytest.raises(ConfigError, match=r"made_raw\.odd\._loaded_at"):
        made.generate()


def test_a_list_that_appears_in_the_second_load_is_generated_then(made: Made) -> None:
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]})
    made.generate()
    made.build()
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "lines": [{"x": 1}]}]})
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


def _with_column(made: Made) -> tuple[Path, str]:
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1, "n": 1}]})
    made.generate()
    path = made.file("models/staging/stg_made__orders.sql")
    return path, path.read_text()


def test_a_new_column_arrives_and_hand_edits_stay(made: Made) -> None:
    path, text = _with_column(made)
    path.write_text(
        text.replace("  raw.n::BIGINT AS n,", "  raw.n::BIGINT AS n,\n  raw.n * 2 AS twice,")
        .replace("n = 'n of each row of orders; as the source sends it.'", "n = 'How many.'")
    )  # fmt: skip
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 4, "extra": "new"}]})
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


def test_a_true_conflict_leaves_the_file_proposes_and_ends_with_11(made: Made) -> None:
    path, text = _with_column(made)
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
    assert conflict.path in str(raised.value)
    assert f"{conflict.lines[0][0]}" in str(raised.value)
    # Asked again it says the same; with the proposal removed, what stands is the answer.
    assert [c.action for c in made.generate() if c.path == conflict.path] == ["conflict"]
    proposal.unlink()
    assert {c.action for c in made.generate()} == {"unchanged"}
    assert path.read_text() == edited


def test_check_writes_nothing_and_ends_with_11(made: Made) -> None:
    _with_column(made)
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "extra": "new"}]})
    before = {p: p.read_bytes() for p in made.file("").rglob("*") if p.is_file()}
    changes = made.generate(write=False)
    with pytest.raises(ApprovalError, match=r"stg_made__orders\.sql"):
        refuse_changes(changes, check=True)
    assert {p: p.read_bytes() for p in made.file("").rglob("*") if p.is_file()} == before
    made.generate()
    refuse_changes(made.generate(write=False), check=True)


def test_a_file_written_by_hand_is_kept_and_one_removed_by_hand_stays_away(made: Made) -> None:
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]})
    made.write("sqlmesh/models/marts/dim_made__orders.sql", "-- mine")
    changes = {c.path: c.action for c in made.generate()}
    assert changes["models/marts/dim_made__orders.sql"] == "kept"
    staging = made.file("models/staging/stg_made__orders.sql")
    staging.unlink()
    changes = {c.path: c.action for c in made.generate()}
    assert changes["models/staging/stg_made__orders.sql"] == "removed"
    assert not staging.exists()
    assert made.file("models/marts/dim_made__orders.sql").read_text() == "-- mine"


def test_nothing_is_generated_on_top_of_staging_that_was_written_by_hand(made: Made) -> None:
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]},
                 {"name": "items", **MERGE, "references": [refer("order_id", "orders")],
                  "rows": [{"id": 1, "order_id": 1}]})  # fmt: skip
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


def test_a_column_added_by_hand_and_by_the_source_is_a_conflict(made: Made) -> None:
    path, text = _with_column(made)
    path.write_text(text.replace("  raw.n::BIGINT AS n,", "  raw.n::BIGINT AS n,\n  'x' AS extra,"))
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 2, "n": 4, "extra": "new"}]})
    changes = {c.path: c.action for c in made.generate()}
    assert changes["models/staging/stg_made__orders.sql"] == "conflict"


def test_one_table_can_be_generated_alone_and_unknown_ones_are_named(made: Made) -> None:
    made.extract(
        {"name": "a", **MERGE, "rows": [{"id": 1}]}, {"name": "bee", **MERGE, "rows": [{"id": 1}]}
    )
    written = {c.path for c in made.generate(table="a")}
    assert "models/staging/stg_made__a.sql" in written
    assert "models/staging/stg_made__bee.sql" not in written
    with pytest.raises(ConfigError, match=r"bea: no such raw table") as raised:
        made.generate(table="bea")
    assert raised.value.hint == "did you mean bee?"
    with pytest.raises(ConfigError, match=r"--source maid: no such source"):
        made.generate(sources=["maid"])


# -- load packages -------------------------------------------------------------------------------


def test_each_package_is_processed_once_by_the_run_that_transformed_it(made: Made) -> None:
    seen = "SELECT source, load_id, run_id, is_active FROM etl_meta.load_packages ORDER BY ALL"
    events = {"name": "events", "write_disposition": "append"}
    made.extract({**events, "rows": [{"n": 1}]})
    made.generate()
    (first,) = made.query(seen)
    assert first[0] == "made"
    assert first[2:] == (None, True)
    one = made.build()
    assert made.query(seen) == [("made", first[1], one.run_id, False)]
    made.extract({**events, "rows": [{"n": 2}]})
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


def test_a_pipeline_of_somebody_else_in_the_warehouse_is_no_source_of_ours(made: Made) -> None:
    made.extract({"name": "events", "write_disposition": "append", "rows": [{"n": 1}]})
    for schema in ("it's", "it's_raw"):
        made.query(
            f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}"._dlt_loads AS '
            "SELECT * FROM made_raw._dlt_loads"
        )
    made.generate()
    made.build()
    found = made.query("SELECT source, is_active FROM etl_meta.load_packages ORDER BY ALL")
    assert found == [("it's", True), ("made", False)]


def test_a_package_whose_staging_failed_stays_active(made: Made) -> None:
    made.extract({"name": "events", "write_disposition": "append", "rows": [{"n": 1}]})
    made.generate()
    path = "sqlmesh/models/staging/stg_made__events.sql"
    made.edit(path, "not_null(", "forall(criteria := (n > 1)), not_null(")
    assert made.run("transform").exit_code == 3
    assert made.query("SELECT is_active FROM etl_meta.load_packages") == [(True,)]
    made.edit(path, "forall(criteria := (n > 1)), not_null(", "not_null(")
    made.build()
    assert made.query("SELECT is_active FROM etl_meta.load_packages") == [(False,)]


def test_models_are_held_back_while_a_package_is_only_partly_in_raw(made: Made) -> None:
    orders = {"name": "orders", **MERGE}
    made.extract({**orders, "rows": [{"id": 1}, {"id": 2}]})
    made.generate()
    made.build()
    # Killed between two files of a merge: the old rows are out, the new ones not yet in.
    made.query("DELETE FROM made_raw.orders WHERE id = 2")
    half = made.settings.dlt_dir / "made" / "load" / "normalized" / "1.5" / "completed_jobs"
    half.mkdir(parents=True)
    (half / "orders.0.parquet").touch()
    record = made.run("transform", "audit", "load")
    assert record.exit_code == 12
    assert [(f.subject, f.stage) for f in record.failures] == [("made", "extract")]
    assert "package 1.5 of a killed run is only partly in raw" in record.failures[0].message
    assert made.read("staging.stg_made__orders", "id") == [(1,), (2,)]


# -- in a run ------------------------------------------------------------------------------------


def _generating(made: Made) -> None:
    made.edit(
        "config/etl.yaml", "    required: false", "    required: false\n    on_new_column: generate"
    )


def test_a_run_brings_new_columns_and_tables_into_the_models_by_itself(made: Made) -> None:
    _generating(made)
    made.give({"name": "orders", **MERGE, "rows": [{"id": 1, "n": 1}]})
    assert made.run().exit_code == 0
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


def test_a_run_killed_before_it_generated_leaves_it_to_the_next(made: Made) -> None:
    _generating(made)
    made.extract({"name": "orders", **MERGE, "rows": [{"id": 1}]})
    assert not made.file("models").exists()
    assert made.run("transform").exit_code == 0
    assert made.read("staging.stg_made__orders", "id") == [(1,)]


def test_a_conflict_in_a_run_keeps_the_models_that_stand_and_ends_with_11(made: Made) -> None:
    _generating(made)
    made.give({"name": "orders", **MERGE, "rows": [{"id": 1, "n": 1}]})
    assert made.run().exit_code == 0
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
