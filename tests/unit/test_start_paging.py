"""How an API goes on is read from its answer: links first, then numbers, then what is left."""

from __future__ import annotations

from typing import Any

import pytest

from etl.start.answer import Answer, Paging
from etl.start.paging import guess_paging
from etl.start.shapes import fields

URL = "https://api.example.com/v1/teas"


def paging(
    about: dict[str, Any], rows: int = 10, params: dict[str, str] | None = None, **more: Any
) -> Paging:
    body = {"teas": [{}] * rows, **about}
    around = [f for f in fields(body) if f.keys != ("teas",)]
    return guess_paging(Answer(URL, body, params or {}, **more), around, rows, "teas")


def settings(about: dict[str, Any], rows: int = 10, params: Any = None, **more: Any) -> Any:
    return paging(about, rows, params, **more).settings


def test_a_link_in_the_header_wins_over_all_else() -> None:
    about = {"next": f"{URL}?page=2", "total_pages": 3, "cursor": "x"}
    assert settings(about, links={"next": f"{URL}?page=2"}) == "header_link"
    assert settings(about, links={"prev": URL})["type"] == "json_link"


def test_a_link_that_drops_parameters_gives_way_to_page_numbers() -> None:
    about = {"next_page_url": f"{URL}?page=2", "current_page": 1, "last_page": 4}
    assert settings(about)["type"] == "json_link"
    asked = {"per_page": "10"}
    assert settings(about, params=asked) == {
        "type": "page_number", "base_page": 1, "page_param": "page", "total_path": "last_page",
    }  # fmt: skip
    alone = paging({"next": f"{URL}?page=2"}, params=asked)
    assert "drops per_page" in alone.evidence
    assert not alone.sure


@pytest.mark.parametrize(
    ("about", "path", "param"),
    [
        ({"next_cursor": "x"}, "next_cursor", "cursor"),
        ({"cursors": {"next": "x"}}, "cursors.next", "cursor"),
        ({"meta": {"next_token": 7}}, "meta.next_token", "token"),
        ({"nextPageToken": "x"}, "nextPageToken", "pageToken"),
        ({"data": {"after": "t3_x"}}, "data.after", "after"),
        ({"scroll_id": "x"}, "scroll_id", "scroll_id"),
        ({"next_page": 2}, "next_page", "page"),
        ({"next": "x-1"}, "next", "cursor"),
    ],
)
def test_a_cursor_is_sent_under_the_name_of_its_field(
    about: dict[str, Any], path: str, param: str
) -> None:
    assert settings(about) == {"type": "cursor", "cursor_path": path, "cursor_param": param}


def test_the_parameter_in_the_url_is_the_cursors() -> None:
    found = paging({"next_start_key": "b"}, params={"startKey": "a", "limit": "10"})
    assert found.settings["cursor_param"] == "startKey"  # type: ignore[index]
    assert found.takes == {"startKey"}


@pytest.mark.parametrize(
    ("about", "params", "expected"),
    [
        ({"page": 0, "pages": 3}, {}, {"base_page": 0, "page_param": "page"}),
        ({"pageNumber": 1, "totalPages": "3"}, {}, {"base_page": 1, "page_param": "pageNumber"}),
        ({"meta": {"total_pages": 3}}, {"p": "0"}, {"base_page": 0, "page_param": "p"}),
        ({"page": 3, "total_pages": 5}, {"page": "3"}, {"base_page": 1, "page_param": "page"}),
    ],
)
def test_pages_are_numbered_as_the_answer_or_the_url_counts(
    about: dict[str, Any], params: dict[str, str], expected: dict[str, Any]
) -> None:
    found = settings(about, params=params)
    assert found["type"] == "page_number"
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("about", "params", "expected"),
    [
        ({"offset": 0, "limit": 10, "total": 99}, {}, {"limit": 10, "total_path": "total"}),
        # An API that gives fewer rows than it was asked for is read in steps of what it gives.
        ({"total": 99}, {"skip": "0", "top": "50"}, {"limit": 10, "offset_param": "skip",
                                                    "limit_param": "top"}),
        # dlt compares with a total as if the first row had the number 0.
        ({"startIndex": 1, "size": 10, "total": 99}, {}, {"offset": 1, "total_path": None}),
        ({"total": 99}, {"offset": "40", "limit": "10"}, {"offset": 0}),
    ],
)  # fmt: skip
def test_offsets_step_by_the_rows_of_a_page(
    about: dict[str, Any], params: dict[str, str], expected: dict[str, Any]
) -> None:
    found = settings(about, params=params)
    assert found["type"] == "offset"
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("about", "more"),
    [
        ({"total": 11}, {}),
        ({"count": 11}, {}),
        ({"hasMore": True}, {}),
        ({}, {"params": {"limit": "10"}}),
        ({}, {"headers": {"x-total-count": "11"}}),
    ],
)
def test_more_rows_without_a_way_to_them_are_said(
    about: dict[str, Any], more: dict[str, Any]
) -> None:
    found = paging(about, **more)
    assert (found.incomplete, found.sure) == (True, False)
    assert found.others


def test_the_last_rows_id_is_offered_as_the_cursor_of_a_page_that_has_more() -> None:
    found = paging({"has_more": True}, 10)
    assert not found.sure
    assert found.others[0] == {
        "type": "cursor", "cursor_path": "teas[-1].id", "cursor_param": "starting_after",
        "has_more_path": "has_more",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("about", "rows", "kind"),
    [
        ({"total": 7}, 7, "single_page"),
        ({"hasMore": False}, 7, "single_page"),
        # `count` is as often the rows of the page as it is the total.
        ({"count": 10}, 10, "single_page"),
        ({"next": None}, 7, "auto"),
        ({"nextPageToken": ""}, 7, "auto"),
        ({}, 0, "auto"),
    ],
)
def test_without_a_sign_of_more_one_page_is_all(
    about: dict[str, Any], rows: int, kind: str
) -> None:
    found = paging(about, rows)
    assert found.settings == kind
    assert not found.incomplete


def test_a_round_number_of_rows_asks_for_a_second_look() -> None:
    assert "look whether there is more" in paging({}, 100).evidence
    assert paging({}, 100).others
    assert not paging({}, 37).others
