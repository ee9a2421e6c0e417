"""What the builder refuses, and what it prepares before the first request."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import dlt
import pytest

from etl.errors import ConfigError
from etl.settings import Source
from etl.sources.build import build_source
from etl.sources.monitor import Monitor

OAUTH = {"type": "oauth2_client_credentials", "access_token_url": "http://api.test/token",
         "client_id": "c", "client_secret": "hidden-t0ken"}  # fmt: skip


def build(**source: Any) -> tuple[Any, Monitor]:
    settings = Source.model_validate({"client": {"base_url": "http://api.test/"}} | source)
    monitor = Monitor("api", settings)
    built, _ = build_source(
        monitor,
        project=Path(),
        snapshot_date=date(2026, 1, 2),
        wait=lambda _: None,
    )
    return built, monitor


@pytest.mark.parametrize(
    "source",
    [
        {"resources": [{"name": "a", "endpoint": {"path": "a", "paginator": "no_such"}}]},
        {"resources": [{"name": "a", "endpoint": {"path": "a", "no_such_key": 1}}]},
        {"resources": [{"name": "a", "endpoint": {"path": "a", "data_selector": "$.["}}]},
        {"resources": [{"name": "a", "endpoint": {"path": "x/{resources.b.id}"}}]},
        {"resources": ["a"], "client": {"no_such_key": 1}},
        {"resources": ["a"], "resource_defaults": {"no_such_key": 1}},
        {"resources": [{"endpoint": {"path": "a"}}]},
        {"resources": ["a", "a"]},
    ],
)
def test_what_dlt_does_not_accept_is_a_configuration_error(source: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^sources\.api(\.\S+)?: "):
        build(**source)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "for_each.g names none"),
        (["a", "a"], "for_each.g names one twice"),
        (["a"], "b is asked for by rows of a, which `for_each` repeats"),
    ],
)
def test_values_that_would_ask_nothing_or_twice_are_refused(values: list[str], told: str) -> None:
    """What nobody asks for would stay in raw as it is."""
    child = {"name": "b", "endpoint": {"path": "b/{resources.a.id}"}}
    resources = ["c", {"name": "a", "endpoint": {"path": "a/{g}"}}, child]
    with pytest.raises(ConfigError, match=told):
        build(resources=resources, for_each={"g": values})


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            {"client": {"auth": {"type": "baerer", "token": "hidden-t0ken"}}, "resources": ["a"]},
            r"^sources\.api\.client\.auth: field `type=baerer` is not one of: .*'bearer'",
        ),
        (
            {"client": {"auth": OAUTH | {"scope": "hidden-t0ken"}}, "resources": ["a"]},
            r"^sources\.api\.client\.auth: received unexpected fields `{.*'scope'.*}`$",
        ),
        (
            {"client": {"headrs": {}}, "resources": ["a"]},
            r"^sources\.api\.client: received unexpected fields `{'headrs'}`$",
        ),
        (
            {"resources": ["a", {"name": "b", "endpoint": {"path": "b", "selector": "x"}}]},
            r"^sources\.api\.resources\[b\]\.endpoint: received unexpected fields `{'selector'}`$",
        ),
        (
            {"resources": [{"name": "b", "write_disposition": "apend"}]},
            r"^sources\.api\.resources\[b\]: field `write_disposition=apend` is not one of: \[",
        ),
    ],
)
def test_the_setting_that_dlt_refuses_is_named_and_no_value_beside_it(
    source: dict[str, Any], told: str
) -> None:
    client = {"base_url": "http://api.test/"} | source.pop("client", {})
    with pytest.raises(ConfigError, match=told) as refused:
        build(client=client, **source)
    assert "t0ken" not in refused.value.message
    assert "object at 0x" not in refused.value.message


@pytest.mark.parametrize(
    ("auth", "absent"),
    [
        ({"type": "bearer"}, ["TOKEN"]),
        ("bearer", ["TOKEN"]),
        ({"type": "bearer", "token": None}, ["TOKEN"]),
        ({"type": "api_key", "name": "X-Key"}, ["API_KEY"]),
        ({"type": "http_basic", "username": "ann"}, ["PASSWORD"]),
        ({"type": "http_basic"}, ["USERNAME", "PASSWORD"]),
    ],
)
def test_credentials_that_are_missing_are_named_with_their_variables(
    auth: Any, absent: list[str]
) -> None:
    with pytest.raises(ConfigError, match=r"^sources\.api: client\.auth\.\S+ .*missing$") as e:
        build(client={"base_url": "http://api.test/", "auth": auth}, resources=["a"])
    assert all(f"ETL_SOURCES__API__CLIENT__AUTH__{key}" in e.value.hint for key in absent)


def test_resources_of_a_placeholder_share_one_table() -> None:
    resource = {"name": "a", "endpoint": {"path": "x/{who}/{what}"}}
    built, monitor = build(
        resources=[resource, "b"], for_each={"who": ["ann", "bob"], "what": ["p", "q"]}
    )
    names = ["a[ann][p]", "a[ann][q]", "a[bob][p]", "a[bob][q]"]
    assert sorted(built.resources) == [*names, "b"]
    assert monitor.tables == dict.fromkeys(names, "a") | {"b": "b"}


def test_incremental_resources_are_known() -> None:
    cursor = {"cursor_path": "id", "start_param": "since"}
    by_parameter = {"since": {"type": "incremental", "cursor_path": "id"}}
    _, monitor = build(
        resources=[
            {"name": "a", "endpoint": {"path": "a", "incremental": cursor}},
            {"name": "b", "endpoint": {"path": "b", "params": by_parameter}},
            {"name": "c", "endpoint": {"path": "c", "params": {"since": "2020"}}},
        ]
    )
    assert monitor.incremental == {"a", "b"}


def family(parent: str, child: str) -> dict[str, Any]:
    """An incremental resource, what is read for each of its rows, and again for each of these."""
    cursor = {"cursor_path": "id", "start_param": "since"}
    return {
        "resources": [
            {
                "name": "a",
                "write_disposition": parent,
                "primary_key": "id",
                "endpoint": {"path": "a", "incremental": cursor},
            },
            {"name": "b", "endpoint": {"path": "a/{resources.a.id}/b"}},
            {
                "name": "c",
                "write_disposition": child,
                "primary_key": "id",
                "endpoint": {"path": "b/{resources.b.id}/c"},
            },
        ]
    }


@pytest.mark.parametrize(
    ("parent", "child", "incremental"),
    [("merge", "merge", {"a", "b", "c"}), ("replace", "replace", {"a"})],
)
def test_what_is_read_for_new_rows_only_is_incremental(
    parent: str, child: str, incremental: set[str]
) -> None:
    _, monitor = build(**family(parent, child))
    assert monitor.incremental == incremental


def test_what_is_read_for_new_rows_only_replaces_nothing() -> None:
    with pytest.raises(ConfigError, match=r"^sources\.api: c says `replace`.* new rows of a only"):
        build(**family("append", "replace"))


@pytest.mark.parametrize(
    ("contract", "first", "expected"),
    [
        ("freeze", False, {"tables": "freeze", "columns": "freeze", "data_type": "freeze"}),
        ("freeze", True, {"tables": "evolve", "columns": "freeze", "data_type": "freeze"}),
        ({"columns": "discard_row"}, False, {"columns": "discard_row"}),
        (None, False, None),
    ],
)
def test_contract_holds_from_the_second_extraction_on(
    contract: Any, first: bool, expected: Any
) -> None:
    settings = Source.model_validate(
        {
            "client": {"base_url": "http://api.test/"},
            "resources": ["a"],
            "schema_contract": contract,
        }
    )
    built, _ = build_source(
        Monitor("api", settings),
        project=Path(),
        snapshot_date=date(2026, 1, 2),
        wait=lambda _: None,
        first=first,
    )
    assert built.schema_contract == expected


def many() -> Any:
    """More resources than Python calls itself, each with one row."""

    @dlt.source(name="many")
    def source() -> Any:
        return [dlt.resource([{"n": n}], name=f"r{n}") for n in range(1200)]

    return source()


def test_more_resources_than_python_calls_itself_are_read() -> None:
    monitor = Monitor("many", Source.model_validate({"factory": f"{__name__}:many"}))
    built, _ = build_source(
        monitor, project=Path(), snapshot_date=date(2026, 1, 2), wait=lambda _: None
    )
    assert len(list(built)) == sum(monitor.rows.values()) == 1200
