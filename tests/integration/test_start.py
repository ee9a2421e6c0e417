"""`etl init` against APIs of every usual kind: one look at each, and extraction reads all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.configuration import load_settings
from etl.errors import EtlError
from etl.start.project import create_project
from tests.integration.extracting import count, extract_once, query, serving

ROWS = [{"id": n, "name": f"tea {n}"} for n in range(1, 38)]
Params = dict[str, str]
Page = Callable[[str, Params], Any]


def part(begin: int, size: int) -> list[dict[str, Any]]:
    return ROWS[begin : begin + size]


def header_link(url: str, params: Params) -> Any:
    at, size = int(params.get("after", 0)), int(params.get("per_page", 10))
    more = at + size < len(ROWS)
    link = {"Link": f'<{url}?per_page={size}&after={at + size}>; rel="next"'} if more else {}
    return 200, part(at, size), link


def json_link(url: str, params: Params) -> Any:
    at = int(params.get("from", 0))
    following = f"{url}?from={at + 10}" if at + 10 < len(ROWS) else None
    return {"count": len(ROWS), "next": following, "results": part(at, 10)}


def relative_link(url: str, params: Params) -> Any:
    page = json_link("/v1/teas", params)
    return {"data": page["results"], "links": {"next": page["next"]}}


def odata(url: str, params: Params) -> Any:
    page = json_link(url, params)
    more = {"@odata.nextLink": page["next"]} if page["next"] else {}
    return {"@odata.context": "$metadata#teas", "value": page["results"], **more}


def page_number(url: str, params: Params) -> Any:
    page = int(params.get("page", 1))
    return {"page": page, "total_pages": 4, "teas": part((page - 1) * 10, 10)}


def page_number_from_0(url: str, params: Params) -> Any:
    page = int(params.get("page", 0))
    about = {"size": 10, "totalElements": 37, "totalPages": 4, "number": page}
    return {"content": part(page * 10, 10), "page": about}


def page_until_empty(url: str, params: Params) -> Any:
    page = int(params.get("page", 1))
    return {"page": page, "per_page": 10, "total": 37, "items": part((page - 1) * 10, 10)}


def page_with_has_more(url: str, params: Params) -> Any:
    page = int(params.get("pageNumber", 1))
    more = page * 10 < len(ROWS)
    return {"pageNumber": page, "hasMore": more, "items": part((page - 1) * 10, 10)}


def cursor(url: str, params: Params) -> Any:
    at = int(params.get("cursor", "c0")[1:])
    more = f"c{at + 10}" if at + 10 < len(ROWS) else None
    return {"meta": {"next_cursor": more}, "data": part(at, 10)}


def page_token(url: str, params: Params) -> Any:
    at = int(params.get("pageToken", "t0")[1:])
    more = {"nextPageToken": f"t{at + 10}"} if at + 10 < len(ROWS) else {}
    return {"kind": "teas", "items": part(at, 10), **more}


def relay(url: str, params: Params) -> Any:
    at = int(params.get("cursor", "r0")[1:])
    info = {"endCursor": f"r{at + 10}", "hasNextPage": at + 10 < len(ROWS)}
    return {"nodes": part(at, 10), "pageInfo": info}


def next_page(url: str, params: Params) -> Any:
    page = int(params.get("page", 1))
    return {"teas": part((page - 1) * 10, 10), "next_page": page + 1 if page < 4 else None}


def offset(url: str, params: Params) -> Any:
    at, size = int(params.get("offset", 0)), min(10, int(params.get("limit", 10)))
    return {"offset": at, "limit": size, "total": len(ROWS), "teas": part(at, size)}


def start_at(url: str, params: Params) -> Any:
    at, size = int(params.get("startAt", 0)), int(params.get("maxResults", 10))
    return {"startAt": at, "maxResults": size, "total": len(ROWS), "values": part(at, size)}


def bare_list(url: str, params: Params) -> Any:
    return ROWS


def one_page_with_total(url: str, params: Params) -> Any:
    return {"total": len(ROWS), "teas": ROWS}


def next_is_null(url: str, params: Params) -> Any:
    return {"count": len(ROWS), "next": None, "previous": None, "results": ROWS}


def teas(page: Page) -> Callable[[str, Params, dict[str, str]], Any]:
    def answer(path: str, params: Params, headers: dict[str, str]) -> Any:
        return page(f"http://{headers['host']}{path}", params)

    return answer


@pytest.mark.parametrize(
    ("page", "query_", "kind"),
    [
        (header_link, "?per_page=10", "header_link"),
        (json_link, "", "json_link"),
        (relative_link, "", "json_link"),
        (odata, "", "json_link"),
        (page_number, "", "page_number"),
        (page_number, "?page=1", "page_number"),
        (page_number_from_0, "", "page_number"),
        (page_until_empty, "", "page_number"),
        (page_with_has_more, "", "page_number"),
        (cursor, "", "cursor"),
        (page_token, "", "cursor"),
        (relay, "", "cursor"),
        (next_page, "", "cursor"),
        (offset, "", "offset"),
        (offset, "?limit=10&offset=0", "offset"),
        (offset, "?limit=100", "offset"),
        (start_at, "", "offset"),
        (bare_list, "", "single_page"),
        (one_page_with_total, "", "single_page"),
        (next_is_null, "", "auto"),
    ],
)
def test_one_look_is_enough_to_read_all_pages(
    page: Page, query_: str, kind: str, tmp_path: Path
) -> None:
    with serving(teas(page)) as api:
        create_project(tmp_path / "shop", None, [f"{api.url}v1/teas{query_}"], {})
        assert len(api.asked) == 1
        settings = load_settings(tmp_path / "shop", environ={})
        (resource,) = settings.sources["api"].resources
        assert isinstance(resource, dict)
        paginator = resource["endpoint"]["paginator"]
        assert (paginator if isinstance(paginator, str) else paginator["type"]) == kind
        assert resource["primary_key"] == "id"
        extract_once(settings)
    assert query(settings, "SELECT count(*), count(DISTINCT id), max(id) FROM api_raw.teas") == [
        (37, 37, 37)
    ]


def test_an_index_becomes_resources_that_are_read_without_a_further_look(tmp_path: Path) -> None:
    def answer(path: str, params: Params, headers: dict[str, str]) -> Any:
        if path == "/api/":
            home = f"http://{headers['host']}/api"
            return {"teas": f"{home}/teas/", "cups": f"{home}/cups/", "cup": f"{home}/cups/{{id}}"}
        return json_link(f"http://{headers['host']}{path}", params)

    with serving(answer) as api:
        create_project(tmp_path / "shop", "shop", [f"{api.url}api/"], {})
        assert [path for path, _, _ in api.asked] == ["/api/"]
        settings = load_settings(tmp_path / "shop", environ={})
        extract_once(settings)
    assert count(settings, "shop_raw.teas") == count(settings, "shop_raw.cups") == 37
    text = (tmp_path / "shop" / "config" / "etl.yaml").read_text(encoding="utf-8")
    assert "# - name: cup\n" in text


def test_several_urls_of_one_api_are_resources_of_one_source(tmp_path: Path) -> None:
    with serving(teas(cursor)) as api:
        urls = [f"{api.url}v1/teas", f"{api.url}v1/old/cups"]
        said = create_project(tmp_path / "shop", "shop", urls, {})
        assert len(api.asked) == 2
        settings = load_settings(tmp_path / "shop", environ={})
        extract_once(settings)
    assert count(settings, "shop_raw.teas") == count(settings, "shop_raw.cups") == 37
    assert said.count("next_cursor holds a cursor") == 2


@pytest.mark.parametrize("answer", [{"total": 99, "teas": ROWS}, {"has_more": True, "teas": ROWS}])
def test_a_source_that_certainly_has_more_than_we_can_get_is_not_enabled(
    answer: Any, tmp_path: Path
) -> None:
    with serving(lambda *_: answer) as api:
        said = create_project(tmp_path / "shop", "shop", [f"{api.url}teas"], {})
    settings = load_settings(tmp_path / "shop", environ={})
    assert list(settings.sources) == ["shop"]
    assert settings.active_sources == {}
    assert "not enabled" in said


def test_a_full_page_is_not_taken_for_everything(tmp_path: Path) -> None:
    with serving(lambda path, params, _: ROWS[: int(params["limit"])]) as api:
        create_project(tmp_path / "shop", "shop", [f"{api.url}teas?limit=20"], {})
    assert load_settings(tmp_path / "shop", environ={}).active_sources == {}


# -- secrets ---------------------------------------------------------------------------------------

SECRET = "s3cret-t0ken"


def guarded(path: str, params: Params, headers: dict[str, str]) -> Any:
    basic = "Basic YW5uOnMzY3JldC10MGtlbg=="
    known = {headers.get("authorization"), params.get("api_key")}
    if not known & {f"Bearer {SECRET}", basic, SECRET}:
        return 401, {"error": "who are you?"}, {}
    return ROWS


@pytest.mark.parametrize(
    ("address", "given", "later"),
    [
        ("http://ann:s3cret-t0ken@{}teas", {}, {"USERNAME": "ann", "PASSWORD": SECRET}),
        ("http://{}teas?api_key=s3cret-t0ken&page_size=50", {}, {"API_KEY": SECRET}),
        ("http://{}teas", {"TOKEN": SECRET}, {"TOKEN": SECRET}),
        ("http://{}teas", {"USERNAME": "ann", "PASSWORD": SECRET},
         {"USERNAME": "ann", "PASSWORD": SECRET}),
    ],
)  # fmt: skip
def test_secrets_are_in_no_file_and_come_from_variables(
    address: str, given: dict[str, str], later: dict[str, str], tmp_path: Path
) -> None:
    begin = "ETL_SOURCES__SHOP__CLIENT__AUTH__"
    project = tmp_path / "shop"
    with serving(guarded) as api:
        url = address.format(api.url.removeprefix("http://"))
        said = create_project(project, "shop", [url], {begin + k: v for k, v in given.items()})
        for path in project.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
        assert SECRET not in said
        for name in later:
            assert (f"export {begin}{name}=" in said) == (name not in given)
        settings = load_settings(project, environ={begin + k: v for k, v in later.items()})
        extract_once(settings)
    assert count(settings, "shop_raw.teas") == 37


# -- nothing half-made -----------------------------------------------------------------------------


def test_the_example_of_a_project_without_source_is_a_source_once_uncommented(
    tmp_path: Path,
) -> None:
    create_project(tmp_path / "shop", "tea", [], {})
    file = tmp_path / "shop" / "config" / "etl.yaml"
    text = file.read_text(encoding="utf-8")
    before, _, rest = text.partition("sources: {}\n")
    example, end, after = rest.partition("\n\ntransform:")
    lines = [x.replace("#", " ", 1)[1:] for x in example.splitlines()[1:]]
    file.write_text(before + "sources:\n" + "\n".join(lines) + end + after, encoding="utf-8")
    settings = load_settings(tmp_path / "shop", environ={})
    assert settings.sources["tea"].rate_limit is not None
    assert yaml.safe_load("\n".join(lines))["tea"]["resources"][0]["name"] == "orders"
    assert settings.sources["tea"].freshness == 48


def broken(status: int, body: bytes = b"{}") -> Callable[..., Any]:
    return lambda *_: (status, body, {"Content-Type": "text/html"})


@pytest.mark.parametrize(
    ("answer", "code"),
    [(broken(401), 13), (broken(403), 13), (broken(404), 5), (broken(200, b"<html>"), 5),
     (broken(200, b""), 5), (broken(429), 4), (broken(503), 4)],
)  # fmt: skip
@pytest.mark.parametrize("exists", [True, False])
def test_an_answer_that_cannot_be_used_leaves_nothing_behind(
    answer: Any, code: int, exists: bool, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    if exists:
        project.mkdir()
    with serving(answer) as api, pytest.raises(EtlError) as raised:
        create_project(project, "shop", [f"{api.url}teas"], {})
    assert raised.value.code == code
    assert len(api.asked) == 1
    assert sorted(tmp_path.rglob("*")) == ([project] if exists else [])
