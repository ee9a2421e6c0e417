"""Sources as dlt documents them bring through our builder what they bring through plain dlt."""

from __future__ import annotations

import base64
import gc
import math
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import pytest
from dlt.sources.rest_api import rest_api_source
from requests import Response

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    ExtractError,
    SchemaError,
    UnreachableError,
)
from etl.raw.pipeline import Raw
from etl.raw.places import NotReachedError
from etl.settings import Settings
from etl.sources.page_step import PageStep
from etl.stages.context import RunContext
from tests.integration.extracting import (
    context,
    count,
    extract_once,
    failure_of,
    failures_of,
    query,
    reading,
    serving,
    settings_of,
)
from tests.postgres_server import PASSWORD, Server

ROWS: list[dict[str, Any]] = [
    {"id": n, "name": f"n{n}", "tags": [{"t": n}, {"t": -n}]} for n in range(1, 26)
]


def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
    """Lists of 25 rows behind every kind of pagination, and one path per parent."""
    kind, _, rest = path.strip("/").partition("/")
    if kind == "secret":
        given = headers.get("authorization") or headers.get("x-key") or asked.get("key")
        basic = "Basic " + base64.b64encode(b"ann:pa:ss").decode()
        return ROWS if given in {"Bearer tok", "k3y", basic} else (401, {}, {})
    if kind == "things" and rest:
        return [{"thing": int(rest.split("/")[0]), "n": n} for n in range(2)]
    if kind == "one":
        return {"id": 1, "name": "only"}
    if kind == "since":
        floor = asked.get("since", "0")
        return [r for r in ROWS[: int(asked.get("upto", "25"))] if r["id"] > int(floor)]
    size = 10
    start = {
        "page": (int(asked.get("page", "1")) - 1) * size,
        "offset": int(asked.get("offset", "0")),
    }.get(kind, int(asked.get("after", "0")))
    rows, more = ROWS[start : start + size], start + size < len(ROWS)
    next_url = f"{headers['host']}/{kind}?after={start + size}"
    if kind == "header":
        return 200, rows, {"Link": f'<http://{next_url}>; rel="next"'} if more else {}
    if kind == "link":
        return {"data": rows, "next": f"http://{next_url}" if more else None}
    if kind == "auto":
        return {"results": rows, "links": {"next": f"http://{next_url}" if more else None}}
    return {"data": rows, "total": len(ROWS), "cursor": str(start + size) if more else None}


def things(**endpoint: Any) -> dict[str, Any]:
    return {"name": "things", "endpoint": {"path": "things_list", **endpoint}}


def made(folder: Path, factory: str, **arguments: Any) -> Settings:
    """A source `py` that a function makes: one of this module, unless another is named."""
    place = factory if ":" in factory else f"{__name__}:{factory}"
    return settings_of(folder, {"py": {"factory": place, "arguments": arguments}})


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "page_number": {
        "client": {"paginator": {"type": "page_number", "base_page": 1, "total_path": None}},
        "resources": [things(path="page", data_selector="data")],
    },
    "offset": {
        "client": {"paginator": {"type": "offset", "limit": 10, "total_path": "total"}},
        "resources": [things(path="offset", data_selector="data")],
    },
    "header_link": {
        "client": {"paginator": "header_link"},
        "resources": [things(path="header")],
    },
    "json_link": {
        "client": {"paginator": {"type": "json_link", "next_url_path": "next"}},
        "resources": [things(path="link", data_selector="data")],
    },
    "cursor": {
        "client": {
            "paginator": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "after"}
        },
        "resources": [things(path="cursor", data_selector="$.data")],
    },
    "single_page": {"client": {"paginator": "single_page"}, "resources": [things(path="since")]},
    "auto": {"client": {}, "resources": [things(path="auto")]},
    "auto on a path alone": {"client": {}, "resources": ["since"]},
    "endpoint's own paginator": {
        "client": {"paginator": "single_page"},
        "resources": [
            things(
                path="link",
                data_selector="data",
                paginator={"type": "json_link", "next_url_path": "next"},
            )
        ],
    },
    "default endpoint": {
        "client": {},
        "resource_defaults": {
            "primary_key": "id",
            "write_disposition": "merge",
            "endpoint": {
                "data_selector": "data",
                "paginator": {"type": "json_link", "next_url_path": "next"},
            },
        },
        "resources": [things(path="link")],
    },
    "bearer": {
        "client": {"auth": {"type": "bearer", "token": "tok"}},
        "resources": [things(path="secret")],
    },
    "api_key in a header": {
        "client": {"auth": {"type": "api_key", "name": "X-Key", "api_key": "k3y"}},
        "resources": [things(path="secret")],
    },
    "api_key in the query": {
        "client": {
            "auth": {"type": "api_key", "name": "key", "api_key": "k3y", "location": "query"}
        },
        "resources": [things(path="secret")],
    },
    "http_basic": {
        "client": {"auth": {"type": "http_basic", "username": "ann", "password": "pa:ss"}},
        "resources": [things(path="secret")],
    },
    "dependent": {
        "client": {"paginator": "single_page"},
        "resources": [
            things(path="since"),
            {
                "name": "parts",
                "endpoint": {"path": "things/{resources.things.id}/parts"},
                "include_from_parent": ["id", "name"],
            },
        ],
    },
    "dependent by a resolved parameter": {
        "client": {"paginator": "single_page"},
        "resources": [
            things(path="since"),
            {
                "name": "parts",
                "endpoint": {
                    "path": "things/{thing}/parts",
                    "params": {"thing": {"type": "resolve", "resource": "things", "field": "id"}},
                },
            },
        ],
    },
    "processing steps": {
        "client": {"paginator": "single_page"},
        "resources": [
            {**things(path="since"), "processing_steps": [{"filter": lambda r: r["id"] % 2}]}
        ],
    },
}


