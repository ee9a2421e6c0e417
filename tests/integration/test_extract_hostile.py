"""APIs that answer 200 with what nobody expects: nothing is lost, changed or poisoned silently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count as count_from
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from etl.backlog import last_commit, last_read
from etl.errors import (
    ConfigError,
    DataQualityError,
    ExitCode,
    ExtractError,
    SchemaError,
    StageError,
)
from etl.raw.pipeline import Raw
from etl.settings import Settings
from tests.integration.extracting import (
    Api,
    context,
    count,
    extract_once,
    failure_of,
    failures_of,
    pending,
    query,
    reading,
    serving,
    settings_of,
)

SELECTED = {"endpoint": {"path": "rows", "data_selector": "items"}}
MERGE = {"write_disposition": "merge", "primary_key": "id"}
SCD2 = {"write_disposition": {"disposition": "merge", "strategy": "scd2"}}


def plain(folder: Path, api: Api, resource: dict[str, Any] | None = None, **more: Any) -> Settings:
    """One resource `rows` of an API, one page unless a paginator is named."""
    client = {"base_url": api.url} | more.pop("client", {})
    resources = [{"name": "rows", "endpoint": {"path": "rows"}} | (resource or {})]
    return settings_of(folder, {"api": {"client": client, "resources": resources} | more})


# -- values that no file of a package can hold -----------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "rows"),
    [
        (MERGE, [{"id": None, "a": 1}, {"id": 1}]),
        (MERGE, [{"a": 1}, {"id": 1}]),
        (MERGE | {"write_disposition": {"disposition": "merge", "strategy": "upsert"}}, [{"a": 1}]),
        ({}, [{"id": 10**35}]),
        ({}, [{"": 1, " ": 2}]),
    ],
    ids=["null key", "row without key", "upsert without key", "beyond 38 digits", "blank names"],
)
def test_row_that_cannot_be_normalised_breaks_the_schema_and_poisons_nothing(
    tmp_path: Path, resource: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    answer = {"rows": rows}
    with serving(lambda *_: answer["rows"]) as api:
        settings = plain(tmp_path, api, resource)
        failure = failure_of(settings, SchemaError)
        assert failure.message.startswith(("api: ", "api.rows: ", "api_raw.rows._empty: "))
        assert pending(settings, "api") == []
        assert len(list((settings.data / "quarantine" / "api").iterdir())) == 1
        answer["rows"] = [{"id": 1}]
        extract_once(settings)
        assert count(settings, "api_raw.rows") == 1


def test_key_that_no_row_has_is_named(tmp_path: Path) -> None:
    with serving(lambda *_: {"items": {"a": {"id": 1}, "b": {"id": 2}}}) as api:
        failure = failure_of(plain(tmp_path, api, MERGE | SELECTED), SchemaError)
    assert "no row of rows has id, and the settings ask for it" in failure.message


@pytest.mark.parametrize("contract", [None, {"data_type": "discard_row"}])
def test_key_that_changes_its_type_is_named(tmp_path: Path, contract: Any) -> None:
    rows: list[dict[str, Any]] = [{"id": 1}]
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api, MERGE, schema_contract=contract)
        extract_once(settings)
        rows[:] = [{"id": 2}, {"id": "x"}]
        if contract is None:
            [failure] = failures_of(settings)
            assert type(failure) is SchemaError
            assert "api_raw.rows.id: a value came that is no bigint" in failure.message
            assert "`data_type: text`" in failure.hint
        else:
            extract_once(settings)
    found = query(settings, "SELECT id FROM api_raw.rows ORDER BY id")
    assert found == ([(1,)] if contract is None else [(1,), (2,)])


@pytest.mark.parametrize(
    ("resource", "row", "field"),
    [
        (MERGE, {"id": 1, "_dlt_id": "x", "tags": ["a", "b"]}, "rows._dlt_id: $._dlt_id"),
        (MERGE, {"id": 1, "tags": [{"dlt_id": 1, "_dltId": "x"}]}, "rows__tags._dlt_id: $._dltId"),
        ({}, {"id": 1, "_dlt_load_id": "x"}, "rows._dlt_load_id: $._dlt_load_id"),
        (SCD2, {"id": 1, "_dlt_valid_to": None}, "rows._dlt_valid_to: $._dlt_valid_to"),
    ],
)
def test_field_for_a_column_that_dlt_fills_breaks_the_schema(
    tmp_path: Path, resource: dict[str, Any], row: dict[str, Any], field: str
) -> None:
    """By rows that share a `_dlt_id` merges lose what is nested in one, and dlt says nothing."""
    with serving(lambda *_: [row, row | {"id": 2}]) as api:
        failure = failure_of(plain(tmp_path, api, resource), SchemaError)
    assert failure.message.startswith(f"api_raw.{field} would go there")


def test_resource_with_a_name_of_dlts_is_refused(tmp_path: Path) -> None:
    with serving(lambda *_: [{"id": 1}]) as api:
        failure_of(plain(tmp_path, api, {"name": "_dlt_loads"}), ConfigError)


@pytest.mark.parametrize("kind", [None, "text"])
def test_integer_beyond_64_bits_keeps_every_digit(tmp_path: Path, kind: str | None) -> None:
    ids = [12345678901234567890123456789, 12345678901234567890123456788, -(2**64), 2**63]
    hints = {"columns": {"id": {"data_type": kind}}} if kind else {}
    with serving(lambda *_: [{"id": n} for n in ids]) as api:
        settings = plain(tmp_path, api, MERGE | hints)
        extract_once(settings)
    found = query(settings, "SELECT id FROM api_raw.rows")
    assert sorted(int(row[0]) for row in found) == sorted(ids)


@pytest.mark.parametrize(
    ("first", "later", "column", "stored"),
    [
        (True, 636, "v__v_bigint", 636),
        (True, 0.5, "v__v_double", 0.5),
        (1.5, 2**53 + 1, "v__v_bigint", 2**53 + 1),
        (True, 1, "v", True),
        (1.5, 2**53, "v", 2**53),
        (12345, "01234", "v__v_text", "01234"),
        (12345, "+49123", "v__v_text", "+49123"),
        (1.5, "1_0", "v__v_text", "1_0"),
        (1.5, "1e999", "v__v_text", "1e999"),
        # A text that is written as a number is one.
        (1, "-12", "v", -12),
        (1.5, " 1.10 ", "v", 1.1),
        (1.5, "-Infinity", "v", -inf),
    ],
)
def test_value_that_its_column_cannot_hold_goes_to_a_column_of_its_own(
    tmp_path: Path, first: object, later: object, column: str, stored: object
) -> None:
    with serving(lambda *_: [{"id": 1, "v": first}, {"id": 2, "v": later}]) as api:
        settings = plain(tmp_path, api)
        extract_once(settings)
    assert query(settings, f"SELECT {column} FROM api_raw.rows WHERE id = 2") == [(stored,)]


def test_date_is_the_day_that_the_api_says(tmp_path: Path) -> None:
    """dlt takes the day in UTC, and leaves the time out."""
    days = ["2026-01-02", "2026-01-02T00:00:00Z", "2026-01-02 00:00", "20260102", 1767312000]
    times = ["2026-01-02T00:00:00+02:00", "2026-01-02T23:30:00-05:00", "2026-01-02T00:00:01Z"]
    rows = [{"id": n, "v": value} for n, value in enumerate([*days, *times, 1767312001])]
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api, {"columns": {"v": {"data_type": "date"}}})
        extract_once(settings)
    found = query(settings, "SELECT v::TEXT FROM api_raw.rows ORDER BY id")
    assert found == [("2026-01-02",)] * len(days) + [(None,)] * 4
    kept = query(settings, "SELECT count(v__v_text), count(v__v_bigint) FROM api_raw.rows")
    assert kept == [(len(times), 1)]


@pytest.mark.parametrize("contract", ["freeze", "discard_row", {"tables": "freeze"}])
def test_contract_of_a_resource_lets_its_first_extraction_make_its_table(
    tmp_path: Path, contract: Any
) -> None:
    rows: list[dict[str, Any]] = [{"id": 1}]
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api, MERGE | {"schema_contract": contract})
        extract_once(settings)
        rows.append({"id": 2, "tags": [{"t": 1}]})
        if contract == "discard_row":
            extract_once(settings)
        else:
            [failure] = failures_of(settings)
            assert type(failure) is SchemaError
    assert count(settings, "api_raw.rows") == (2 if contract == "discard_row" else 1)
    assert count(settings, "api_raw.rows__tags") == 0


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"ключ": 1}, {"поле": 2}], "api_raw.rows.x: $.ключ and $.поле would both go there"),
        ([{"a": {"b+": 1}}, {"a": {"b*": 2}}], "api_raw.rows.a__bx: $.a['b*'] and $.a['b+']"),
        ([{"ключ": [1]}, {"поле": [2]}], "api_raw.rows__x: $.ключ[*] and $.поле[*]"),
        ([{"userName": 1}, {"user_name": 2}, {"User Name": 3}], ""),
        ([{"ключ": [{"value": 1}, {"v": [2]}]}, {"v": {"b": 1}, "v_b": None}], ""),
        ([{"ключ": [1]}, {"поле": {"a": 2}}, {"слово": 3}], ""),
    ],
)
def test_fields_of_different_rows_are_not_mixed_in_one_column(
    tmp_path: Path, rows: list[dict[str, Any]], told: str
) -> None:
    """To dlt's names all letters that are not Latin are the same."""
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api)
        if told:
            [failure] = failures_of(settings)
            assert type(failure) is SchemaError
            assert failure.message.startswith(told)
        else:
            extract_once(settings)
    assert count(settings, "api_raw.rows") == (0 if told else len(rows))


@pytest.mark.parametrize("is_first", [True, False])
def test_value_with_a_column_of_its_own_overwrites_no_field(tmp_path: Path, is_first: bool) -> None:
    row = {"v": "abc", "v__v_text": "own"}
    row = row if is_first else dict(reversed(row.items()))
    with serving(lambda *_: [{"v": 1}, row]) as api:
        failure = failure_of(plain(tmp_path, api), SchemaError)
    assert failure.message.startswith("api_raw.rows.v__v_text: the field v__v_text and v, of ")


