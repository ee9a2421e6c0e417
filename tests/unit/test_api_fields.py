"""Where raw columns come from: key paths of rows, named as dlt names them."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dlt.common.schema import Schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.api_fields import (
    FULL_ROWS,
    SAMPLE,
    ApiField,
    ApiFields,
    FieldPaths,
    load_fields,
    save_fields,
)
from etl.raw.fields import name_columns
from etl.settings import Settings
from etl.sources.row_place import find_base

NAMING = Schema("x").naming


def named(*rows: Any, **more: Any) -> dict[str, dict[str, list[str]]]:
    """The paths by table and column, of rows of the table `Orders`."""
    found = FieldPaths("Orders", "GET orders", base="$.data[*]", **more)
    found.note(rows)
    tables = name_columns([found], NAMING)
    return {
        t: {c: [f.path or f.note for f in fields] for c, fields in columns.items()}
        for t, columns in tables.items()
    }


def test_paths_keep_the_names_that_dlt_changes() -> None:
    found = named({"blockedBy": 1, "we ird": 2, "it's": 3, "a": {"bC": {"D": 4}}})
    assert found["orders"]["blocked_by"] == ["$.data[*].blockedBy"]
    assert found["orders"]["we_ird"] == ["$.data[*]['we ird']"]
    assert found["orders"]["it_s"] == ["$.data[*]['it\\'s']"]
    assert found["orders"]["a__b_c__d"] == ["$.data[*].a.bC.D"]
    assert found["orders"]["*"] == ["$.data[*]"]


def test_lists_are_child_tables_at_any_depth() -> None:
    found = named({"m": {"Lines": [{"Discounts": [{"byWhom": 1}]}]}, "tags": ["x"], "grid": [[1]]})
    child = "orders__m__lines__discounts"
    assert found[child]["by_whom"] == ["$.data[*].m.Lines[*].Discounts[*].byWhom"]
    assert found[child]["*"] == ["$.data[*].m.Lines[*].Discounts[*]"]
    assert found["orders__tags"]["value"] == ["$.data[*].tags[*]"]
    assert found["orders__grid__list"]["value"] == ["$.data[*].grid[*][*]"]


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda k: k.strip() and not k.startswith("_dlt")
)
VALUES = st.recursive(
    st.integers(0, 9),
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=3)
        | st.lists(st.dictionaries(KEYS, inner, max_size=3))
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@example({"__": 0, "0__": {"__": 0}})
@example({"aB": 1, "x" * 80: {"y" * 30: 2}, "l": [{"kK": [[{"deep": 1}]]}], "Ünï": 3})
@given(st.dictionaries(KEYS | st.just(" "), VALUES, min_size=1, max_size=4))
def test_any_key_is_named_as_dlt_names_it(row: dict[str, Any]) -> None:
    schema = Schema("x")
    made: dict[str, set[str]] = {}
    try:
        for (table, _, _), values in schema.normalize_data_item(deepcopy(row), "1", "orders"):
            made.setdefault(table, set()).update(c for c in values if not c.startswith("_dlt"))
    except ValueError:
        return  # dlt itself refuses the key of a list
    found = named(row)
    for table, columns in made.items():
        assert columns <= found[table].keys(), table


def test_two_fields_that_become_one_column_are_both_told() -> None:
    found = named({"blockedBy": 1, "blocked_by": 2})
    assert found["orders"]["blocked_by"] == ["$.data[*].blockedBy", "$.data[*].blocked_by"]


def test_a_field_in_any_of_the_first_rows_is_seen_however_deep() -> None:
    rows: list[Any] = [{"a": [{}], "b": {}} for _ in range(FULL_ROWS - 1)]
    assert "late" in named(*rows, {"a": [{}, {"late": 1}], "b": {}})["orders__a"]
    assert "b__late" in named(*rows, {"a": [{}], "b": {"late": 1}})["orders"]
    # The same keys in the same order, but in another field.
    assert {"a__x", "b__x"} <= named({"a": {"x": 1}, "b": 1}, {"a": 1, "b": {"x": 1}})[
        "orders"
    ].keys()


def test_after_the_first_rows_new_keys_and_every_sample_are_seen() -> None:
    rows: list[Any] = [{"a": {}} for _ in range(FULL_ROWS)]
    assert "late" in named(*rows, {"a": {}, "late": 1})["orders"]
    assert "a__late" in named(*rows, *[{"a": {"late": 1}}] * SAMPLE)["orders"]


def test_what_the_job_adds_says_so() -> None:
    found = named(
        {"id": 1, "_customers_id": 7, "_other": 8},
        added={"snapshot_date": "this run's snapshot date"},
        copied=("id",),
    )
    assert found["orders"]["snapshot_date"] == ["this run's snapshot date"]
    assert found["orders"]["_customers_id"] == ["`id` of the parent resource's row"]
    assert found["orders"]["_other"] == ["$.data[*]._other"]


@pytest.mark.parametrize(
    ("answer", "selector", "base"),
    [
        ({"data": [{"a": 1}], "next": "x"}, "data", "$.data[*]"),
        ({"data": {"items": [1, 2]}}, "data.items", "$.data.items[*]"),
        ({"data": {"items": [1, 2]}}, "data.items[*]", "$.data.items[*]"),
        ({"a": 1}, "$", "$"),
        ([{"a": 1}], None, "$[*]"),
        ({"meta": {"n": 1}, "results": [{"a": 1}]}, None, "$.results[*]"),
    ],
)
def test_the_place_of_the_rows_is_found_as_dlt_finds_it(
    answer: Any, selector: str | None, base: str
) -> None:
    from dlt.common import jsonpath

    assert find_base(answer, jsonpath.compile_path(selector) if selector else None) == base


def settings_of(folder: Path) -> Settings:
    return Settings.model_validate(
        {"data_dir": folder, "sources": {"api": {"factory": "a.b:c"}}, "project": folder}
    )


def test_the_file_keeps_what_earlier_runs_saw(tmp_path: Path) -> None:
    found = settings_of(tmp_path)
    assert load_fields(found, "api") == {}
    one, two = ApiField("GET a", "$.x"), ApiField("GET b", "$.y")
    save_fields(found, "api", {"t": {"x": [one]}})
    save_fields(found, "api", {"t": {"x": [two, one]}, "u": {"y": [two]}})
    assert load_fields(found, "api") == {"t": {"x": [one, two]}, "u": {"y": [two]}}
    (file,) = tmp_path.rglob("fields.json")
    before = file.stat().st_mtime_ns
    save_fields(found, "api", {"t": {"x": [one]}})
    assert file.stat().st_mtime_ns == before, "nothing new, and written all the same"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tables": 3}'])
def test_a_broken_file_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    found = settings_of(tmp_path)
    file = found.dlt_dir / "api" / "fields.json"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    assert load_fields(found, "api") == {}


def test_columns_of_dlt_and_variants_are_explained(tmp_path: Path) -> None:
    found = settings_of(tmp_path)
    save_fields(found, "api", {"t": {"x": [ApiField("GET a", "$.x")]}})
    fields = ApiFields(found)
    assert fields.find("api_raw.t", "x__v_text") == [ApiField("GET a", "$.x")]
    assert "load package" in fields.find("api_raw.t", "_dlt_load_id")[0].note
    assert fields.find("api_raw._dlt_loads", "status")[0].note == "dlt's own table"
    assert fields.find("api_raw.t", "nowhere") == fields.find("other.t", "x") == []


def test_looking_at_rows_costs_little() -> None:
    # An extraction takes some 75 µs a row; this is about 1 of them, with room for a busy machine.
    row = dict.fromkeys("abcdefgh", 1) | {"v": {"x": 1, "y": {"z": 2}}, "l": [{"p": 1, "q": 2}]}
    pages = [[dict(row) for _ in range(100)] for _ in range(200)]
    found = FieldPaths("t", "e")
    begin = time.process_time()
    for page in pages:
        found.note(page)
    assert (time.process_time() - begin) / 20_000 < 10e-6