def tables(client: Any, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows without dlt's ids, sorted."""
    names = client(
        "SELECT table_name FROM information_schema.tables "
        f"WHERE table_schema = '{schema}' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\'"
    )
    return {
        n: sorted(
            client(f"SELECT COLUMNS(c -> c NOT LIKE '\\_dlt%' ESCAPE '\\') FROM {schema}.{n}"),
            key=repr,
        )
        for (n,) in names
    }


def slug(kind: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in kind)


def named(value: Any, kind: str, key: str = "") -> Any:
    """A configuration with resources of its own names, so that many fit into one plain dataset."""
    if isinstance(value, dict):
        return {k: named(v, kind, k) for k, v in value.items()}
    if isinstance(value, list):
        return [named(v, kind, key) for v in value]
    if key in ("name", "resource") and value in ("things", "parts"):
        return f"{value}_{slug(kind)}"
    if isinstance(value, str):
        return value.replace("{resources.things.", f"{{resources.things_{slug(kind)}.")
    return value


Tables = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Settings, RunContext]:
    """What plain dlt brings of all configurations, and what ours did, a source for each."""
    folder = tmp_path_factory.mktemp("brought")
    with serving(answer) as api:
        configurations = {
            kind: named(deepcopy(found), kind) for kind, found in CONFIGURATIONS.items()
        }
        for found in configurations.values():
            found["client"]["base_url"] = api.url
        pipeline = dlt.pipeline(
            "plain",
            pipelines_dir=str(folder / "plain"),
            destination=dlt.destinations.duckdb(str(folder / "plain.duckdb")),
            dataset_name="plain_raw",
        )
        pipeline.run(
            [
                resource
                for kind, found in configurations.items()
                for resource in rest_api_source(deepcopy(found), name=slug(kind)).resources.values()
            ]
        )
        with pipeline.sql_client() as client:
            plain = tables(client.execute_sql, "plain_raw")
        settings = settings_of(
            folder, {f"api_{slug(kind)}": found for kind, found in configurations.items()}
        )
        return plain, settings, extract_once(settings)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_declarative_source_brings_what_plain_dlt_brings(
    brought: tuple[Tables, Settings, RunContext], kind: str
) -> None:
    plain, settings, ctx = brought
    ours = tables(lambda sql: query(settings, sql), f"api_{slug(kind)}_raw")
    mine = {f"{name}_{slug(kind)}" for name in ("things", "parts")}
    if kind == "auto on a path alone":
        mine = {"since"}
    expected = {table: rows for table, rows in plain.items() if table.split("__")[0] in mine}
    assert ours == expected
    assert {len(v) for v in ours.values()} & {25, 13}, "the API gave its rows"
    reconciled = [
        r for r in ctx.run.reconciliations if r.subject.startswith(f"api_{slug(kind)}_raw.")
    ]
    assert reconciled
    assert all(r.agrees for r in reconciled)


def test_dependent_resource_runs_twice_although_each_parent_has_one_page(tmp_path: Path) -> None:
    with serving(answer) as api:
        settings = reading(tmp_path, api.url, *CONFIGURATIONS["dependent"]["resources"])
        for _ in range(2):
            extract_once(settings)
    assert count(settings, "api_raw.parts") == 100


def test_no_connection_is_left_open_behind_the_extraction(tmp_path: Path) -> None:
    with serving(lambda *_: [{"id": 1}]) as api:
        extract_once(reading(tmp_path, api.url, "rows"))
        assert api.asked
        assert api.is_let_go()


def test_pages_that_are_read_do_not_stay_in_memory(tmp_path: Path) -> None:
    held: list[int] = []

    def answer(_: str, query: dict[str, str], __: dict[str, str]) -> Any:
        held.append(sum(isinstance(o, Response) for o in gc.get_objects()))
        page = int(query.get("page", 1))
        return {"items": [{"id": page}], "next": page + 1 if page < 10 else None}

    pages = {"type": "cursor", "cursor_path": "next", "cursor_param": "page"}
    with serving(answer) as api:
        gc.collect()
        gc.disable()  # what a circle holds would be let go when it is looked for, by chance
        try:
            extract_once(reading(tmp_path, api.url, "rows", client={"paginator": pages}))
        finally:
            gc.enable()
    assert len(held) == 10
    assert max(held) <= 2