@pytest.mark.parametrize("is_escaped", [True, False])
@pytest.mark.parametrize("text", ["\uf02b sale", "\uf02612", "\uf027 no time", "a \uf02babcd"])
def test_text_that_begins_with_a_mark_of_dlts_is_not_changed(
    tmp_path: Path, text: str, is_escaped: bool
) -> None:
    """Fonts of icons have these characters, and dlt makes bytes or numbers of what follows them."""
    rows = json.dumps([{"id": 1, "tags": [{"text": text}]}], ensure_ascii=is_escaped)
    with serving(lambda *_: rows.encode()) as api:
        settings = plain(tmp_path, api, MERGE)
        if text.startswith(("\uf02b", "\uf026")):
            [failure] = failures_of(settings)
            assert type(failure) is SchemaError
            assert f"U+{ord(text[0]):04X}, a mark of dlt's, at $.tags.text" in failure.message
        else:
            extract_once(settings)
            assert query(settings, "SELECT text FROM api_raw.rows__tags") == [(text,)]


def nested(depth: int, kind: str) -> bytes:
    before, after = {"objects": (b'{"a":', b"}"), "lists": (b"[", b"]")}[kind]
    return b'{"items": [{"id": 1, "v": ' + before * depth + b"1" + after * depth + b"}]}"


# orjson writes 254 levels, Python recurses about 1000 deep, orjson reads 1024 levels.
@pytest.mark.parametrize("kind", ["objects", "lists"])
@pytest.mark.parametrize("depth", [300, 600, 1100])
def test_row_that_is_nested_too_deep_is_the_fault_of_the_api(
    tmp_path: Path, depth: int, kind: str
) -> None:
    answers = [nested(depth, kind), b'{"items": [{"id": 1}]}']
    with serving(lambda *_: answers[0]) as api:
        settings = plain(tmp_path, api, SELECTED)
        failure = failure_of(settings, ExtractError)
        assert "api" in str(failure)
        assert pending(settings, "api") == []
        answers.pop(0)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 1


