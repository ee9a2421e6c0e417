"""What `etl init` reads out of one answer of an API, over many shapes; it never raises."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.libraries import prepare_libraries
from etl.settings import Source
from etl.start.answer import Answer
from etl.start.guess import guess_resources, name_of, source_name
from etl.start.keys import guess_cursors, guess_key
from etl.start.proposal import as_yaml, flow, make_proposal, summarize

prepare_libraries()
URL = "https://api.example.com/v1/orders"
ROWS = [{"id": n, "total": 5, "updated_at": f"2026-01-0{n}T00:00:00Z"} for n in (1, 2, 3)]


def guess(body: Any, url: str = URL, **more: Any) -> Any:
    (resource,) = guess_resources(Answer(url, body, **more))
    return resource


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "selector"),
    [
        (ROWS, "$"),
        ({"data": ROWS}, "data"),
        ({"orders": ROWS, "links": {}}, "orders"),
        ({"errors": [], "tags": ["a", "b", "c", "d"], "orders": ROWS}, "orders"),
        ({"included": [{"id": n} for n in range(9)], "data": ROWS}, "data"),
        ({"response": {"result": {"items": ROWS}}}, "response.result.items"),
        ({"_embedded": {"orders": ROWS}, "_links": {"self": {"href": URL}}}, "_embedded.orders"),
        ({"@odata.context": "x", "value": ROWS}, "value"),
        ({"the orders": ROWS}, "'the orders'"),
        ({"where": {"parent": ROWS}}, "'where'.'parent'"),
        ({"orders": []}, "orders"),
    ],
)
def test_the_list_of_rows_is_found_wherever_it_stands(body: Any, selector: str) -> None:
    from dlt.common import jsonpath

    found = guess(body)
    assert found.selector == selector
    # dlt reads the path as it is meant.
    (rows,) = jsonpath.find_values(jsonpath.compile_path(selector), body)
    assert rows in (ROWS, [])


@pytest.mark.parametrize(
    "body",
    [{"id": 7, "name": "tea", "tags": ["a", "b"]}, {"id": 7, "name": "x", "lines": ROWS}, {}, 5,
     None, "text", {"name": "tea"}],
)  # fmt: skip
def test_one_thing_is_one_page_without_a_selector(body: Any) -> None:
    found = guess(body)
    assert found.selector is None
    assert found.paging.settings == "single_page"
    # One row has a distinct id whatever it is.
    assert found.key is None or not found.key.sure


@pytest.mark.parametrize(
    ("url", "key", "name"),
    [
        ("https://x.org/v1/orders", "data", "orders"),
        ("https://x.org/orders.json", "orders", "orders"),
        ("https://x.org/api/orderLines/", "items", "order_lines"),
        ("https://x.org/xrpc/app.bsky.graph.getFollowers", "followers", "followers"),
        ("https://x.org/getOrders", "data", "orders"),
        ("https://x.org/api", "people", "people"),
        ("https://shop.x.org/", "data", "shop"),
        ("https://x.org/%F0%9F%8D%B5", "", "x"),
    ],
)
def test_a_resource_is_named_by_its_path_or_by_its_list(url: str, key: str, name: str) -> None:
    assert name_of(url, key) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.example.com/v1", "example"),
        ("https://public.api.bsky.app/xrpc/", "bsky"),
        ("https://www.shop.co.uk/", "shop"),
        ("http://127.0.0.1:8080/", "api"),
        ("http://[::1]/", "api"),
        ("http://localhost/x", "api"),
        ("https://api.4chan.org/", "api_4chan"),
    ],
)
def test_a_source_is_named_by_its_host(url: str, name: str) -> None:
    assert source_name(url) == name


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "sure"),
    [
        (ROWS, ("id",), True),
        ([{"uuid": "a"}, {"uuid": "b"}], ("uuid",), True),
        ([{"orderId": 1}, {"orderId": 2}], ("orderId",), True),
        ([{"order_id": 1}], ("order_id",), False),
        ([{"id": 1, "code": "x"}, {"id": 1, "code": "y"}], ("code",), True),
        # Another thing's id may be distinct by chance.
        ([{"customer_id": 1}, {"customer_id": 2}], ("customer_id",), False),
    ],
)
def test_a_key_is_an_id_that_no_two_rows_share(
    rows: list[dict[str, Any]], columns: tuple[str, ...], sure: bool
) -> None:
    key = guess_key(rows, "orders")
    assert key is not None
    assert (key.columns, key.sure) == (columns, sure)
    assert f"{len(rows)} of {len(rows)} rows" in key.evidence


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"id": 1}, {"id": 1}],
        [{"id": 1}, {"id": None}],
        [{"id": 1}, {"id": "1"}],
        [{"id": 1}, {}],
        [{"id": True}, {"id": False}],
        [{"id": {"a": 1}}, {"id": {"a": 2}}],
        [{"total": 1}, {"total": 2}],
    ],
)
def test_what_repeats_is_null_or_sounds_like_no_id_is_no_key(rows: list[dict[str, Any]]) -> None:
    assert guess_key(rows, "orders") is None


def test_without_an_id_a_pair_of_columns_may_be_the_key() -> None:
    rows = [{"order_id": o, "line": i, "sum": 1} for o in range(10) for i in range(3)]
    key = guess_key(rows, "lines")
    assert key is not None
    assert (key.columns, key.sure) == (("order_id", "line"), True)
    few = guess_key(rows[:4], "lines")
    assert few is not None
    assert not few.sure


def test_times_of_changes_come_before_times_of_creation() -> None:
    rows = [
        {"createdAt": "2026-01-02T03:04:05Z", "updatedAt": f"2026-02-0{n}T03:04:05.5+01:00",
         "at": "2026-01-01T00:00:00Z", "modified": "yesterday, late at night", "updated": None}
        for n in (2, 1)
    ]  # fmt: skip
    found = guess_cursors(rows)
    assert [c.column for c in found] == ["updatedAt", "createdAt"]


# -- an index --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"base": "EUR", "rates": {"2026-01-01": {"USD": 1.1}, "2026-01-02": {"USD": 1.2}}},
        {"Series": {"2026-01-01T10:00": 1, "2026-01-01T11:00:00Z": 2}},
        {"17": {"name": "a"}, "18": {"name": "b"}},
    ],
)
def test_rows_under_days_or_numbers_are_no_columns(body: Any) -> None:
    [resource] = guess_resources(Answer(URL, body))
    assert "docs/apis.md" in resource.evidence
    assert not resource.sure


def test_an_error_is_no_row() -> None:
    [resource] = guess_resources(Answer(URL, {"ok": False, "error": {"code": 190}}))
    assert "error" in resource.evidence
    assert not resource.sure


def test_one_object_is_one_row() -> None:
    [resource] = guess_resources(Answer(URL, {"id": 1, "rates": {"USD": 1.1}, "on": {"2026": 1}}))
    assert (resource.evidence, resource.sure) == ("one object", True)


def test_incremental_begins_before_all_rows_though_the_first_page_has_the_newest() -> None:
    body = [{"id": n, "updated_at": f"2026-02-0{n}T03:04:05Z"} for n in (3, 2)]
    text = as_yaml(make_proposal("shop", {}, guess_resources(Answer(URL, body))))
    assert '# incremental: {cursor_path: updated_at, initial_value: "1970-01-01T00:00:00Z"' in text


def test_an_index_of_endpoints_is_a_resource_for_each() -> None:
    body = {
        "self": "https://api.example.com/v1/",
        "orders": "https://api.example.com/v1/orders/{?page}",
        "customers": {"href": "/v1/customers?active=true"},
        "order": "https://api.example.com/v1/orders/{id}",
        "elsewhere": "https://other.example.org/x",
    }
    found = guess_resources(Answer("https://api.example.com/v1/", body))
    assert [(r.name, urlsplit(r.url).path, r.params, r.sure) for r in found] == [
        ("orders", "/v1/orders/", {}, True),
        ("customers", "/v1/customers", {"active": "true"}, True),
        ("order", "/v1/orders/{id}", {}, False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"_links": {"orders": {"href": "/orders"}, "items": {"href": "/items"}}, "version": 3},
        {"endpoints": ["/orders", "/items"]},
        {"resources": [{"name": "orders", "url": "/orders"}, {"name": "items", "url": "/items"}]},
    ],
)
def test_an_index_may_stand_below_or_be_a_list(body: Any) -> None:
    found = guess_resources(Answer("https://api.example.com/", body))
    assert [r.name for r in found] == ["orders", "items"]


def test_rows_with_links_of_their_own_are_no_index() -> None:
    body = {"data": ROWS, "links": {"self": "/a", "next": "/b", "first": "/c"}}
    assert guess(body).selector == "data"


# -- the proposal ----------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.sampled_from(["https://api.example.com/v1/x", "/y", "2026-01-01T00:00:00Z", "7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=8) | st.sampled_from(
            ["id", "data", "next", "page", "total", "total_pages", "links", "href", "offset",
             "limit", "cursor", "has_more", "items", "updated_at", "next_cursor", "count"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip
PARAMS = st.dictionaries(st.text(min_size=1, max_size=6) | st.sampled_from(["page", "limit"]),
                         st.text(max_size=6) | st.sampled_from(["0", "2"]), max_size=3)  # fmt: skip


@settings(deadline=None)  # the first call imports dlt
@given(JSON, PARAMS)
def test_any_json_becomes_a_valid_source_or_comments(body: Any, params: dict[str, str]) -> None:
    from dlt.common import jsonpath
    from dlt.sources.rest_api.config_setup import create_paginator

    resources = guess_resources(Answer(URL, body, params))
    proposal = make_proposal("shop", {}, resources)
    assert summarize(proposal).isprintable() is False  # it has lines
    sources = yaml.safe_load(as_yaml(proposal))["sources"]
    if not sources:
        return
    source = Source.model_validate(sources["shop"])
    for resource in source.resources:
        assert isinstance(resource, dict)
        endpoint = resource["endpoint"]
        if "data_selector" in endpoint:
            jsonpath.compile_path(endpoint["data_selector"])
        if endpoint.get("paginator", "auto") != "auto":
            assert create_paginator(endpoint["paginator"]) is not None


def test_the_deepest_json_is_no_problem() -> None:
    body: Any = {"id": 1}
    for _ in range(5_000):
        body = {"next": body}
    assert len(guess_resources(Answer(URL, body))) == 1


@given(st.text())
def test_any_text_is_one_line_of_yaml(text: str) -> None:
    line = flow({"a": [text]})
    assert len(line.splitlines()) == 1
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert yaml.safe_load(line) == {"a": [text]}


def test_evidence_stands_beside_each_guess_and_weak_guesses_are_comments() -> None:
    body = {"orders": [{"customer_id": 1}, {"customer_id": 2}], "next_cursor": "x\ny"}
    text = as_yaml(make_proposal("shop", {}, guess_resources(Answer(URL, body))))
    assert "        # primary_key: customer_id\n" in text
    assert "write_disposition: replace\n" in text
    lines = text.splitlines()
    for guessed in ("# primary_key:", "write_disposition:", "data_selector:", "paginator:"):
        (at,) = [i for i, line in enumerate(lines) if line.strip().startswith(guessed)]
        assert lines[at - 1].strip().startswith("# evidence: "), guessed


def test_urls_of_one_api_share_a_folder_and_keep_their_names_apart() -> None:
    answers = [Answer(f"https://x.org/api/{p}", ROWS) for p in ("v1/a", "v2/a", "v2/b")]
    resources = [r for a in answers for r in guess_resources(a)]
    tree = yaml.safe_load(as_yaml(make_proposal("x", {}, resources)))["sources"]["x"]
    assert tree["client"]["base_url"] == "https://x.org/api/"
    assert [(r["name"], r["endpoint"]["path"]) for r in tree["resources"]] == [
        ("a", "v1/a"), ("a_2", "v2/a"), ("b", "v2/b"),
    ]  # fmt: skip