def test_incremental_reads_only_what_is_new(tmp_path: Path) -> None:
    seen = {"upto": 10}

    def growing(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return answer("since", asked | {"upto": str(seen["upto"])}, headers)

    with serving(growing) as api:
        cursor = {"cursor_path": "id", "initial_value": 0}
        forms: dict[str, dict[str, Any]] = {
            "incremental": {"incremental": cursor | {"start_param": "since"}},
            "params": {"params": {"since": {"type": "incremental", **cursor}}},
        }
        settings = settings_of(
            tmp_path,
            {
                form: {
                    "client": {"base_url": api.url, "paginator": "single_page"},
                    "resources": [things(path=form, **endpoint)],
                }
                for form, endpoint in forms.items()
            },
        )

        def asked_last(form: str) -> str:
            return [asked["since"] for path, asked, _ in api.asked if path == f"/{form}"][-1]

        extract_once(settings)
        assert {form: asked_last(form) for form in forms} == dict.fromkeys(forms, "0")
        for upto in (25, 25):  # and a run without anything new is a good one
            seen["upto"] = upto
            extract_once(settings)
            for form in forms:
                assert count(settings, f"{form}_raw.things") == upto, form
        assert {form: asked_last(form) for form in forms} == dict.fromkeys(forms, "25")


def test_cursor_that_a_row_of_the_future_moved_is_told(tmp_path: Path) -> None:
    days = ["2026-01-02T10:00:00Z", "2099-01-01T00:00:00Z"]
    with serving(lambda *_: [{"id": 1, "at": days[0]}]) as api:
        cursor = {"cursor_path": "at", "initial_value": "2026-01-01T00:00:00Z"}
        resource = things(path="things", incremental=cursor | {"start_param": "since"})
        settings = reading(tmp_path, api.url, resource)
        assert not extract_once(settings).run.warnings
        days.pop(0)
        for _ in range(2):
            [told] = extract_once(settings).run.warnings
            assert told.startswith("api.things: its cursor at stands at 2099-01-01")


def test_cursor_that_is_restored_is_the_last_one_whatever_the_clock_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"upto": 5}

    def growing(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        return answer("since", asked | {"upto": str(seen["upto"])}, headers)

    with serving(growing) as api:
        cursor = {"cursor_path": "id", "initial_value": 0, "start_param": "since"}
        resource = things(path="since", incremental=cursor) | {"write_disposition": "append"}
        settings = reading(tmp_path, api.url, resource)
        extract_once(settings)
        seen["upto"] = 10
        with monkeypatch.context() as ahead:
            ahead.setattr("dlt.extract.storage.create_load_id", lambda: "4099802702.5")
            extract_once(settings)
        seen["upto"] = 15
        extract_once(settings)
        shutil.rmtree(settings.dlt_dir)
        for upto in (20, 25):
            seen["upto"] = upto
            extract_once(settings)
            assert count(settings, "api_raw.things") == upto
    assert Raw(settings, "api").fits_warehouse(), "else it is restored in every run"


def test_rows_that_were_stamped_with_a_day_to_come_are_told(tmp_path: Path) -> None:
    with serving(answer) as api:
        stamp = {"day": "snapshot_date"}
        settings = reading(tmp_path, api.url, things(path="since"), stamp=stamp)
        assert not extract_once(settings).run.warnings
        query(settings, "CREATE TABLE api_raw.nothing AS FROM api_raw.things LIMIT 0")
        query(settings, "UPDATE api_raw.things SET day = '2026-01-03' WHERE id = 5")
        [told] = extract_once(settings).run.warnings
    assert told.startswith("api.things: rows of an earlier run are stamped day 2026-01-03")


def test_incremental_cursor_of_a_refused_extraction_is_taken_back(tmp_path: Path) -> None:
    cursor = {"cursor_path": "id", "initial_value": 0, "start_param": "since"}
    resource = things(path="since", incremental=cursor)
    with serving(answer) as api:
        failures_of(reading(tmp_path, api.url, resource, volume={"min_rows": 26}))
        extract_once(settings := reading(tmp_path, api.url, resource))
        assert count(settings, "api_raw.things") == 25


def test_resource_runs_once_per_value_and_each_row_says_which(tmp_path: Path) -> None:
    with serving(answer) as api:
        settings = reading(
            tmp_path,
            api.url,
            things(path="{kind}", data_selector="data"),
            client=CONFIGURATIONS["cursor"]["client"],
            for_each={"kind": ["cursor", "other"]},
            stamp={"day": "snapshot_date"},
        )
        ctx = extract_once(settings)
    found = query(settings, "SELECT kind, day::VARCHAR, count(*) FROM api_raw.things GROUP BY 1, 2")
    assert sorted(found) == [("cursor", "2026-01-02", 25), ("other", "2026-01-02", 25)]
    [source] = ctx.run.sources
    assert (source.resource, source.rows, source.pages) == ("things", 50, 6)


NAMES = ("things", "others")


@pytest.mark.parametrize(
    ("token", "failure"),
    [
        ({"access_token": "t0k3n", "expires_in": 3600}, None),
        ({"access_token": "t0k3n"}, None),
        ({"access_token": "t0k3n", "expires_in": None}, None),
        ({"access_token": "t0k3n", "expires_in": 0}, None),
        ({"access_token": "other"}, AuthError),
        ({"error": "invalid_client"}, AuthError),
        ({"access_token": None}, AuthError),
        ([], AuthError),
        ((400, {"error": "invalid_client"}, {}), AuthError),
        ((401, {}, {}), AuthError),
        ((404, {}, {}), ExtractError),
    ],
)
def test_token_is_asked_for_once_and_one_that_is_refused_is_a_rejected_log_in(
    tmp_path: Path, token: Any, failure: type[EtlError] | None
) -> None:
    """OAuth 2 (RFC 6749) refuses a client with 400."""

    def reply(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "/token":
            assert (asked["grant_type"], asked["client_secret"]) == ("client_credentials", "s")
            return token
        page = int(asked["page"])
        is_right = headers.get("authorization") == "Bearer t0k3n"
        return {"items": ROWS[page - 1 : page], "pages": 3} if is_right else (401, {}, {})

    with serving(reply) as api:
        auth = {"type": "oauth2_client_credentials", "access_token_url": f"{api.url}token",
                "client_id": "c", "client_secret": "s"}  # fmt: skip
        paginator = {"type": "page_number", "base_page": 1, "total_path": "pages"}
        source = {
            "client": {"base_url": api.url, "auth": auth, "paginator": paginator},
            "resources": [things(data_selector="items") | {"name": name} for name in NAMES],
        }
        settings = settings_of(tmp_path, {"api": source})
        if failure is not None:
            [found] = failures_of(settings)
            assert type(found) is failure
            asked = {h.get("authorization") for path, _, h in api.asked if path != "/token"}
            assert asked <= {"Bearer other"}
            return
        extract_once(settings)
        assert [path for path, _, _ in api.asked].count("/token") == 1
    assert count(settings, "api_raw.things") == 3


def test_token_that_ends_early_is_asked_for_again(tmp_path: Path) -> None:
    """Those of RFC 6749 may be revoked at any time, and say so with 401 (RFC 6750)."""
    tokens: list[str] = []

    def reply(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "/token":
            tokens.append(f"t{len(tokens)}")
            return {"access_token": tokens[-1], "expires_in": 3600}
        page = int(asked["page"])
        is_right = headers["authorization"] == f"Bearer t{page // 2}"
        return {"items": ROWS[page - 1 : page], "pages": 3} if is_right else (401, {}, {})

    with serving(reply) as api:
        auth = {"type": "oauth2_client_credentials", "access_token_url": f"{api.url}token",
                "client_id": "c", "client_secret": "s"}  # fmt: skip
        paginator = {"type": "page_number", "base_page": 1, "total_path": "pages"}
        client = {"base_url": api.url, "auth": auth, "paginator": paginator}
        source = {"client": client, "resources": [things(data_selector="items")]}
        settings = settings_of(tmp_path, {"api": source})
        ctx = extract_once(settings)
    assert tokens == ["t0", "t1"]
    assert count(settings, "api_raw.things") == 3
    assert [s.retries for s in ctx.run.sources] == [1]


FACTORY = """
import math
import socket
import sqlite3
import urllib.request

import dlt
import requests
import pyarrow as pa

@dlt.source
def several(size):
    @dlt.resource(write_disposition="append")
    def dicts():
        for n in range(size):
            yield {"id": n}

    @dlt.resource(write_disposition="append")
    def lists():
        yield [{"id": n} for n in range(size)]

    @dlt.resource(write_disposition="replace")
    def arrow():
        for _ in range(2):
            yield pa.table({"id": pa.array(range(size), pa.int64())})

    @dlt.resource(write_disposition="append")
    def batches():
        yield pa.record_batch({"id": pa.array(range(size), pa.int64())})

    return dicts, lists, arrow, batches

@dlt.resource(name="alone", write_disposition="append")
def alone(cursor=dlt.sources.incremental("id", initial_value=0)):
    yield [{"id": n} for n in range(1, 6) if n > (cursor.last_value or 0)]

def listed(as_tuple):
    found = [dlt.resource([{"id": n}], name=n, write_disposition="append") for n in ("a", "b")]
    return tuple(found) if as_tuple else found

def nothing():
    return 3

def rows():
    return [{"id": 1}, alone]

def unreachable():
    raise requests.ConnectionError()

def mistaken():
    return 1 // 0

def miscalled():
    return nothing(3)

def doubled():
    pair = [dlt.resource([1], name="a"), dlt.resource([2], name="a")]
    return dlt.source(lambda: pair, name="pair")()

def paired():
    return [dlt.resource([1], name="a"), dlt.resource([2], name="a")]

def endless():
    return dlt.resource(lambda: None, name="t")

MERGED = {"primary_key": "id", "write_disposition": "merge"}

def changed(way, rows, arrow=False):
    # a cursor that the function is given, has by default, or as a hint
    pages = [pa.Table.from_pylist(rows) if arrow else rows]
    if way == "hint":
        @dlt.resource(name="rows", incremental=dlt.sources.incremental("at"), **MERGED)
        def hinted():
            yield from pages
        return hinted
    @dlt.resource(name="rows", **MERGED)
    def read(at=dlt.sources.incremental("at")):
        yield from pages
    return read(dlt.sources.incremental("at")) if way == "argument" else read

@dlt.resource
def read_by(kind):
    if kind == "closed port":
        urllib.request.urlopen("http://127.0.0.1:1/")
    if kind == "slow":
        raise socket.timeout("timed out")
    if kind == "no such host":
        socket.getaddrinfo("nowhere.invalid", 80)
    if kind == "database is away":
        sqlite3.connect("/nowhere/at/all.db")
    if kind == "no driver":
        import driver_that_is_not_there
    if kind == "infinite":
        yield [{"id": 1, "v": float("nan")}, {"id": 2, "of": [{"v": -math.inf}]}]
    if kind == "interval":
        yield pa.table({"v": pa.array([1], pa.duration("s"))})
    if kind == "no such table":
        raise sqlite3.ProgrammingError("no such table: orders")
    yield {"id": 1}
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"factory_{tmp_path.name}".replace("-", "_").replace("[", "_").replace("]", "_")
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_factory_source_brings_dicts_lists_and_arrow_tables(tmp_path: Path, factory: str) -> None:
    source = {
        "factory": f"{factory}:several",
        "arguments": {"size": 7},
        "stamp": {"day": "snapshot_date"},
    }
    settings = settings_of(tmp_path, {"py": source})
    extract_once(settings)
    ctx = extract_once(settings)
    expected = {"dicts": 14, "lists": 14, "arrow": 14, "batches": 14}
    assert {t: count(settings, f"py_raw.{t}") for t in expected} == expected
    for table in expected:
        assert query(settings, f"SELECT DISTINCT day FROM py_raw.{table}") == [(date(2026, 1, 2),)]
        assert query(
            settings,
            f"SELECT count(*) FROM py_raw.{table} t ANTI JOIN py_raw._dlt_loads l "
            "ON t._dlt_load_id = l.load_id",
        ) == [(0,)]
    assert {r.subject: r.found for r in ctx.run.reconciliations} == {
        "py_raw.dicts": 7, "py_raw.lists": 7, "py_raw.arrow": 14, "py_raw.batches": 7,
    }  # fmt: skip


def test_factory_may_return_one_incremental_resource(tmp_path: Path, factory: str) -> None:
    settings = made(tmp_path, f"{factory}:alone")
    for _ in range(3):
        extract_once(settings)
        assert count(settings, "py_raw.alone") == 5


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("step", ["normalize", "load"])
def test_package_that_waits_is_read_whether_its_files_are_compressed_or_not(
    tmp_path: Path, factory: str, step: str, is_compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the settings of dlt were when it was written."""
    settings = made(tmp_path, f"{factory}:several", size=7)
    monkeypatch.setenv("DATA_WRITER__DISABLE_COMPRESSION", str(not is_compressed))

    def fail(_: Any) -> None:
        raise NotReachedError("away")

    with monkeypatch.context() as away:
        away.setattr(dlt.Pipeline, step, fail)
        failure_of(settings, NotReachedError)
    files = [f for f in (tmp_path / "data" / "dlt").rglob("dicts.*") if f.is_file()]
    kind = {"normalize": ".typed-jsonl", "load": ".parquet"}[step]
    assert [f.suffix for f in files] == [".gz" if is_compressed and step == "normalize" else kind]
    monkeypatch.setenv("DATA_WRITER__DISABLE_COMPRESSION", str(is_compressed))
    ctx = extract_once(settings)
    expected = {"dicts": 14, "lists": 14, "arrow": 14, "batches": 14}
    assert {t: count(settings, f"py_raw.{t}") for t in expected} == expected
    assert len(ctx.run.reconciliations) == 8
    assert all(r.agrees for r in ctx.run.reconciliations)


@pytest.mark.parametrize("as_tuple", [False, True])
def test_factory_may_return_several_resources(tmp_path: Path, factory: str, as_tuple: bool) -> None:
    settings = made(tmp_path, f"{factory}:listed", as_tuple=as_tuple)
    ctx = extract_once(settings)
    assert [count(settings, f"py_raw.{table}") for table in "ab"] == [1, 1]
    # Nobody has seen what it asked for.
    assert {(s.pages, s.requests, s.retries) for s in ctx.run.sources} == {(None, None, None)}


def kinds(by_row: bool) -> Any:
    """A source whose rows name their tables, if they do, two of them in ways that become one."""
    import dlt

    rows = [{"id": i, "kind": kind} for i, kind in enumerate(("Seen", "seen", "bought"))]
    table = (lambda row: row["kind"]) if by_row else "events"
    return dlt.resource(rows, name="events", table_name=table, write_disposition="append")


def test_rows_that_name_their_tables_are_counted_there(tmp_path: Path) -> None:
    """Also when those of an earlier run went to a table that the resource named."""

    def extract(by_row: bool) -> list[tuple[str, int, int]]:
        found = extract_once(made(tmp_path, "kinds", by_row=by_row)).run.reconciliations
        return sorted((r.subject, r.expected, r.found) for r in found)

    assert extract(by_row=False) == [("py_raw.events", 3, 3)]
    assert extract(by_row=True) == [("py_raw.bought", 1, 1), ("py_raw.seen", 2, 2)]


def hinted() -> Any:
    """Rows that name their tables by hints of dlt's: alone, then for all that come after."""
    hints = dlt.mark.make_hints

    @dlt.resource(name="t", write_disposition="merge", primary_key="id")
    def rows() -> Iterator[Any]:
        yield [{"id": 1}, {"id": 2}]
        yield dlt.mark.with_hints({"id": 3}, hints("v"), create_table_variant=True)
        yield dlt.mark.with_table_name([{"id": 4}, {"id": 5}], "w")
        yield {"id": 6}
        yield dlt.mark.with_hints({"id": 7}, hints(table_name="x"))
        yield {"id": 8}

    return rows


def test_rows_that_name_their_tables_by_hints_are_counted_there(tmp_path: Path) -> None:
    settings = made(tmp_path, "hinted")
    for _ in range(2):
        found = extract_once(settings).run.reconciliations
        assert [(r.subject, r.expected, r.found) for r in found] == [("py_raw.t", 3, 3)]
        assert [count(settings, f"py_raw.{t}") for t in "tvwx"] == [3, 1, 2, 2]


def pages(kind: str) -> Any:
    """A page of a shape of its own, then a row."""
    import pandas as pd
    import pyarrow as pa

    table = pa.table({"a": [1, 2]})
    page: Any = {
        "a table": table,
        "several tables": [table.slice(0, 1), table.slice(1)],
        "several frames": [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})],
        "a table without values": pa.table({"a": pa.nulls(2)}),
        "a table and a row": [table, {"a": 2}],
        "a file": dlt.mark.with_file_import("some.parquet", "parquet", 1),
        "a table where rows name theirs": table,
    }[kind]
    named: Any = (lambda row: "t") if kind == "a table where rows name theirs" else "t"
    return dlt.resource([page, {"a": 3}], name="t", write_disposition="append", table_name=named)


@pytest.mark.parametrize(
    "kind", ["a table", "several tables", "several frames", "a table without values"]
)
def test_pages_of_all_shapes_come_whole(tmp_path: Path, kind: str) -> None:
    found = extract_once(settings := made(tmp_path, "pages", kind=kind)).run.reconciliations
    assert [(r.expected, r.found) for r in found] == [(3, 3)]
    assert query(settings, "SELECT count(DISTINCT _dlt_id) FROM py_raw.t") == [(3,)]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a table and a row", "dlt takes no dict among tables"),
        ("a file", "hands over a file"),
        ("a table where rows name theirs", "dlt takes no Table where `table_name` is a function"),
    ],
)
def test_pages_that_dlt_does_not_take_or_count_are_refused(
    tmp_path: Path, kind: str, message: str
) -> None:
    failure = failure_of(made(tmp_path, "pages", kind=kind), ExtractError)
    assert message in failure.message