def test_value_that_json_has_not_is_the_fault_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "import dlt\n\n@dlt.resource\ndef rows():\n    yield {'id': 1, 'v': object()}\n"
    (tmp_path / "objects.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    failure = failure_of(settings_of(tmp_path, {"api": {"factory": "objects:rows"}}), ExtractError)
    assert "is not JSON serializable" in str(failure)


def test_tables_nested_too_deep_for_names_of_files_break_the_schema(tmp_path: Path) -> None:
    with serving(lambda *_: nested(60, "lists")) as api:
        settings = plain(tmp_path, api, SELECTED)
        failure = failure_of(settings, SchemaError)
        assert "rows__v__list" in str(failure)
        assert pending(settings, "api") == []
        extract_once(plain(tmp_path, api, SELECTED | {"max_table_nesting": 2}))
    assert count(settings, "api_raw.rows") == 1


# -- answers and pages -----------------------------------------------------------------------------

CURSOR = {"paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "cursor"}}
GUESSED = {"endpoint": {"path": "rows"}}
ITEMS = [{"id": n} for n in range(5)]
INCREMENTAL = {
    "endpoint": {
        "path": "rows",
        "data_selector": "items",
        "params": {"since": {"type": "incremental", "cursor_path": "at", "initial_value": 0}},
    }
}


@pytest.mark.parametrize("resource", [GUESSED, SELECTED], ids=["guessed", "selected"])
@pytest.mark.parametrize("second", [{"error": "x"}, None, {"items": None}, {"items": {"error": 1}}])
def test_later_page_without_its_list_is_refused(
    tmp_path: Path, resource: dict[str, Any], second: Any
) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return second if "cursor" in asked else {"items": ITEMS, "next": "b"}

    with serving(answer) as api:
        settings = plain(tmp_path, api, resource, client=CURSOR)
        failure = failure_of(settings, ExtractError)
    assert "page 2" in str(failure)
    assert count(settings, "api_raw.rows") == 0


def test_error_in_place_of_the_rows_of_the_last_run_is_refused(tmp_path: Path) -> None:
    answers: list[Any] = [{"items": ITEMS}, {"items": []}, {"error": "quota"}, {"items": ITEMS[:2]}]
    with serving(lambda *_: answers[0]) as api:
        replaced = GUESSED | {"write_disposition": "replace"}
        settings = plain(tmp_path, api, replaced, required=False)
        extract_once(settings)
        answers.pop(0)
        extract_once(settings)
        answers.pop(0)
        failure = failure_of(settings, ExtractError)
        assert "data_selector" in failure.hint
        answers.pop(0)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 2


@pytest.mark.parametrize("selector", ["$..items", "data[*].items", "data[*][*]"])
def test_selector_that_finds_lists_in_place_of_rows_is_refused(
    tmp_path: Path, selector: str
) -> None:
    """One list would be taken for rows; of two each would be a row without a column."""
    endpoint = {"path": "rows", "data_selector": selector}
    with serving(lambda *_: {"data": [{"items": ITEMS}, {"items": ITEMS}]}) as api:
        failure = failure_of(plain(tmp_path, api, {"endpoint": endpoint}), ExtractError)
        extract_once(
            plain(tmp_path, api, {"endpoint": endpoint | {"data_selector": "$..items[*]"}})
        )
    assert "`data_selector`" in failure.hint
    assert count(settings_of(tmp_path, {}), "api_raw.rows") == 2 * len(ITEMS)


@pytest.mark.parametrize(("status", "method"), [(301, ""), (302, ""), (303, "GET"), (307, "POST")])
def test_question_that_is_posted_loses_no_body_on_its_way(
    tmp_path: Path, status: int, method: str
) -> None:
    """requests makes it a GET without a body, and the API gives rows that nobody asked for."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "/search":
            return status, {}, {"Location": "/found"}
        return [{"query": asked.get("q", "")}]

    endpoint = {"path": "search", "method": "POST", "json": {"q": "tea"}}
    with serving(answer) as api:
        settings = plain(tmp_path, api, {"endpoint": endpoint}, client={"paginator": "single_page"})
        if method:
            extract_once(settings)
            expected = "tea" if method == "POST" else ""
            assert query(settings, "SELECT query FROM api_raw.rows") == [(expected,)]
        else:
            failure = failure_of(settings, ExtractError)
            assert "/found, where it would arrive without its body" in failure.message


@pytest.mark.parametrize("items", [{"error": 1}, "error", 5, False])
def test_what_is_no_row_in_place_of_the_last_runs_list_is_refused(
    tmp_path: Path, items: Any
) -> None:
    answers: list[Any] = [ITEMS, items]
    with serving(lambda *_: {"items": answers[0]}) as api:
        settings = plain(tmp_path, api, SELECTED | {"write_disposition": "replace"})
        extract_once(settings)
        answers.pop(0)
        failure_of(settings, ExtractError)
    assert count(settings, "api_raw.rows") == len(ITEMS)


def test_selector_of_a_lists_items_finds_none_on_an_empty_page(tmp_path: Path) -> None:
    pages: list[Any] = [ITEMS, [], [{"id": 9}]]

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(asked.get("cursor", 0))
        return {"items": pages[page], "next": str(page + 1) if page + 1 < len(pages) else ""}

    with serving(answer) as api:
        endpoint = {"path": "rows", "data_selector": "items[*]"}
        settings = plain(tmp_path, api, {"endpoint": endpoint}, client=CURSOR)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == len(ITEMS) + 1


@pytest.mark.parametrize("is_promised", [True, False])
def test_page_that_the_api_led_to_is_not_ignored(tmp_path: Path, is_promised: bool) -> None:
    """dlt would pass over it and all behind it; behind a page by number it may be the end."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if asked.get("cursor") or asked.get("page") == "2":
            return 404, {"error": "none"}, {}
        return {"items": ITEMS, "next": "b"}

    actions = [{"status_code": 404, "action": "ignore"}]
    endpoint = {"path": "rows", "data_selector": "items", "response_actions": actions}
    client = CURSOR if is_promised else {"paginator": NUMBER | {"total_path": None}}
    with serving(answer) as api:
        settings = plain(tmp_path, api, {"endpoint": endpoint}, client=client)
        if is_promised:
            failure = failure_of(settings, ExtractError)
            assert "rows, page 2: the API led to this page" in failure.message
        else:
            extract_once(settings)
            assert count(settings, "api_raw.rows") == len(ITEMS)


@pytest.mark.parametrize("answer", [{"error": "quota"}, {}])
def test_object_in_place_of_the_last_runs_list_is_refused(tmp_path: Path, answer: Any) -> None:
    answers: list[Any] = [ITEMS, answer]
    whole = {"endpoint": {"path": "rows", "data_selector": "$"}, "write_disposition": "replace"}
    with serving(lambda *_: answers[0]) as api:
        settings = plain(tmp_path, api, whole)
        extract_once(settings)
        answers.pop(0)
        failure = failure_of(settings, ExtractError)
    assert "page 1" in str(failure)
    assert count(settings, "api_raw.rows") == len(ITEMS)


def test_one_thing_may_have_lists_without_being_one(tmp_path: Path) -> None:
    things: dict[str, Any] = {"1": {"id": 1, "tags": [1, 2]}, "2": {"id": 2}}

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return things.get(path.rpartition("/")[2]) or [{"id": 1}, {"id": 2}]

    child = {"name": "things", "endpoint": {"path": "things/{resources.rows.id}"}}
    with serving(answer) as api:
        settings = plain(tmp_path, api)
        source = settings.sources["api"]
        both = source.model_copy(update={"resources": (*source.resources, child)})
        settings = settings.model_copy(update={"sources": {"api": both}})
        extract_once(settings)
    assert query(settings, "SELECT id FROM api_raw.things ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize(
    "paginator",
    [
        {"type": "offset", "limit": 5, "total_path": "total"},
        {"type": "page_number", "total_path": "pages"},
        {"type": "page_number", "total_path": None},
    ],
)
@pytest.mark.parametrize("is_stamped", [False, True])
def test_page_that_repeats_is_refused(
    tmp_path: Path, paginator: dict[str, Any], is_stamped: bool
) -> None:
    """As where the API does not know the parameter, or counts from 1 and is asked for 0."""
    asks = count_from(1)

    def answer(*_: Any) -> dict[str, Any]:
        told = {"took_ms": next(asks)} if is_stamped else {}
        return {"items": ITEMS, "total": 20, "pages": 4} | told

    with serving(answer) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        failure = failure_of(settings, ExtractError)
    assert "page 2: the page is the same as the one before" in str(failure)


def numbered(rows: int, asked: dict[str, str], size: int = 3) -> dict[str, Any]:
    """A page of numbered rows by `offset` or `page`, never more than `size`, and their totals."""
    first = int(asked["offset"]) if "offset" in asked else (int(asked["page"]) - 1) * size
    items = [{"id": n} for n in range(rows)][first : first + size]
    return {"items": items, "total": rows, "pages": -(-rows // size)}


OFFSET = {"type": "offset", "limit": 3, "total_path": "total"}
NUMBER = {"type": "page_number", "base_page": 1, "total_path": "pages"}


@pytest.mark.parametrize(
    ("paginator", "rows", "change", "said"),
    [
        (OFFSET | {"limit": 5}, 12, {}, "brought 8 rows, and `total` says 12"),
        (OFFSET | {"limit": 5, "total_path": None}, 15, {}, "every page brought 3 rows"),
        (OFFSET, 9, {"total": 4}, "brought 6 rows, and `total` says 4"),
        (OFFSET, 9, {"total": 12}, "brought 9 rows, and `total` says 12"),
        (OFFSET, 9, {3: []}, "page 2: the pages brought 3 rows, and `total` says 9"),
        (NUMBER, 12, {3: []}, "page 2: the page is empty, and `pages` says 4"),
        (NUMBER, 12, {"pages": True}, "brought 3 rows, and `pages` says no number"),
        (NUMBER, 12, {"pages": 0}, "brought 3 rows, and `pages` says 0"),
        (NUMBER, 12, {"pages": -1}, "brought 3 rows, and `pages` says -1"),
    ],
)
def test_other_rows_than_the_api_says_are_refused(
    tmp_path: Path, paginator: dict[str, Any], rows: int, change: dict[Any, Any], said: str
) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = numbered(rows, asked) | {k: v for k, v in change.items() if isinstance(k, str)}
        empty = (asked.get("offset", "") == "3" or asked.get("page") == "2") and 3 in change
        return page | {"items": []} if empty else page

    with serving(answer) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        failure = failure_of(settings, ExtractError)
    assert said in str(failure)
    assert "total_path: null" in failure.hint
    assert count(settings, "api_raw.rows") == 0


@pytest.mark.parametrize(
    ("paginator", "is_last_empty"),
    [
        ({"type": "cursor", "cursor_path": "items[-1].key", "cursor_param": "after"}, False),
        (NUMBER | {"total_path": None}, True),
    ],
)
def test_end_of_pages_that_say_there_is_more_is_refused(
    tmp_path: Path, paginator: dict[str, Any], is_last_empty: bool
) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        is_empty = is_last_empty and asked["page"] == "2"
        return {"items": [] if is_empty else ITEMS, "more": True}

    with serving(answer) as api:
        client = {"paginator": paginator | {"has_more_path": "more"}}
        failure = failure_of(plain(tmp_path, api, SELECTED, client=client), ExtractError)
    assert "there is more" in str(failure)


@pytest.mark.parametrize(
    "paginator",
    [
        OFFSET,
        OFFSET | {"total_path": None},
        OFFSET | {"offset": 1},
        OFFSET | {"limit": 50, "total_path": None},
        OFFSET | {"maximum_offset": 6},
        NUMBER,
        NUMBER | {"total_path": "total"},
        NUMBER | {"total_path": None},
    ],
)
@pytest.mark.parametrize("rows", [7, 9])
def test_as_many_rows_as_the_api_says_pass(
    tmp_path: Path, paginator: dict[str, Any], rows: int
) -> None:
    size = 50 if paginator.get("limit") == 50 else 3
    limited = min(rows, 6) if "maximum_offset" in paginator else rows
    with serving(lambda path, asked, headers: numbered(rows, asked, size)) as api:
        settings = plain(tmp_path, api, SELECTED, required=False, client={"paginator": paginator})
        extract_once(settings)
    assert count(settings, "api_raw.rows") == limited - paginator.get("offset", 0)


def test_pages_that_may_lack_rows_are_held_against_no_total(tmp_path: Path) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = numbered(9, asked)
        return page | {"items": page["items"][1:]}

    with serving(answer) as api:
        client = {"paginator": OFFSET | {"stop_after_empty_page": False}}
        extract_once(settings := plain(tmp_path, api, SELECTED, client=client))
    assert count(settings, "api_raw.rows") == 6


@pytest.mark.parametrize(
    ("paginator", "more"),
    [
        ({"type": "offset", "limit": 2, "total_path": "total"}, {"total": "abc"}),
        ({"type": "offset", "limit": 2, "total_path": "total"}, {}),
        ({"type": "page_number", "total_path": "pages"}, {"pages": None}),
        ({"type": "json_link", "next_url_path": "next"}, {"next": 5}),
        ({"type": "json_link", "next_url_path": "next"}, {"next": {"href": "x"}}),
        ({"type": "json_link", "next_url_path": "next"}, {"next": "ftp://x/y"}),
    ],
)
def test_pagination_that_is_unreadable_is_the_fault_of_the_api(
    tmp_path: Path, paginator: dict[str, Any], more: dict[str, Any]
) -> None:
    with serving(lambda *_: {"items": ITEMS} | more) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        failure = failure_of(settings, ExtractError)
    assert "'id'" not in str(failure)
    assert ("total_path: null" in failure.hint) == (paginator["type"] != "json_link")


@pytest.mark.parametrize("rows", [[{"id": 1, "at": None}], [{"id": 1}]])
def test_row_without_the_incremental_cursor_is_the_fault_of_the_api(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    with serving(lambda *_: {"items": rows}) as api:
        failure_of(plain(tmp_path, api, INCREMENTAL), ExtractError)


NEWER = [
    ("9", "10"),
    ("-1", "10"),
    ("9.5", "10.25"),
    # An hour that comes twice, in October.
    ("2026-10-25T02:59:00+02:00", "2026-10-25T02:01:00+01:00"),
    ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"),
    ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z"),
    ("2026-01-01 00:00:00Z", "2026-01-01 00:00:00.5+00:00"),
    ("Thu, 01 Jan 2026 00:00:00 GMT", "Fri, 02 Jan 2026 00:00:00 GMT"),
    ("a9", "b1"),
    ("2026-01-01", "2026-01-02"),
]


@pytest.mark.parametrize("place", ["endpoint", "params"])
def test_cursor_that_is_text_is_compared_by_what_it_says(tmp_path: Path, place: str) -> None:
    """dlt compares texts, by which 10 comes before 9 and is passed over."""
    whole = {"incremental": {"cursor_path": "at"}}
    param = {"params": {"since": {"type": "incremental", "cursor_path": "at"}}}
    endpoint = whole if place == "endpoint" else param
    resources = [
        {"name": f"r{n}", "endpoint": {"path": str(n)} | endpoint} for n in range(len(NEWER))
    ]
    rounds: list[int] = []

    def answer(path: str, *_: Any) -> Any:
        before, after = NEWER[int(path[1:])]
        rows = [{"id": 1, "at": before}, {"id": 2, "at": after}, {"id": 3, "at": before}]
        return rows[: len(rounds)]

    with serving(answer) as api:
        source = {"client": {"base_url": api.url}, "resources": resources}
        settings = settings_of(tmp_path, {"api": source})
        for number in range(3):
            rounds.append(number)
            extract_once(settings)
        last = {path: asked.get("since") for path, asked, _ in api.asked}
    for n, (_, after) in enumerate(NEWER):
        found = query(settings, f"SELECT id FROM api_raw.r{n} ORDER BY id")
        assert found == [(1,), (2,)], after
        assert last[f"/{n}"] == (after if place == "params" else None)


def test_cursor_of_one_resource_asks_for_no_other(tmp_path: Path) -> None:
    """dlt puts its value into the parameters that resources share by `resource_defaults`."""
    cursor = {"cursor_path": "at", "initial_value": "2", "start_param": "since"}
    resources = [
        {"name": "news", "endpoint": {"path": "news", "incremental": cursor}},
        {"name": "all", "endpoint": {"path": "all"}},
        "short",
    ]
    defaults = MERGE | {"endpoint": {"params": {"limit": 9}, "paginator": "single_page"}}
    with serving(lambda *_: [{"id": 1, "at": "3"}]) as api:
        source = {"client": {"base_url": api.url}, "resource_defaults": defaults}
        settings = settings_of(tmp_path, {"api": source | {"resources": resources}})
        for _ in range(2):
            extract_once(settings)
        asked = {(path, *sorted(params.items())) for path, params, _ in api.asked}
    limit = ("limit", "9")
    since = {("/news", limit, ("since", value)) for value in ("2", "3")}
    assert asked == {("/all", limit), ("/short", limit)} | since


def test_two_cursors_of_one_resource_are_refused(tmp_path: Path) -> None:
    """dlt would take that of the parameter, and pass over what the other says without a word."""
    endpoint = INCREMENTAL["endpoint"] | {"incremental": {"cursor_path": "changed"}}
    with serving(lambda *_: {"items": []}) as api:
        failure = failure_of(plain(tmp_path, api, {"endpoint": endpoint}), ConfigError)
    assert "the parameter since" in failure.message


@pytest.mark.parametrize(
    ("order", "page", "is_right"),
    [
        ("desc", [3, 1], True),
        ("desc", [3, 3, "2"], True),
        ("desc", [1, 3], False),
        ("asc", [1, 3], True),
        ("asc", [3, 1], False),
    ],
)
def test_rows_that_are_not_in_the_order_that_settings_say_are_refused(
    tmp_path: Path, order: str, page: list[Any], is_right: bool
) -> None:
    """dlt reads no page after the first row that is out of the cursor's range."""
    pages = [[{"id": 1, "at": str(at)} for at in page], [{"id": 2, "at": str(page[-1])}]]

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return {"items": pages[1 if asked else 0], "next": "" if asked else "b"}

    cursor = {"cursor_path": "at", "initial_value": "2", "row_order": order}
    ended = {"end_value": "3"} if order == "asc" else {}
    endpoint = {"path": "rows", "data_selector": "items", "incremental": cursor | ended}
    with serving(answer) as api:
        resource = MERGE | {"endpoint": endpoint}
        settings = plain(tmp_path, api, resource, client=CURSOR, required=False)
        if is_right:
            extract_once(settings)
        else:
            failure = failure_of(settings, ExtractError)
            assert "`row_order` says" in failure.message


CURSOR_AT = {"endpoint": {"path": "rows", "incremental": {"cursor_path": "at"}}}


def strategy(name: str) -> dict[str, Any]:
    return {"write_disposition": {"disposition": "merge", "strategy": name}}


def again(**said: Any) -> dict[str, Any]:
    cursor = {"cursor_path": "at", "initial_value": 0}
    return {"endpoint": {"path": "rows", "incremental": cursor | said}}


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        (CURSOR_AT | SCD2, "rows says `scd2`, and is read for its new rows only"),
        (CURSOR_AT | strategy("cdc") | {"primary_key": "id"}, "rows says `cdc`"),
        (CURSOR_AT | MERGE | {"merge_key": "day"}, "rows says `merge_key` day"),
        (CURSOR_AT | {"write_disposition": "merge", "merge_key": ["at", "day"]}, "at, day"),
        (
            again(primary_key="id") | {"write_disposition": "merge", "merge_key": "at"},
            "rows says `merge_key` at",
        ),
        ({"write_disposition": "merge"}, "has no key"),
        ({"write_disposition": "skip"}, "dlt loads no row"),
        (strategy("upsert"), "has no key"),
        (again(lag=1), "`lag` reads rows again"),
        (again(end_value=9), "`end_value` reads rows again"),
        (again(on_cursor_value_missing="include"), "`on_cursor_value_missing: include` reads"),
    ],
)
def test_rows_that_would_go_or_double_by_what_a_run_reads_are_refused(
    tmp_path: Path, resource: dict[str, Any], said: str
) -> None:
    """dlt retires, deletes or doubles them, and says nothing."""
    with serving(lambda *_: [{"id": 1, "at": 1, "day": 1}]) as api:
        failure = failure_of(plain(tmp_path, api, resource), ConfigError)
        assert api.asked == []
    assert said in failure.message


def test_rows_that_a_factorys_own_cursor_reads_again_are_its_affair(tmp_path: Path) -> None:
    with serving(lambda *_: [{"id": 1, "at": 1}]) as api:
        resource = {"name": "rows"} | again(lag=1)
        arguments = {"config": {"client": {"base_url": api.url}, "resources": [resource]}}
        factory = {"factory": "dlt.sources.rest_api:rest_api_source", "arguments": arguments}
        extract_once(settings := settings_of(tmp_path, {"api": factory}))
    assert count(settings, "api_raw.rows") == 1


@pytest.mark.parametrize("way", [SCD2, strategy("cdc") | {"primary_key": "id"}])
def test_rows_of_all_parents_do_not_go_by_those_of_new_ones(
    tmp_path: Path, way: dict[str, Any]
) -> None:
    lines = {"name": "lines", "endpoint": {"path": f"orders/{ORDER}/lines"}} | way
    orders = CURSOR_AT | {"name": "orders"}
    failure = failure_of(reading(tmp_path, "http://127.0.0.1:9/", orders, lines), ConfigError)
    assert "lines says" in failure.message
    assert "new rows of orders" in failure.message


@pytest.mark.parametrize("lag", [{}, {"lag": 1}])
def test_rows_that_share_the_cursors_value_stay_where_they_replace_each_other(
    tmp_path: Path, lag: dict[str, Any]
) -> None:
    """dlt leaves out those that it has read before, and deletes what stands of their day."""
    rows = [{"day": "2026-01-01", "n": 1}, {"day": "2026-01-02", "n": 2}]
    endpoint = {"path": "rows", "incremental": {"cursor_path": "day"} | lag}
    by_day = {"write_disposition": "merge", "merge_key": "day", "endpoint": endpoint}
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api, by_day)
        extract_once(settings)
        rows += [{"day": "2026-01-02", "n": 3}, {"day": "2026-01-03", "n": 4}]
        extract_once(settings)
    assert query(settings, "SELECT n FROM api_raw.rows ORDER BY 1") == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("ways", [("append", "replace"), ("replace", "append")])
def test_two_dispositions_of_one_table_are_refused(tmp_path: Path, ways: tuple[str, str]) -> None:
    """dlt would take that of the first, and double or drop the rows of the other."""
    resources = [
        {"name": f"r{n}", "table_name": "rows", "write_disposition": way}
        for n, way in enumerate(ways)
    ]
    failure = failure_of(reading(tmp_path, "http://127.0.0.1:9/", *resources), ConfigError)
    assert "`append`" in failure.message
    assert "`replace`" in failure.message


@pytest.mark.parametrize("step", ["yield_map", "map"])
def test_rows_that_steps_of_a_parent_give_are_asked_for(tmp_path: Path, step: str) -> None:
    (tmp_path / "steps_of_parents.py").write_text(
        "def yield_map(row):\n    yield row\n    yield {'id': 2}\n\ndef map(row):\n    return 'x'\n"
    )
    steps = [{step: f"steps_of_parents:{step}"}]
    lines = {"name": "lines", "endpoint": {"path": f"orders/{ORDER}/lines"}}
    with serving(lambda path, *_: [{"id": 1}] if path == "/orders" else [{"of": path}]) as api:
        client = {"base_url": api.url, "paginator": "single_page"}
        resources = [{"name": "orders", "processing_steps": steps}, lines]
        settings = settings_of(tmp_path, {"api": {"client": client, "resources": resources}})
        settings = settings.model_copy(update={"project": tmp_path})
        if step == "yield_map":
            extract_once(settings)
            rows = query(settings, "SELECT of FROM api_raw.lines ORDER BY of")
            assert rows == [("/orders/1/lines",), ("/orders/2/lines",)]
        else:
            [failure] = failures_of(settings)
            assert type(failure) is ExtractError
            assert "no rows (str)" in failure.message


def test_lag_behind_what_is_no_time_is_told(tmp_path: Path) -> None:
    endpoint = {"path": "rows", "incremental": {"cursor_path": "at", "lag": 3600}}
    with serving(lambda *_: [{"id": 1, "at": "Thu, 01 Jan 2026 00:00:00 GMT"}]) as api:
        settings = plain(tmp_path, api, MERGE | {"endpoint": endpoint})
        extract_once(settings)
        failure = failure_of(settings, ExtractError)
    assert "`lag`" in failure.hint


@pytest.mark.parametrize(
    "link",
    [
        '<{}>; rel="next"',
        '<{}>; rel="next last"',
        "<{}>; REL=Next",
        '<{}&filter=a;b>; rel="next"',
        '<{}>; title="a, b; c=d"; rel="next"',
        '<other>; rel="self", <{}>;rel="next" , <{}x>; rel="last"',
        '<{}>; rel="next", <other>; rel="next"',
    ],
)
@pytest.mark.parametrize("named", [{"paginator": "header_link"}, {}])
def test_next_page_is_found_however_its_link_is_written(
    tmp_path: Path, link: str, named: dict[str, Any]
) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "/rows" and asked:
            return [{"id": 2}]
        return 200, [{"id": 1}], {"Link": link.replace("{}", "/rows?page=2")}

    with serving(answer) as api:
        settings = plain(tmp_path, api, client=named)
        extract_once(settings)
    assert query(settings, "SELECT id FROM api_raw.rows ORDER BY 1") == [(1,), (2,)]


def test_single_page_that_nobody_named_is_told(tmp_path: Path) -> None:
    """An API's own way to page, in a source that names no paginator: the rest is passed over."""
    answer = {"items": [{"id": 1}], "offset": 0, "total": 1, "done": True}
    with serving(lambda *_: answer) as api:
        [told] = extract_once(plain(tmp_path / "guessed", api, MERGE)).run.warnings
        assert told.startswith("api: one page of rows was read")
        named = plain(tmp_path / "named", api, MERGE, client={"paginator": "single_page"})
        assert extract_once(named).run.warnings == []


def test_rows_that_are_added_again_in_each_run_are_told(tmp_path: Path) -> None:
    """dlt appends, if nothing else is said: after two runs all rows stand twice."""
    with serving(lambda *_: {"items": [{"id": 1}]}) as api:
        client = {"paginator": "single_page"}
        [told] = extract_once(plain(tmp_path / "unsaid", api, client=client)).run.warnings
        assert told.startswith("api: rows: no `write_disposition` is named")
        said: dict[str, Any] = {"write_disposition": "append"}
        stamped: dict[str, Any] = {"stamp": {"day": "snapshot_date"}}
        for name, resource, more in (("said", said, {}), ("stamped", {}, stamped)):
            settings = plain(tmp_path / name, api, resource, client=client, **more)
            assert extract_once(settings).run.warnings == []


ORDER = "{resources.orders.id}"


Asking = tuple[list[Any], list[tuple[str, dict[str, str]]]]


def ask_for_lines(folder: Path, order: object, endpoint: dict[str, Any]) -> Asking:
    """Extract one order and its lines: the failures, and how the lines were asked for."""
    failures: list[Any] = []
    orders = [{"id": order} if order is not ... else {"n": 1}]
    with serving(lambda path, *_: orders if path == "/orders" else [{"n": 1}]) as api:
        client = {"base_url": api.url, "paginator": "single_page"}
        lines = {"name": "lines", "endpoint": endpoint}
        try:
            extract_once(
                settings_of(folder, {"api": {"client": client, "resources": ["orders", lines]}})
            )
        except StageError as e:
            failures = list(e.failures)
        return failures, [(path, query) for path, query, _ in api.asked if path != "/orders"]


@pytest.mark.parametrize(
    ("order", "path"),
    [
        ("a?b=1", "/orders/a%3Fb=1/lines"),
        ("a#b", "/orders/a%23b/lines"),
        ("group/project", "/orders/group/project/lines"),
        ("a b", "/orders/a%20b/lines"),
        (7, "/orders/7/lines"),
    ],
)
def test_value_of_a_parent_stays_whole_in_a_path(tmp_path: Path, order: object, path: str) -> None:
    asking = ask_for_lines(tmp_path, order, {"path": f"orders/{ORDER}/lines"})
    assert asking == ([], [(path, {})])


def test_path_that_a_parent_gives_is_taken_as_it_is(tmp_path: Path) -> None:
    asking = ask_for_lines(tmp_path, "orders/7/lines?all=1", {"path": ORDER})
    assert asking == ([], [("/orders/7/lines", {"all": "1"})])


@pytest.mark.parametrize(
    ("order", "endpoint"),
    [
        (None, {"path": f"orders/{ORDER}/lines"}),
        (..., {"path": f"orders/{ORDER}/lines"}),
        ("", {"path": f"orders/{ORDER}/lines"}),
        ("..", {"path": f"orders/{ORDER}/lines"}),
        (None, {"path": "lines", "params": {"order": ORDER}}),
        (None, {"path": "lines", "headers": {"X-Order": ORDER}}),
    ],
)
def test_nothing_is_asked_for_a_parent_without_a_value(
    tmp_path: Path, order: object, endpoint: dict[str, Any]
) -> None:
    """An API that knows no `order=None` may answer with the lines of all orders."""
    [failure], asked = ask_for_lines(tmp_path, order, endpoint)
    assert asked == []
    assert type(failure) is ExtractError
    assert failure.message.startswith("api.lines: a row of orders has ")


def test_field_that_a_parents_row_lacks_is_named(tmp_path: Path) -> None:
    endpoint = {"path": f"orders/{ORDER}/lines"}
    lines = {"name": "lines", "include_from_parent": ["day"], "endpoint": endpoint}
    with serving(lambda *_: [{"id": 1}]) as api:
        source = {"client": {"base_url": api.url}, "resources": ["orders", lines]}
        [failure] = failures_of(settings_of(tmp_path, {"api": source}))
    assert type(failure) is ExtractError
    assert failure.message.startswith("api.lines: a row of orders has no field `day`")


@pytest.mark.parametrize("where", ["path", "params", "headers"])
def test_nothing_is_asked_by_true_as_python_writes_it(tmp_path: Path, where: str) -> None:
    asked = {
        "path": {"path": f"lines/{ORDER}/all"},
        "params": {"path": "lines", "params": {"paid": ORDER, "all": False}},
        "headers": {"path": "lines", "headers": {"X-Paid": ORDER}},
    }[where]
    with serving(lambda path, *_: [{"id": True}] if path == "/orders" else [{"n": 1}]) as api:
        lines = {"name": "lines", "endpoint": asked}
        extract_once(reading(tmp_path, api.url, "orders", lines))
    path, params, headers = api.asked[-1]
    assert (path, params, headers.get("x-paid")) == {
        "path": ("/lines/true/all", {}, None),
        "params": ("/lines", {"paid": "true", "all": "false"}, None),
        "headers": ("/lines", {}, "true"),
    }[where]


@pytest.mark.parametrize("value", ["start_value", "last_value", "end_value"])
@pytest.mark.parametrize("where", ["path", "params", "headers"])
def test_nothing_is_asked_by_a_cursor_without_a_value(
    tmp_path: Path, value: str, where: str
) -> None:
    mark = f"{{incremental.{value}}}"
    asked = {"path": f"rows/{mark}/all"} if where == "path" else {where: {"since": mark}}
    begun = {"initial_value": 0} if value == "end_value" else {}
    endpoint = {"path": "rows", "incremental": {"cursor_path": "at"} | begun} | asked
    with serving(lambda *_: []) as api:
        failure = failure_of(plain(tmp_path, api, {"endpoint": endpoint}), ConfigError)
        assert api.asked == []
    assert "would be the text None" in failure.message


@pytest.mark.parametrize(
    ("line", "said"), [({"_orders_name": "its own"}, "`_orders_name` of their own"), (5, "objects")]
)
def test_field_of_a_row_is_not_overwritten_by_its_parents(
    tmp_path: Path, line: Any, said: str
) -> None:
    orders = [{"id": 1, "name": "a"}]
    with serving(lambda path, *_: orders if path == "/orders" else [line]) as api:
        endpoint = {"path": f"orders/{ORDER}/lines"}
        lines = {"name": "lines", "include_from_parent": ["name"], "endpoint": endpoint}
        failure = failure_of(reading(tmp_path, api.url, "orders", lines), ExtractError)
    assert said in failure.message


@pytest.mark.parametrize(
    "paginator",
    [
        CURSOR["paginator"],
        {"type": "json_link", "next_url_path": "link"},
        {"type": "offset", "limit": 5, "total_path": "total"},
    ],
)
@pytest.mark.parametrize("is_more", [True, False])
def test_list_at_a_path_to_one_thing_that_has_more_pages_is_refused(
    tmp_path: Path, paginator: dict[str, Any], is_more: bool
) -> None:
    """dlt reads one page where a path ends with a placeholder, whatever the client says."""
    more = {"next": "b", "link": "?page=2", "total": 9}
    end = {"next": "", "link": "", "total": 5}

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return {"items": ITEMS} | (more if path != "/orders" and is_more else end)

    orders = {"name": "orders", "endpoint": {"path": "orders", "data_selector": "items"}}
    found = {"name": "found", "endpoint": {"path": f"search/{ORDER}", "data_selector": "items"}}
    with serving(answer) as api:
        settings = reading(tmp_path, api.url, orders, found, client={"paginator": paginator})
        if is_more:
            failure = failure_of(settings, ExtractError)
            assert "there are more pages" in str(failure)
            assert "`paginator`" in failure.hint
        else:
            extract_once(settings)
            assert count(settings, "api_raw.found") == len(ITEMS) ** 2


@pytest.mark.parametrize("start", [{}, {"start_param": "since"}])
@pytest.mark.parametrize("more", [{}, MERGE], ids=["append", "merge"])
def test_rows_of_each_parent_are_read_from_where_the_last_run_ended(
    tmp_path: Path, start: dict[str, Any], more: dict[str, Any]
) -> None:
    """Each parent is on a page of its own, and its rows are older than those of the one before."""
    pages, lines = 8, [{"id": n, "order": n, "at": 100 - n} for n in range(8)]

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(asked.get("cursor", 0))
        if path == "/orders":
            return {"items": [{"id": page}], "next": str(page + 1) if page + 1 < pages else ""}
        since = int(asked.get("since", 0))
        of_order = [row for row in lines if path == f"/orders/{row['order']}/lines"]
        return {"items": [row for row in of_order if row["at"] >= since]}

    cursor = {"cursor_path": "at", "initial_value": 0} | start
    endpoint = {"path": f"orders/{ORDER}/lines", "data_selector": "items", "incremental": cursor}
    orders = {"name": "orders", "endpoint": {"path": "orders", "data_selector": "items"}}
    with serving(answer) as api:
        of_orders = {"name": "lines", "endpoint": endpoint} | more
        settings = reading(tmp_path, api.url, orders, of_orders, client=CURSOR)
        for first, at in ((8, 200), (16, 300)):
            extract_once(settings)
            assert count(settings, "api_raw.lines") == len(lines)
            lines += [{"id": first + n, "order": n, "at": at - n} for n in range(8)]
        extract_once(settings)
        found = query(settings, "SELECT id FROM api_raw.lines ORDER BY 1")
    assert found == [(row["id"],) for row in lines]


FAMILY = """
import dlt

ORDERS = []


@dlt.source(name="api")
def read():
    @dlt.resource
    def orders():
        yield from ([order] for order in ORDERS)

    @dlt.transformer(data_from=orders)
    def lines(page, at=dlt.sources.incremental("at", initial_value=0)):
        yield [{"id": n, "at": n, "since": at.last_value} for order in page for n in order["lines"]]

    return [orders, CALLED]
"""


@pytest.mark.parametrize("called", ["lines", "lines(at=dlt.sources.incremental(initial_value=-1))"])
def test_rows_of_each_parent_of_a_factory_are_read_from_where_the_last_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    name = "family_bound" if called == "lines" else "family_called"
    (tmp_path / f"{name}.py").write_text(FAMILY.replace("CALLED", called), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    orders = import_module(name).ORDERS
    orders[:] = [{"lines": [n]} for n in (9, 5, 7)]
    settings = settings_of(tmp_path, {"api": {"factory": f"{name}:read"}})
    extract_once(settings)
    orders[:] = [{"lines": [8, n]} for n in (19, 15, 17)]
    extract_once(settings)
    found = query(settings, "SELECT id, since FROM api_raw.lines ORDER BY 1")
    begun = 0 if called == "lines" else -1
    assert found == [*((n, begun) for n in (5, 7, 9)), *((n, 9) for n in (15, 17, 19))]


CHANGED = {"id": 2, "v": "new"}


@pytest.mark.parametrize(
    ("child", "again", "asked", "rows", "told"),
    [
        ({"write_disposition": "append"}, {"id": 2, "v": "old"}, 3, 3, "came more than once"),
        ({"write_disposition": "replace"}, {"id": 2, "v": "old"}, 3, 3, "came more than once"),
        (MERGE, {"id": 2, "v": "old"}, 3, 3, "came more than once"),
        ({"write_disposition": "append"}, CHANGED, 4, 4, "is in raw once more"),
        ({"write_disposition": "append", "include_from_parent": ["v"]}, CHANGED, 4, 4, ""),
        (MERGE | {"include_from_parent": ["v"]}, CHANGED, 3, 3, ""),
        (MERGE | {"include_from_parent": ["v"], "primary_key": ["id", "_p_v"]}, CHANGED, 4, 4, ""),
    ],
    ids=["append", "replace", "merge", "changed", "told apart", "merge changed", "in the key"],
)
def test_row_of_a_parent_that_comes_twice_is_asked_for_as_it_is_now(
    tmp_path: Path, child: dict[str, Any], again: dict[str, Any], asked: int, rows: int, told: str
) -> None:
    """Pages overlap where rows come and go while they are read."""
    pages = [[{"id": 1, "v": "old"}, {"id": 2, "v": "old"}], [again, {"id": 3, "v": "old"}]]
    last = Event()

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if path != "/p":
            # The rows of the second page are asked for before the second row of the first one.
            if path == "/p/3/rows":
                last.set()
            assert path != "/p/1/rows" or last.wait(5)
            return [{"id": f"of {path}"}]
        return {"items": pages[len(asked)], "next": "" if asked else "b"}

    resources = [
        {"name": "p", "endpoint": {"path": "p", "data_selector": "items"}} | MERGE,
        {"name": "rows", "endpoint": {"path": "p/{resources.p.id}/rows"}} | child,
    ]
    resources[1]["endpoint"] |= {"data_selector": "$", "paginator": "single_page"}
    with serving(answer) as api:
        client = {"base_url": api.url} | CURSOR
        settings = settings_of(tmp_path, {"api": {"client": client, "resources": resources}})
        ctx = extract_once(settings)
        assert len([path for path, *_ in api.asked if path != "/p"]) == asked
    assert count(settings, "api_raw.rows") == rows
    assert any("1 rows of p" in w and told in w for w in ctx.run.warnings) == bool(told)
    if rows == 3 and "include_from_parent" in child:
        newest = query(settings, "SELECT _p_v FROM api_raw.rows WHERE id = 'of /p/2/rows'")
        assert newest == [("new",)]


@pytest.mark.parametrize("field", ["lines[*].n", "tags", "place", "tags[*]"])
@pytest.mark.parametrize("where", ["path", "params"])
def test_nothing_is_asked_for_a_parent_with_more_than_one_value(
    tmp_path: Path, field: str, where: str
) -> None:
    """dlt takes the first of several, and lists and objects as Python writes them."""
    order = {"id": 1, "lines": [{"n": 1}, {"n": 2}], "tags": ["a", "b"], "place": {"x": 1}}
    mark = f"{{resources.orders.{field}}}"
    asked = {"path": f"lines/{mark}/all"} if where == "path" else {"params": {"n": mark}}
    lines = {"name": "lines", "endpoint": {"path": "lines"} | asked}
    with serving(lambda *_: [order]) as api:
        failure_of(reading(tmp_path, api.url, "orders", lines), ExtractError)
        assert [path for path, *_ in api.asked] == ["/orders"]


@pytest.mark.parametrize(
    ("endpoint", "value", "asked"),
    [
        ({"path": "tags/{tag}/rows"}, "C#", ("/tags/C%23/rows", {})),
        ("tags/{tag}", "a?b=1", ("/tags/a%3Fb=1", {})),
        ({"path": "tags/{tag}/rows"}, "a/b", ("/tags/a/b/rows", {})),
        ({"path": "{tag}"}, "rows?all=1", ("/rows", {"all": "1"})),
        ({"path": "rows", "params": {"path": "{tag}"}}, "C#?", ("/rows", {"path": "C#?"})),
        ({"path": "tags/{tag}/rows"}, "..", None),
        ({"path": "tags/{tag}/rows"}, "", None),
    ],
)
def test_value_of_for_each_stays_whole_in_a_path(
    tmp_path: Path, endpoint: Any, value: str, asked: Any
) -> None:
    with serving(lambda *_: [{"id": 1}]) as api:
        client = {"paginator": "single_page"}
        for_each = {"tag": [value]}
        settings = plain(tmp_path, api, {"endpoint": endpoint}, client=client, for_each=for_each)
        if asked is None:
            failure = failure_of(settings, ConfigError)
            assert "leads elsewhere" in str(failure)
        else:
            extract_once(settings)
        assert [(path, query) for path, query, _ in api.asked] == ([asked] if asked else [])


@pytest.mark.parametrize("day", ["31.12.2025", "31/12/2025 10:00", "1-1-2026"])
def test_cursor_that_has_no_order_is_refused(tmp_path: Path, day: str) -> None:
    endpoint = {"path": "rows", "incremental": {"cursor_path": "at"}}
    with serving(lambda *_: [{"id": 1, "at": day}]) as api:
        failure = failure_of(plain(tmp_path, api, {"endpoint": endpoint}), ExtractError)
    assert failure.message.startswith(f"api.rows: an incremental cursor is {day}")


def test_body_that_is_not_encoded_as_it_says_is_the_fault_of_the_api(tmp_path: Path) -> None:
    with serving(lambda *_: (200, b"[]", {"Content-Encoding": "gzip"})) as api:
        failure_of(plain(tmp_path, api), ExtractError)


@pytest.mark.parametrize(
    "paginator",
    [
        {"type": "json_link", "next_url_path": "@odata.nextLink"},
        {"type": "cursor", "cursor_path": "next_cursor", "cursor_param": "after"},
        "header_link",
    ],
)
@pytest.mark.parametrize(
    ("around", "key"),
    [
        ({"@odata.nextLink": "http://x/?page=2"}, "@odata.nextLink"),
        ({"meta": {"pagination": 1, "nextPageToken": "x"}}, "meta.nextPageToken"),
        ({"_links": {"next": {"href": "/rows?page=2"}}}, "_links.next"),
        ({"pageInfo": {"hasNextPage": True}}, "pageInfo.hasNextPage"),
    ],
)
def test_next_page_that_no_paginator_sees_ends_the_run(
    tmp_path: Path, paginator: Any, around: dict[str, Any], key: str
) -> None:
    with serving(lambda *_: {"data": {"items": [{"id": 1}]} | around}) as api:
        endpoint = {"path": "rows", "data_selector": "data.items"}
        failure = failure_of(
            plain(tmp_path, api, {"endpoint": endpoint}, client={"paginator": paginator}),
            ExtractError,
        )
        assert f"`{key}` says that there are more" in failure.message
        one = plain(tmp_path, api, {"endpoint": endpoint}, client={"paginator": "single_page"})
        extract_once(one)
    assert count(one, "api_raw.rows") == 1


def test_link_header_that_no_paginator_sees_ends_the_run(tmp_path: Path) -> None:
    with serving(lambda *_: (200, [{"id": 1}], {"Link": '</rows?page=2>; rel="next"'})) as api:
        [failure] = failures_of(plain(tmp_path, api, client=CURSOR))
    assert type(failure) is ExtractError
    assert "`Link` says that there are more" in failure.message


def test_next_page_of_a_source_without_a_paginator_is_not_passed_over(tmp_path: Path) -> None:
    """What dlt does not recognise is one page to it."""
    with serving(lambda *_: {"items": [{"id": 1}], "hasNextPage": True}) as api:
        failure = failure_of(plain(tmp_path, api), ExtractError)
    assert "`hasNextPage` says that there are more" in failure.message


@pytest.mark.parametrize(
    ("around", "header", "key"),
    [
        ({"total": 2}, {}, "total"),
        ({"meta": {"total_count": "2"}}, {}, "meta.total_count"),
        ({"pagination": {"pageCount": 2}}, {}, "pagination.pageCount"),
        ({"isLast": False}, {}, "isLast"),
        ({"truncated": True}, {}, "truncated"),
        ({}, {"X-Total-Count": "2"}, "X-Total-Count"),
        ({}, {"X-WP-Total": "2"}, "X-WP-Total"),
        ({}, {"Content-Range": "items 0-0/2"}, "Content-Range.total"),
        ({}, {"X-Next-Page": "2"}, "X-Next-Page"),
    ],
)
def test_rows_that_no_paginator_gets_are_not_passed_over(
    tmp_path: Path, around: dict[str, Any], header: dict[str, str], key: str
) -> None:
    """A total says it too, where nobody named a paginator: what dlt guessed is one page."""
    with serving(lambda *_: (200, {"items": [{"id": 1}]} | around, header)) as api:
        [failure] = failures_of(plain(tmp_path, api, SELECTED))
        assert type(failure) is ExtractError
        assert f"`{key}` says that there are more" in failure.message
        one = plain(tmp_path, api, SELECTED, client={"paginator": "single_page"})
        extract_once(one)
    assert count(one, "api_raw.rows") == 1


@pytest.mark.parametrize("resource", [{}, SELECTED], ids=["guessed", "selected"])
@pytest.mark.parametrize(
    "failed",
    [
        {"ok": False, "error": "ratelimited"},
        {"ok": False, "items": []},
        {"success": False, "message": "no", "items": []},
        {"status": "error", "items": []},
        {"error": {"code": 5}, "items": []},
        {"errors": [{"message": "no"}]},
    ],
)
def test_failure_that_an_api_tells_with_200_empties_no_table(
    tmp_path: Path, failed: dict[str, Any], resource: dict[str, Any]
) -> None:
    answers = {"/rows": failed, "/others": [{"id": 1}]}
    with serving(lambda path, *_: answers[path]) as api:
        others = {"name": "others", "write_disposition": "replace"}
        rows = {"name": "rows", "write_disposition": "replace"} | resource
        client = {"base_url": api.url, "paginator": "single_page"}
        settings = settings_of(tmp_path, {"api": {"client": client, "resources": [rows, others]}})
        [failure] = failures_of(settings)
        assert type(failure) is ExtractError
        answers["/rows"] = {"ok": True, "success": True, "error": None, "items": [{"id": 1}]}
        extract_once(settings)
        answers["/rows"] = failed
        assert failures_of(settings)
    assert count(settings, "api_raw.rows") == 1


@pytest.mark.parametrize("selector", ["errors", "$"])
def test_rows_that_tell_of_errors_are_rows(tmp_path: Path, selector: str) -> None:
    row = {"id": 1, "error": "no", "ok": False}
    with serving(lambda *_: row if selector == "$" else {"errors": [row]}) as api:
        tracked = {"path": "rows", "data_selector": selector}
        extract_once(settings := plain(tmp_path, api, {"endpoint": tracked}))
    assert query(settings, "SELECT id, error, ok FROM api_raw.rows") == [(1, "no", False)]


@pytest.mark.parametrize(
    ("status", "rows", "told"),
    [
        (404, [], ""),
        (204, [], ""),
        (200, {"note": "nothing"}, ""),
        (200, [{"note": "nothing"}], "ignored 1 answers with the status 200 that hold rows"),
        (401, {}, "ignored 1 answers with the status 401:"),
        (500, {}, "ignored 1 answers with the status 500:"),
    ],
)
def test_answers_that_are_ignored_with_what_they_hold_are_told(
    tmp_path: Path, status: int, rows: Any, told: str
) -> None:
    said = {"content": "nothing"} if status == 200 else {"status_code": status}
    endpoint = {"path": "rows", "response_actions": [said | {"action": "ignore"}]}
    with serving(lambda *_: (status, rows, {})) as api:
        settings = plain(tmp_path, api, MERGE | {"endpoint": endpoint}, required=False)
        warnings = extract_once(settings).run.warnings
    assert [told in line for line in warnings] == ([True] if told else [])


@pytest.mark.parametrize(("sizes", "is_right"), [((3, 3, 0), True), ((3, 1, 0), False)])
def test_page_that_is_missing_behind_the_last_rows_is_refused(
    tmp_path: Path, sizes: tuple[int, ...], is_right: bool
) -> None:
    """Pages that are counted from 0, read from 1: behind the last one is none."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(asked["page"])
        rows = [{"id": 10 * page + n} for n in range(sizes[page - 1])]
        return {"items": rows, "pages": 3}

    paginator = {"type": "page_number", "base_page": 1, "total_path": "pages"}
    with serving(answer) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        if is_right:
            extract_once(settings)
        else:
            [failure] = failures_of(settings)
            assert "the page is empty, and `pages` says 3" in failure.message
    assert count(settings, "api_raw.rows") == (6 if is_right else 0)


@pytest.mark.parametrize(
    "told",
    [
        lambda page: {"first": page == 0},
        lambda page: {"meta": {"has_prev": page > 0}},
        lambda page: {"links": {"previous": f"?page={page - 1}" if page else None}},
    ],
)
@pytest.mark.parametrize("base", [0, 1])
def test_page_before_the_first_is_not_passed_over(tmp_path: Path, told: Any, base: int) -> None:
    """An API counts from 0, and the settings from 1."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(asked["page"])
        return {"items": [{"id": page}] if page < 3 else []} | told(page)

    paginator = {"type": "page_number", "base_page": base, "total_path": None}
    with serving(answer) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        if base:
            [failure] = failures_of(settings)
            assert type(failure) is ExtractError
            assert "a page before the first" in failure.message
        else:
            extract_once(settings)
    assert count(settings, "api_raw.rows") == (0 if base else 3)


@pytest.mark.parametrize("base", [0, 1])
def test_page_numbers_that_dlt_guesses_are_taken_where_the_api_counts_from_zero(
    tmp_path: Path, base: int
) -> None:
    """The first page comes without a number; at others page 1 is the same again."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(asked.get("page", base))
        return {"items": [{"id": page}], "page": {"number": page, "totalPages": 3}}

    with serving(answer) as api:
        settings = plain(tmp_path, api, MERGE | SELECTED)
        if base:
            [failure] = failures_of(settings)
            assert type(failure) is ExtractError
            assert "base_page: 1" in failure.hint
        else:
            extract_once(settings)
            assert count(settings, "api_raw.rows") == 3


@pytest.mark.parametrize(
    ("around", "client"),
    [
        ({"next": None, "has_more": False, "links": {"next": ""}}, CURSOR),
        ({"next_update": "2026-01-03", "filters": {"next": "x"}, "meta": {"next_run": 5}}, CURSOR),
        ({"total": 1, "meta": {"page_count": "1"}, "is_last": True}, {}),
        ({"total": None, "count": "many", "meta": {"total": []}}, {}),
    ],
)
def test_what_tells_of_no_next_page_is_no_sign_of_one(
    tmp_path: Path, around: dict[str, Any], client: dict[str, Any]
) -> None:
    with serving(lambda *_: {"items": [{"id": 1, "next": "a"}]} | around) as api:
        extract_once(plain(tmp_path, api, SELECTED, client=client))


GRAPHQL = {
    "endpoint": {
        "path": "graphql",
        "method": "POST",
        "json": {"query": "{{items{{id}}}}", "variables": {"after": None}},
        "data_selector": "data.items.nodes",
    }
}


@pytest.mark.parametrize("is_graphql", [True, False])
def test_answer_to_a_query_with_errors_beside_its_rows_is_not_whole(
    tmp_path: Path, is_graphql: bool
) -> None:
    answer = {"data": {"items": {"nodes": [{"id": 1}]}}, "errors": [{"message": "s3cret"}]}
    with serving(lambda *_: answer) as api:
        endpoint = GRAPHQL["endpoint"] | ({} if is_graphql else {"json": {"find": "items"}})
        settings = plain(tmp_path, api, {"endpoint": endpoint}, client={"paginator": "single_page"})
        if not is_graphql:
            extract_once(settings)
            return
        failure = failure_of(settings, ExtractError)
        assert api.asked[0][1]["query"] == "{items{id}}"
    assert "beside its rows the answer names errors: 1" in failure.message
    assert "s3cret" not in str(failure)


def test_brace_that_is_no_placeholder_is_told_to_be_written_twice(tmp_path: Path) -> None:
    with serving(lambda *_: {}) as api:
        endpoint = GRAPHQL["endpoint"] | {"json": {"query": "{items{id}}"}}
        failure = failure_of(plain(tmp_path, api, {"endpoint": endpoint}), ConfigError)
    assert "written twice" in failure.hint


@pytest.mark.parametrize("name", ["end_of_stream", "meta.isLast", "done"])
def test_has_more_that_is_true_at_the_end_is_refused(tmp_path: Path, name: str) -> None:
    """dlt would end after the first page, which says false there."""
    with serving(lambda *_: {}) as api:
        client = {"paginator": CURSOR["paginator"] | {"has_more_path": name}}
        failure = failure_of(plain(tmp_path, api, SELECTED, client=client), ConfigError)
        assert api.asked == []
    assert "leave it out" in failure.message


@pytest.mark.parametrize("empty", [{}, {"items": None}])
def test_empty_list_may_be_left_out_where_the_settings_say_so(
    tmp_path: Path, empty: dict[str, Any]
) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return empty | {"next": ""} if "cursor" in asked else {"items": [{"id": 1}], "next": "b"}

    with serving(answer) as api:
        [failure] = failures_of(plain(tmp_path, api, SELECTED, client=CURSOR))
        assert "`guards.omits_empty: true`" in failure.hint
        omits: dict[str, Any] = {"client": CURSOR, "guards": {"omits_empty": True}}
        settings = plain(tmp_path, api, SELECTED, **omits)
        extract_once(settings)
        assert count(settings, "api_raw.rows") == 1
        api.answer = lambda *_: {"error": {"code": 7}}
        [failure] = failures_of(settings)
        assert "`error` says that the API failed" in failure.message


def test_last_cursor_that_is_given_for_ever_ends_at_an_empty_page(tmp_path: Path) -> None:
    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return {"items": [] if "cursor" in asked else [{"id": 1}], "next": "b"}

    with serving(answer) as api:
        [failure] = failures_of(plain(tmp_path, api, SELECTED, client=CURSOR))
        assert "`stop_after_empty_page: true`" in failure.hint
        client = {"paginator": CURSOR["paginator"] | {"stop_after_empty_page": True}}
        settings = plain(tmp_path, api, SELECTED, client=client)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 1


# -- what dlt finds elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REFRESH", "drop_sources"),
        ("PIPELINES__API__DEV_MODE", "true"),
        ("FULL_REFRESH", "true"),
        ("RESTORE_FROM_DESTINATION", "false"),
        ("DATASET_NAME_LAYOUT", "x_%s"),
    ],
)
def test_dlts_own_configuration_does_not_drop_or_move_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with serving(lambda *_: [{"id": 1}]) as api:
        settings = plain(tmp_path, api)
        extract_once(settings)
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            failure = failure_of(settings, ConfigError)
        assert variable.rpartition("__")[2] in failure.hint
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 2


@pytest.mark.parametrize("place", ["client", "endpoint"])
def test_dlts_own_configuration_gives_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """They would be those of another project's API."""
    monkeypatch.setenv("SOURCES__CREDENTIALS__TOKEN", "another")
    auth = {"auth": {"type": "bearer"}}
    endpoint = {"path": "rows"} | (auth if place == "endpoint" else {})
    with serving(lambda *_: [{"id": 1}]) as api:
        client = auth if place == "client" else {}
        failure = failure_of(
            plain(tmp_path, api, {"endpoint": endpoint}, client=client), ConfigError
        )
        assert api.asked == []
    assert "auth.token is missing" in failure.message


def test_name_without_a_password_is_sent(tmp_path: Path) -> None:
    auth = {"type": "http_basic", "username": "key", "password": ""}
    with serving(lambda *_: [{"id": 1}]) as api:
        extract_once(plain(tmp_path, api, client={"auth": auth}))
    assert api.asked[0][2]["authorization"] == "Basic a2V5Og=="


# -- links to another host -------------------------------------------------------------------------

LINKED = {"paginator": {"type": "json_link", "next_url_path": "next"}}
BEARER = {"auth": {"type": "bearer", "token": "s3cret"}}
CREDENTIALS = [
    BEARER,
    {"auth": {"type": "api_key", "name": "key", "api_key": "s3cret", "location": "query"}},
    {"auth": {"type": "api_key", "name": "X-Key", "api_key": "s3cret", "location": "header"}},
    {"headers": {"X-Api-Key": "s3cret"}},
]


def leading_to(there: Api) -> Callable[..., Any]:
    """An API whose second page and whose rows' own addresses are of another."""

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        link = f"{there.url}rows?page=2"
        if path == "/linked":
            return 200, [{"id": 1}], {"Link": f'<{link}>; rel="next"'}
        return {"items": [{"id": 1, "url": f"{there.url}things/1"}], "next": link}

    return answer


def last_page(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
    return [{"id": 2}] if path.startswith("/things") else {"items": [{"id": 2}], "next": None}


@pytest.mark.parametrize("credentials", CREDENTIALS, ids=["bearer", "query", "header", "headers"])
@pytest.mark.parametrize("kind", ["body", "header"])
def test_credentials_follow_no_link_to_another_host(
    tmp_path: Path, credentials: dict[str, Any], kind: str
) -> None:
    with serving(last_page) as there, serving(leading_to(there)) as api:
        resource = SELECTED if kind == "body" else {"endpoint": {"path": "linked"}}
        client = (LINKED if kind == "body" else {"paginator": "header_link"}) | credentials
        settings = plain(tmp_path, api, resource, client=client)
        failure = failure_of(settings, ExtractError)
    assert failure.subject == "api.rows"
    assert there.url.rstrip("/") in str(failure)
    assert api.url.rstrip("/") in str(failure)
    assert "api.rows, page 2" in str(failure)
    assert there.asked == []
    assert count(settings, "api_raw.rows") == 0


@pytest.mark.parametrize(
    ("client", "sent"), [({"headers": {"Authorization": "Bearer t0ken"}}, "Bearer t0ken"), ({}, "")]
)
def test_credentials_of_the_users_home_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: dict[str, Any], sent: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("default login somebody password else\n")
    with serving(lambda *_: [{"id": 1}]) as api:
        extract_once(plain(tmp_path, api, client=client))
    assert [headers.get("authorization", "") for _, _, headers in api.asked] == [sent]


def test_link_to_another_host_is_followed_without_credentials(tmp_path: Path) -> None:
    with serving(last_page) as there, serving(leading_to(there)) as api:
        settings = plain(tmp_path, api, SELECTED, client=LINKED)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 2


@pytest.mark.parametrize("is_named", [True, False])
def test_host_that_the_settings_name_gets_the_credentials(tmp_path: Path, is_named: bool) -> None:
    """An address in a row is the API's, one that is written in the settings the user's."""
    with serving(last_page) as there, serving(leading_to(there)) as api:
        path = f"{there.url}things/{{resources.rows.id}}" if is_named else "{resources.rows.url}"
        resources = {"name": "rows"} | SELECTED, {"name": "things", "endpoint": {"path": path}}
        settings = reading(tmp_path, api.url, *resources, client=BEARER)
        if is_named:
            extract_once(settings)
            assert [h["authorization"] for _, _, h in there.asked] == ["Bearer s3cret"]
        else:
            failure_of(settings, ExtractError)
            assert there.asked == []


# -- a warehouse and a working directory of different days -----------------------------------------


class News:
    """An API that gives what is new since a number, to a table that only grows."""

    def __init__(self, folder: Path) -> None:
        self.rows = 0
        self.folder = folder

    def answer(self, path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        since = int(asked["since"])
        return {"items": [{"id": n, "at": n} for n in range(1, self.rows + 1) if n >= since]}

    def extract(self, settings: Settings, rows: int, **options: Any) -> None:
        self.rows = rows
        extract_once(settings, context(settings, **options))

    def ids(self, settings: Settings) -> list[int]:
        return [r[0] for r in query(settings, "SELECT id FROM api_raw.rows ORDER BY 1")]


@pytest.fixture
def news(tmp_path: Path) -> Iterator[tuple[News, Settings]]:
    source = News(tmp_path)
    with serving(source.answer) as api:
        keyed = INCREMENTAL | {"write_disposition": "append", "primary_key": "id"}
        yield source, plain(tmp_path, api, keyed)


def test_deleted_warehouse_gets_all_rows_again(news: tuple[News, Settings]) -> None:
    source, settings = news
    source.extract(settings, 3)
    settings.warehouse.unlink()
    source.extract(settings, 4)
    assert source.ids(settings) == [1, 2, 3, 4]


def test_restored_warehouse_gets_what_it_lacks(
    news: tuple[News, Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, settings = news
    source.extract(settings, 3)
    shutil.copy(settings.warehouse, tmp_path / "backup")
    source.extract(settings, 4)
    # A run that is killed after its package was accepted: its rows are not in the warehouse.
    with monkeypatch.context() as patch:
        patch.setattr(Raw, "commit", lambda self: 1 / 0)
        with pytest.raises(StageError, match="ZeroDivisionError"):
            source.extract(settings, 5)
    shutil.copy(tmp_path / "backup", settings.warehouse)
    source.extract(settings, 6)
    assert source.ids(settings) == [1, 2, 3, 4, 5, 6]
    source.extract(settings, 7)
    assert source.ids(settings) == [1, 2, 3, 4, 5, 6, 7]
    assert pending(settings, "api") == []


def test_restored_working_directory_brings_no_row_twice(
    news: tuple[News, Settings], tmp_path: Path
) -> None:
    source, settings = news
    source.extract(settings, 3)
    shutil.copytree(settings.dlt_dir, tmp_path / "backup")
    source.extract(settings, 4)
    shutil.rmtree(settings.dlt_dir)
    shutil.copytree(tmp_path / "backup", settings.dlt_dir)
    source.extract(settings, 5)
    assert source.ids(settings) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "lost", ["", "api", "api/schemas", "api/state.json", "api/load", "api/load/loaded",
             "api/load/new", "api/load/normalized", "api/normalize", "api/normalize/extracted"]
)  # fmt: skip
def test_working_directory_that_was_lost_or_brought_back_in_part_is_gone_on_from(
    news: tuple[News, Settings], lost: str
) -> None:
    source, settings = news
    source.extract(settings, 3)
    path = settings.dlt_dir / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    source.extract(settings, 3)
    source.extract(settings, 4)
    assert source.ids(settings) == [1, 2, 3, 4]


@pytest.mark.parametrize("file", ["state.json", "schemas/api.schema.json"])
def test_working_directory_that_lost_the_power_says_how_it_is_mended(
    news: tuple[News, Settings], file: str
) -> None:
    source, settings = news
    source.extract(settings, 3)
    folder = settings.dlt_dir / "api"
    (folder / file).write_bytes(b"")  # a name was on the disk before what stands under it
    [failure] = failures_of(settings)
    assert failure.code is ExitCode.CONFIG
    assert f"remove {folder}" in failure.hint
    shutil.rmtree(folder)
    source.extract(settings, 4)
    assert source.ids(settings) == [1, 2, 3, 4]


def test_status_tells_a_look_without_news_from_the_newest_rows(
    news: tuple[News, Settings],
) -> None:
    source, settings = news
    commits, reads = [], []
    for rows in (3, 3, 4):
        source.extract(settings, rows)
        commit, read = last_commit(settings, "api"), last_read(settings, "api")
        assert commit is not None
        assert read is not None
        commits.append(commit)
        reads.append(read)
    assert commits[0] == commits[1] < commits[2]
    assert reads[0] < reads[1] < reads[2]


def test_nothing_in_place_of_all_rows_is_refused(news: tuple[News, Settings]) -> None:
    source, settings = news
    source.extract(settings, 3)
    source.rows = 0
    failure_of(settings, DataQualityError, context(settings, full_refresh=True))
    assert source.ids(settings) == [1, 2, 3]
    source.extract(settings, 4)
    assert source.ids(settings) == [1, 2, 3, 4]


# -- rows that move while their pages are read -----------------------------------------------------


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, "new"),
        ({"columns": {"id": {"data_type": "bigint"}, "rank": {"dedup_sort": "asc"}}}, "old"),
    ],
    ids=["by the cursor", "as told"],
)
def test_newest_version_of_a_row_stays(tmp_path: Path, more: dict[str, Any], kept: str) -> None:
    rows = 300

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        at = 5 if asked.get("cursor") == "b" else 1
        items = [
            {"id": n, "at": at, "rank": at, "text": "new" if at == 5 else "old"}
            for n in range(rows)
        ]
        return {"items": items, "next": "" if at == 5 else "b"}

    with serving(answer) as api:
        settings = plain(tmp_path, api, INCREMENTAL | MERGE | more, client=CURSOR)
        extract_once(settings)
    found = query(settings, "SELECT text, count(*) FROM api_raw.rows GROUP BY 1")
    assert found == [(kept, rows)]


MAIL = "Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:30:00 -0100"


@pytest.mark.parametrize("cursor", ["at", "details.changedAt"])
@pytest.mark.parametrize(("before", "after"), [(1, 5), ("9", "10"), ("9.5", "10.25"), MAIL])
def test_newest_version_of_a_row_stays_whichever_page_brings_it(
    tmp_path: Path, before: Any, after: Any, cursor: str
) -> None:
    """Its cursor is compared by what it says; dlt would compare texts, and heed no nested one."""

    def row(number: int, at: Any) -> dict[str, Any]:
        place = {"at": at} if cursor == "at" else {"details": {"changedAt": at}}
        return {"id": number, "v": "new" if at == after else "old", "tags": [str(at)]} | place

    pages = [[row(1, before), row(2, after)], [row(1, after), row(2, before)]]

    def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return {"items": pages[1 if asked else 0], "next": "" if asked else "b"}

    endpoint = {"path": "rows", "data_selector": "items", "incremental": {"cursor_path": cursor}}
    with serving(answer) as api:
        settings = plain(tmp_path, api, MERGE | {"endpoint": endpoint}, client=CURSOR)
        extract_once(settings)
    assert query(settings, "SELECT v, count(*) FROM api_raw.rows GROUP BY 1") == [("new", 2)]
    assert query(settings, "SELECT value FROM api_raw.rows__tags") == [(str(after),)] * 2


@pytest.mark.parametrize("more", [{}, {"incremental": {"cursor_path": "day"}}])
def test_version_that_was_read_last_stays_where_no_cursor_decides(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    """The other one would be passed over for good: the cursor of both is that of the last run."""
    rows = [{"id": n, "day": "2026-01-01", "v": v} for v in ("a", "b", "c") for n in range(300)]
    with serving(lambda *_: rows) as api:
        settings = plain(tmp_path, api, MERGE | {"endpoint": {"path": "rows"} | more})
        extract_once(settings)
    assert query(settings, "SELECT v, count(*) FROM api_raw.rows GROUP BY 1") == [("c", 300)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, ["api: 2 rows of rows came with 1 keys"]),
        ({"write_disposition": "replace"}, ["api: 2 rows of rows came with 1 keys"]),
        ({"write_disposition": "append"}, []),
        ({"columns": {"at": {"dedup_sort": "desc"}}}, []),
        (CURSOR_AT, []),
    ],
)
def test_rows_of_a_table_that_share_their_key_are_told(
    tmp_path: Path, more: dict[str, Any], told: list[str]
) -> None:
    """As where an id is one within its parent only."""
    with serving(lambda *_: [{"id": 1, "at": 1}, {"id": 1, "at": 2}]) as api:
        client = {"paginator": "single_page"}
        warnings = extract_once(plain(tmp_path, api, MERGE | more, client=client)).run.warnings
    assert [line.partition(",")[0] for line in warnings] == told


def by(cursor: str, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"path": "rows", "incremental": {"cursor_path": cursor}}} | more


def test_rows_are_not_appended_again_by_another_cursor(tmp_path: Path) -> None:
    with serving(lambda *_: [{"id": 1, "at": 1, "changed": 5}]) as api:
        extract_once(plain(tmp_path, api, by("at")))
        settings = plain(tmp_path, api, by("changed"))
        failure = failure_of(settings, ConfigError)
        assert "the cursor of rows is changed" in failure.message
        extract_once(settings, context(settings, full_refresh=True))
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 1


def test_newest_version_is_found_by_the_cursor_that_settings_name_now(tmp_path: Path) -> None:
    """dlt would heed the one before as well, and refuse two."""
    sorted_by_rank = by("at", columns={"rank": {"dedup_sort": "desc"}})
    rows = [
        {"id": 1, "at": 1, "changed": 9, "rank": 5},
        {"id": 1, "at": 2, "changed": 8, "rank": 4},
    ]
    found = []
    with serving(lambda *_: rows) as api:
        for resource in (by("at"), by("changed"), by("at"), sorted_by_rank):
            settings = plain(tmp_path, api, MERGE | resource)
            extract_once(settings)
            found += query(settings, "SELECT rank FROM api_raw.rows")
            rows = [{name: value + 10 * (name != "id") for name, value in r.items()} for r in rows]
    assert found == [(4,), (15,), (24,), (35,)]


@pytest.mark.parametrize("name", ["upsert", "insert-only"])
@pytest.mark.parametrize(
    "newer", [{"id": 1, "v": "b"}, {"id": 1, "gone": True}], ids=["changed", "deleted"]
)
def test_key_that_comes_twice_is_not_upserted_twice(
    tmp_path: Path, newer: dict[str, Any], name: str
) -> None:
    """Both would be inserted, or the older one alone."""
    answers = [[{"id": 1, "v": "a"}, newer], [{"id": 2, "v": "c"}]]
    columns = {"columns": {"gone": {"data_type": "bool", "hard_delete": True}}}
    with serving(lambda *_: answers[0]) as api:
        settings = plain(tmp_path, api, MERGE | strategy(name) | columns)
        failure = failure_of(settings, DataQualityError)
        assert "2 rows with 1 keys" in str(failure)
        answers.pop(0)
        extract_once(settings)
    assert query(settings, "SELECT id, v FROM api_raw.rows") == [(2, "c")]


def test_changed_row_is_read_though_its_cursor_value_stays(tmp_path: Path) -> None:
    """What did not change is not read again: rows keep the package that brought them."""
    rows = [{"id": 1, "at": 5, "v": "a"}, {"id": 2, "at": 5, "v": "b"}]
    brought = "SELECT id, v, _dlt_load_id FROM api_raw.rows ORDER BY id"
    with serving(lambda *_: {"items": rows, "next": ""}) as api:
        settings = plain(tmp_path, api, INCREMENTAL | MERGE, client=CURSOR)
        extract_once(settings)
        first = query(settings, brought)
        rows[0] = {"id": 1, "at": 5, "v": "changed"}
        extract_once(settings)
        second = query(settings, brought)
        extract_once(settings)
    assert [row[:2] for row in second] == [(1, "changed"), (2, "b")]
    assert second[1] == first[1]
    assert query(settings, brought) == second
