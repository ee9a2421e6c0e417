"""APIs that answer 200 with what nobody expects: nothing is lost, changed or poisoned silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.errors import ExtractError, SchemaError
from etl.settings import Settings
from tests.integration.extracting import (
    Api,
    count,
    extract_once,
    failures_of,
    pending,
    query,
    serving,
    settings_of,
)

MERGE = {"write_disposition": "merge", "primary_key": "id"}


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
        ({}, [{"id": 2**64 - 1}]),
        ({}, [{"": 1, " ": 2}]),
    ],
    ids=["null key", "row without key", "upsert without key", "beyond 64 bits", "blank names"],
)
def test_row_that_cannot_be_normalised_breaks_the_schema_and_poisons_nothing(
    tmp_path: Path, resource: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    answer = {"rows": rows}
    with serving(lambda *_: answer["rows"]) as api:
        settings = plain(tmp_path, api, resource)
        [failure] = failures_of(settings)
        assert type(failure) is SchemaError
        assert "api" in str(failure)
        assert pending(settings, "api") == []
        assert len(list((settings.data / "quarantine" / "api").iterdir())) == 1
        answer["rows"] = [{"id": 1}]
        extract_once(settings)
        assert count(settings, "api_raw.rows") == 1


# -- answers and pages -----------------------------------------------------------------------------

CURSOR = {"paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "cursor"}}
GUESSED = {"endpoint": {"path": "rows"}}
SELECTED = {"endpoint": {"path": "rows", "data_selector": "items"}}
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
        [failure] = failures_of(settings)
    assert type(failure) is ExtractError
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
        [failure] = failures_of(settings)
        assert type(failure) is ExtractError
        assert "data_selector" in failure.hint
        answers.pop(0)
        extract_once(settings)
    assert count(settings, "api_raw.rows") == 2


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


def test_page_that_repeats_is_refused(tmp_path: Path) -> None:
    paginator = {"type": "offset", "limit": 5, "total_path": "total"}
    with serving(lambda *_: {"items": ITEMS, "total": 20}) as api:
        settings = plain(tmp_path, api, SELECTED, client={"paginator": paginator})
        [failure] = failures_of(settings)
    assert type(failure) is ExtractError
    assert "page 2: the page is the same as the one before" in str(failure)


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
        [failure] = failures_of(settings)
    assert type(failure) is ExtractError
    assert "'id'" not in str(failure)


@pytest.mark.parametrize("rows", [[{"id": 1, "at": None}], [{"id": 1}]])
def test_row_without_the_incremental_cursor_is_the_fault_of_the_api(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    with serving(lambda *_: {"items": rows}) as api:
        [failure] = failures_of(plain(tmp_path, api, INCREMENTAL))
    assert type(failure) is ExtractError


def test_body_that_is_not_encoded_as_it_says_is_the_fault_of_the_api(tmp_path: Path) -> None:
    with serving(lambda *_: (200, b"[]", {"Content-Encoding": "gzip"})) as api:
        [failure] = failures_of(plain(tmp_path, api))
    assert type(failure) is ExtractError