@pytest.mark.parametrize("way", ["append", "merge"])
def test_arrow_tables_go_on_in_a_raw_table_whose_rows_have_no_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Such as earlier versions made; also where the contract takes no new column."""
    source = {"factory": f"{__name__}:of_arrow", "arguments": {"way": way}}
    settings = settings_of(tmp_path, {"py": source | {"schema_contract": "freeze"}})
    with monkeypatch.context() as before:
        before.setattr(PageStep, "_identify", lambda _, table: table)
        extract_once(settings)
        before.undo()
    extract_once(settings)
    [(rows, ids)] = query(settings, "SELECT count(*), count(DISTINCT _dlt_id) FROM py_raw.t")
    assert (rows, ids) == ((4, 2) if way == "append" else (2, 2))


@pytest.mark.parametrize("column", ["_dlt_id", "hash"])
def test_rows_of_arrow_that_did_not_change_are_no_new_versions(tmp_path: Path, column: str) -> None:
    settings = made(tmp_path, "of_arrow", way="scd2", column=column)
    for _ in range(2):
        extract_once(settings)
    found = query(settings, f"SELECT id, _dlt_valid_to, {column} FROM py_raw.t ORDER BY id")
    assert found == [(1, None, "a"), (2, None, "b")]
    assert query(settings, "SELECT count(DISTINCT _dlt_id) FROM py_raw.t") == [(2,)]


def of_arrow(way: Any, column: str = "") -> Any:
    """Two rows in a table."""
    import pyarrow as pa

    table = pa.table({"id": [1, 2], **({column: ["a", "b"]} if column else {})})
    if way != "scd2":
        return dlt.resource([table], name="t", write_disposition=way, primary_key="id")
    versions: Any = {"disposition": "merge", "strategy": "scd2", "row_version_column_name": column}
    return dlt.resource([table], name="t", write_disposition=versions)


def limited(incremental: bool) -> Any:
    """A resource of which one page is read; by a cursor, the next one in the next run."""
    cursor: Any = dlt.sources.incremental("id", row_order="asc") if incremental else None
    rows = dlt.resource(
        [[{"id": 1}], [{"id": 2}]], name="t", incremental=cursor, write_disposition="append"
    )
    return rows.add_limit(1)


@pytest.mark.parametrize("incremental", [True, False])
def test_limit_that_was_left_in_is_told(tmp_path: Path, incremental: bool) -> None:
    warnings = extract_once(made(tmp_path, "limited", incremental=incremental)).run.warnings
    assert ["add_limit" in w for w in warnings] == ([] if incremental else [True])


def exact(kind: str) -> Any:
    """A column of Arrow's in another type than the one that is declared, which holds its values."""
    import pyarrow as pa

    values: dict[str, Any] = {
        "bigint": Decimal("7.0"),
        "decimal": True,
        "double": 7,
        "date": datetime(2026, 1, 1, tzinfo=UTC),
    }
    columns: Any = {"v": {"data_type": kind}}
    return dlt.resource([pa.table({"v": [values[kind]]})], name="t", columns=columns)


