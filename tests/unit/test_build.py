"""What the builder refuses, and what it prepares before the first request."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ConfigError
from etl.settings import Source
from etl.sources.build import build_source
from etl.sources.monitor import Monitor


def build(**source: Any) -> tuple[Any, Monitor]:
    settings = Source.model_validate({"client": {"base_url": "http://api.test/"}} | source)
    monitor = Monitor("api", settings)
    built, _ = build_source(
        "api",
        settings,
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
    with pytest.raises(ConfigError, match=r"^sources\.api: "):
        build(**source)


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
        "api",
        settings,
        Monitor("api", settings),
        project=Path(),
        snapshot_date=date(2026, 1, 2),
        wait=lambda _: None,
        first=first,
    )
    assert built.schema_contract == expected
