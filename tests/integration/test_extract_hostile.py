"""APIs that answer 200 with what nobody expects: nothing is lost, changed or poisoned silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.errors import SchemaError
from etl.settings import Settings
from tests.integration.extracting import (
    Api,
    count,
    extract_once,
    failures_of,
    pending,
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