@pytest.mark.parametrize(
    ("kind", "stored"), [("bigint", 7), ("decimal", 1), ("double", 7), ("date", date(2026, 1, 1))]
)
def test_values_of_arrow_that_the_declared_type_holds_are_taken(
    tmp_path: Path, kind: str, stored: object
) -> None:
    extract_once(settings := made(tmp_path, "exact", kind=kind))
    assert query(settings, "SELECT v FROM py_raw.t") == [(stored,)]


@dataclass
class Point:
    x: float


def odd(kind: str) -> Any:
    """A page with something that raw would hold as another value, or not at all."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({"key": ["a", "b"], "v": [1, 2]})
    numbers = pa.table({"v": [1.4, 2.6]})
    page: Any = {
        "a tuple": [{"v": (1.0, math.inf)}],
        "an object": [{"v": Point(-math.inf)}],
        "NaT": [{"v": pd.NaT}],
        "nanoseconds": [{"v": pd.Timestamp("2026-01-01 00:00:00.000000001")}],
        "offset": [{"v": time(1, 2, tzinfo=timezone(timedelta(hours=5)))}],
        "bytes": [{"v": {"w": b""}}],
        "mark": [{"v": "\uf02d12:30"}],
        "named index": frame.set_index("key"),
        "index of texts": frame.set_index("key").rename_axis(None),
        "bigint": numbers,
        "bool": pa.table({"v": [7, 0]}),
        "bool of decimals": pa.table({"v": [Decimal("1.4")]}),
        "bigint of decimals": pa.table({"v": [Decimal("1.4")]}),
        "time": pa.table({"v": [datetime(2026, 1, 1, 5, tzinfo=UTC)]}),
        "date": pa.table({"v": [datetime(2026, 1, 1, 5, tzinfo=UTC)]}),
        "decimal": pa.table({"v": [1.0000000001]}),
    }[kind]
    typed: Any = (
        {"v": {"data_type": kind.partition(" ")[0]}} if isinstance(page, pa.Table) else None
    )
    return dlt.resource([page], name="t", columns=typed, write_disposition="append")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a tuple", "an infinite number at $.v"),
        ("an object", "an infinite number at $.v.x"),
        ("NaT", "NaT of pandas at $.v"),
        ("nanoseconds", "nanoseconds at $.v"),
        ("offset", "a time of day with an offset at $.v"),
        ("bytes", "bytes of length 0 at $.v.w"),
        ("mark", "a text that begins with U+F02D"),
        ("named index", "an index (key)"),
        ("index of texts", "an index (without a name)"),
        ("bigint", "would round or cut"),
        ("bool", "would round or cut"),
        ("bool of decimals", "would round or cut"),
        ("bigint of decimals", "would round or cut"),
        ("time", "would round or cut"),
        ("date", "would round or cut"),
        ("decimal", "would round or cut"),
    ],
)
def test_what_raw_would_hold_as_another_value_is_refused(
    tmp_path: Path, kind: str, message: str
) -> None:
    failure = failure_of(made(tmp_path, "odd", kind=kind), SchemaError)
    assert message in failure.message


def plain() -> Any:
    """Pages whose values stay what they are."""
    import pandas as pd
    import pyarrow as pa

    texts = {"x": "\uf02b", "y": "\uf026 icon", "z": (1.5, "a")}
    table = pa.table({"id": [3, 4], "n": [1.0, None], "d": [1.5, 0.1], "b": [1, 0]})
    frame = pd.DataFrame({"id": [5, 6, 7]}).query("id > 5")
    types = {"n": "bigint", "d": "decimal", "b": "bool"}
    columns: Any = {name: {"data_type": kind} for name, kind in types.items()}
    pages: list[Any] = [[{"id": 1, **texts}], table]

    @dlt.source(name="py")
    def source() -> Any:
        yield dlt.resource(pages, name="t", columns=columns, write_disposition="append")
        yield dlt.resource([frame], name="u", write_disposition="append")

    return source()


def test_what_raw_holds_as_it_is_is_taken(tmp_path: Path) -> None:
    extract_once(settings := made(tmp_path, "plain"))
    assert query(settings, "SELECT id, n, d::DOUBLE, b FROM py_raw.t ORDER BY id") == [
        (1, None, None, None), (3, 1, 1.5, True), (4, None, 0.1, False)]  # fmt: skip
    assert query(settings, "SELECT id FROM py_raw.u ORDER BY id") == [(6,), (7,)]
    assert query(settings, "SELECT x, y FROM py_raw.t WHERE id = 1") == [("\uf02b", "\uf026 icon")]


def typed() -> Any:
    """Rows whose values come in several types, the narrower one first."""
    days = [date(2026, 1, 1), *(datetime(2026, 1, d, h, tzinfo=UTC) for d, h in ((2, 0), (3, 5)))]
    numbers: list[Any] = [0.5, Decimal("0.1"), Decimal("12345678901234567.89")]
    rows = [{"d": d, "n": n} for d, n in zip(days, numbers, strict=True)]
    return dlt.resource([rows], name="t", write_disposition="append")


def test_value_that_its_column_would_cut_goes_to_one_of_its_own(tmp_path: Path) -> None:
    extract_once(settings := made(tmp_path, "typed"))
    found = query(settings, "SELECT d, d__v_timestamp, n, n__v_decimal FROM py_raw.t ORDER BY ALL")
    assert found == [
        (date(2026, 1, 1), None, 0.5, None),
        (date(2026, 1, 2), None, 0.1, None),
        (None, datetime(2026, 1, 3, 5, tzinfo=UTC), None, Decimal("12345678901234567.89")),
    ]


def two_ways() -> Any:
    """Two resources of a table, of which one replaces it."""

    @dlt.source(name="py")
    def source() -> Any:
        ways: Any = {"a": "append", "b": "replace"}
        for name, way in ways.items():
            yield dlt.resource([{"n": 1}], name=name, table_name="t", write_disposition=way)

    return source()


def test_resources_of_a_table_say_one_write_disposition(tmp_path: Path) -> None:
    failure = failure_of(made(tmp_path, "two_ways"), ConfigError)
    assert "dlt would heed one" in failure.message


def by_day(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of an object that has them by day."""
    yield from ({"day": day, "rate": rate} for day, rate in row["rates"].items())


@pytest.mark.parametrize("is_default", [False, True])
def test_processing_steps_are_functions_that_the_settings_name(
    tmp_path: Path, is_default: bool
) -> None:
    rates = {"2026-01-01": 1.5, "2026-01-02": 1.75}
    resource = {
        "name": "rates",
        "write_disposition": "merge",
        "primary_key": "day",
        "endpoint": {"path": "rates", "data_selector": "$"},
    }
    steps = {"processing_steps": [{"yield_map": f"{__name__}:by_day"}]}
    with serving(lambda *_: {"base": "EUR", "rates": rates}) as api:
        given = resource if is_default else resource | steps
        source: dict[str, Any] = {"client": {"base_url": api.url}, "resources": [given]}
        source |= {"resource_defaults": steps} if is_default else {}
        ctx = extract_once(settings := settings_of(tmp_path, {"api": source}))
    assert query(settings, "SELECT day::TEXT, rate FROM api_raw.rates ORDER BY 1") == [
        *rates.items()
    ]
    assert [(r.expected, r.agrees) for r in ctx.run.reconciliations] == [(2, True)]


def in_millis(seconds: int) -> int:
    return seconds * 1000


def forgetful(row: dict[str, Any], meta: Any) -> None:
    row["seen"] = meta


def test_cursor_is_converted_by_a_function_that_the_settings_name(tmp_path: Path) -> None:
    cursor = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
    cursor["convert"] = f"{__name__}:in_millis"
    with serving(lambda *_: [{"id": 1, "at": 5}]) as api:
        source = {"client": {"base_url": api.url}, "resources": [things(incremental=cursor)]}
        for _ in range(2):
            extract_once(settings_of(tmp_path, {"api": source}))
        assert [asked["since"] for _, asked, _ in api.asked] == ["0", "5000"]


def test_map_that_returns_nothing_is_told(tmp_path: Path) -> None:
    """dlt would take None for a row without values."""
    resource = things() | {"processing_steps": [{"map": f"{__name__}:forgetful"}]}
    with serving(lambda *_: [{"id": 1}]) as api:
        source = {"client": {"base_url": api.url}, "resources": [resource]}
        [found] = failures_of(settings_of(tmp_path, {"api": source}))
    assert type(found) is ExtractError
    assert "forgetful, a `map` of the `processing_steps`, gave None" in found.message


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no_module": ({"factory": "no_such_module:f"}, "cannot be imported"),
    "no_name": ({"factory": "{}:no_such"}, "cannot be imported"),
    "no_source": (
        {"factory": "{}:nothing"},
        "returned int, not a dlt source, a resource or a list of resources",
    ),
    "no_resources": ({"factory": "{}:rows"}, "returned list of dict, not a dlt source"),
    "no_step": (
        {
            "client": {"base_url": "http://api.test"},
            "resources": [{"name": "a", "processing_steps": [{"map": "rename"}]}],
        },
        "rename cannot be imported",
    ),
    "no_argument": ({"factory": "{}:nothing", "arguments": {"x": 1}}, "does not accept them"),
}


def test_factory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path, factory: str) -> None:
    sources = {
        name: given | {k: v.format(factory) for k, v in given.items() if k == "factory"}
        for name, (given, _) in UNUSABLE.items()
    }
    failures = failures_of(settings_of(tmp_path, sources))
    assert len(failures) == len(UNUSABLE)
    for name, (_, message) in UNUSABLE.items():
        (failure,) = [f for f in failures if f.message.startswith(f"sources.{name}.")]
        assert type(failure) is ConfigError, name
        assert message in failure.message, name


def test_factory_that_fails_when_it_is_called_holds_back_its_source_alone(
    tmp_path: Path, factory: str
) -> None:
    names = {
        "away": "unreachable", "wrong": "mistaken", "typed": "miscalled", "twice": "doubled",
        "pair": "paired", "none": "endless", "well": "alone",
    }  # fmt: skip
    sources = {name: {"factory": f"{factory}:{function}"} for name, function in names.items()}
    settings = settings_of(tmp_path, sources)
    found = {f.subject: type(f) for f in failures_of(settings)}
    assert found == {
        "away": NotReachedError, "wrong": EtlError, "typed": EtlError, "twice": ConfigError,
        "pair": ConfigError, "none": ConfigError,
    }  # fmt: skip
    assert count(settings, "well_raw.alone") == 5


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("closed port", UnreachableError),
        ("slow", UnreachableError),
        ("no such host", UnreachableError),
        ("database is away", UnreachableError),
        ("no such table", ExtractError),
        ("interval", ExtractError),
        ("no driver", ConfigError),
        ("infinite", SchemaError),
    ],
)
def test_what_a_factory_fails_with_has_its_class(
    tmp_path: Path, factory: str, kind: str, failure: type[EtlError]
) -> None:
    found = failure_of(made(tmp_path, f"{factory}:read_by", kind=kind), failure)
    assert found.subject.startswith("py")
    assert ("infinite number at $.of.v" in found.message) == (kind == "infinite")


class OperationalError(Exception):
    """As PEP 249 names what drivers raise when they cannot connect."""


def orders(credentials: str) -> Any:
    from dlt.sources.sql_database import sql_table

    return sql_table(credentials, "orders", backend="pyarrow", write_disposition="replace")


def timed(arrow: bool, declared: bool) -> Any:
    """A row with a time that has no zone."""
    import pyarrow as pa

    at = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  a time without a zone is what is asked
    row = pa.table({"at": [at]}) if arrow else {"at": at}
    columns: Any = {"at": {"data_type": "timestamp", "timezone": False}} if declared else None
    return dlt.resource([row], name="t", columns=columns)


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("arrow", [False, True])
def test_time_without_a_zone_is_taken_for_utc_unless_it_is_declared(
    tmp_path: Path, arrow: bool, declared: bool
) -> None:
    extract_once(settings := made(tmp_path, "timed", arrow=arrow, declared=declared))
    stored = query(settings, 'SELECT typeof("at"), CAST("at" AS VARCHAR) FROM py_raw.t')
    kept, taken = ("TIMESTAMP", ""), ("TIMESTAMP WITH TIME ZONE", "+00")
    kind, zone = kept if declared else taken
    assert stored == [(kind, f"2026-01-02 03:04:05{zone}")]


def test_sql_table_declares_times_without_a_zone(tmp_path: Path) -> None:
    database = tmp_path / "erp.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE orders (at DATETIME)")
        connection.execute("INSERT INTO orders VALUES ('2026-01-02 03:04:05.000000')")
    extract_once(settings := made(tmp_path, "orders", credentials=f"sqlite:///{database}"))
    stored = query(settings, 'SELECT typeof("at"), CAST("at" AS VARCHAR) FROM py_raw.orders')
    assert stored == [("TIMESTAMP", "2026-01-02 03:04:05")]


def driven(arguments: list[Any]) -> Any:
    @dlt.resource
    def rows() -> Any:
        raise OperationalError(*arguments)

    return rows


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (["28000", "no"], AuthError),
        ([1045, "no"], AuthError),
        (["08001", "no"], UnreachableError),
        ([2003, "no"], UnreachableError),
        (["28 cars were in the way"], UnreachableError),
    ],
)
def test_log_in_that_a_driver_calls_rejected_is_no_unreachable_server(
    tmp_path: Path, arguments: list[Any], failure: type[EtlError]
) -> None:
    """By the SQLSTATE of pyodbc's errors, and the number of PyMySQL's."""
    source = {"factory": f"{__name__}:driven", "arguments": {"arguments": arguments}}
    [found] = failures_of(settings_of(tmp_path, {"py": source}))
    assert type(found) is failure


@pytest.mark.parametrize(
    ("user", "password", "failure"),
    [
        ("etl", PASSWORD, None),
        ("etl", "wrong", AuthError),
        ("etl", "", AuthError),
        ("etl", "away", UnreachableError),
    ],
)
def test_log_in_that_postgresql_rejects_is_no_unreachable_server(
    tmp_path: Path, postgres: Server, user: str, password: str, failure: type[EtlError] | None
) -> None:
    database = postgres.create_database()
    with postgres.admin(database) as admin:
        admin.execute("CREATE TABLE orders AS SELECT 1 AS id; GRANT SELECT ON orders TO etl")
    host = tmp_path if password == "away" else postgres.folder
    url = f"postgresql+psycopg://{user}:{quote(password, safe='')}@/{database}?host={host}"
    source = {"factory": f"{__name__}:orders", "arguments": {"credentials": url}}
    settings = settings_of(tmp_path, {"db": source})
    if failure is None:
        extract_once(settings)
        assert count(settings, "db_raw.orders") == 1
        return
    [found] = failures_of(settings)
    assert type(found) is failure
    assert "wrong" not in found.message


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize("way", ["argument", "default", "hint"])
def test_row_of_a_factory_that_changed_without_its_cursor_is_merged(
    tmp_path: Path, factory: str, way: str, arrow: bool
) -> None:
    """By its key dlt would take it for the row that was read before, at the same day."""
    counted = []
    for state in ("new", "changed", "changed"):
        rows = [{"id": n, "at": "2026-01-02", "state": state} for n in (1, 2)]
        settings = made(tmp_path, f"{factory}:changed", way=way, rows=rows, arrow=arrow)
        ctx = extract_once(settings)
        assert query(settings, "SELECT DISTINCT state FROM py_raw.rows") == [(state,)]
        counted.append(ctx.run.sources[0].rows)
    assert counted == [2, 2, 0]  # what was read before is known again


def test_factory_that_lacks_a_package_is_told_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt's own source for databases, say, without SQLAlchemy."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for name in list(sys.modules):
        if name.startswith(("dlt.sources.sql_database", "dlt.common.libs.sql_alchemy")):
            monkeypatch.delitem(sys.modules, name)
    source = {"factory": "dlt.sources.sql_database:sql_database"}
    [found] = failures_of(settings_of(tmp_path, {"db": source}))
    assert type(found) is ConfigError
    assert found.hint == "pip install 'dlt[sql_database]'"


def test_dry_run_asks_nothing_and_writes_nothing(tmp_path: Path) -> None:
    with serving(answer) as api:
        settings = reading(tmp_path, api.url, things(path="since"))
        ctx = extract_once(settings, context(settings, dry_run=True))
    assert ctx.run.plan == ["extract api.things → api_raw.things (append)"]
    assert api.asked == []
    assert not settings.data.exists()
