"""Names and starts that change while a cursor and the rows that it stands for are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dlt
import pytest

from etl.errors import ConfigError
from etl.settings import Settings
from tests.integration.extracting import (
    context,
    count,
    extract_once,
    failure_of,
    reading,
    serving,
    settings_of,
)

FACTORY = f"{__name__}:reading_as"
ROWS = [{"id": n, "at": f"2026-01-0{n}"} for n in (1, 2, 3)]


def reading_as(
    name: str, resource: str = "events", table: str = "events", start: str | None = None
) -> dlt.sources.DltSource:
    """A factory: events by a cursor, in a dlt source of this name."""

    @dlt.resource(name=resource, table_name=table, primary_key="id", write_disposition="append")
    def events(at: object = dlt.sources.incremental("at", initial_value=start)) -> object:
        yield ROWS

    return dlt.source(lambda: events, name=name)()


@pytest.mark.parametrize("full_refresh", [False, True])
def test_dlt_source_of_another_name_is_refused_where_rows_stand(
    tmp_path: Path, full_refresh: bool
) -> None:
    """Its cursors are kept under its name: all would be read and appended again."""
    source = {"factory": FACTORY, "arguments": {"name": "crm"}}
    settings = settings_of(tmp_path, {"py": source})
    for _ in range(2):
        extract_once(settings)
    source["arguments"] = {"name": "sales"}
    settings = settings_of(tmp_path, {"py": source})
    failure = failure_of(settings, ConfigError, context(settings, full_refresh=full_refresh))
    assert failure.message.startswith("py: raw's tables were loaded as dlt's source crm, and this")
    assert '@dlt.source(name="crm")' in failure.hint
    assert count(settings, "py_raw.events") == 3


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"table": "log"}, "the rows of events went to events and would go to log, which"),
        ({"resource": "log"}, "the rows of events were read as events: as log all would"),
    ],
)
def test_cursor_and_table_that_come_apart_are_refused(
    tmp_path: Path, named: dict[str, str], said: str
) -> None:
    def reads(**names: str) -> Settings:
        source = {"factory": FACTORY, "arguments": {"name": "crm"} | names}
        return settings_of(tmp_path, {"py": source})

    for _ in range(2):
        extract_once(reads())
    failure = failure_of(reads(**named), ConfigError)
    assert failure.message.startswith(f"py: {said}")
    extract_once(reads(**named), context(reads(**named), full_refresh=True))
    extract_once(reads(**named))
    assert count(reads(), f"py_raw.{named.get('table', 'events')}") == 3


@pytest.mark.parametrize(
    ("start", "is_told"),
    [("2026-01-01", True), (None, True), ("2026-01-02", False), ("2026-01-03", False)],
)
def test_start_that_is_lowered_is_told(tmp_path: Path, start: str | None, is_told: bool) -> None:
    """dlt goes on from where the cursor stands: the rows before the earlier start stay unread."""

    def reads(since: str | None) -> Settings:
        source = {"factory": FACTORY, "arguments": {"name": "crm", "start": since}}
        return settings_of(tmp_path, {"py": source})

    extract_once(reads("2026-01-02"))
    ctx = context(reads(start))
    extract_once(reads(start), ctx)
    assert [f"initial_value ({start})" in w for w in ctx.run.warnings] == [True] * is_told
    assert count(reads(start), "py_raw.events") == 2
    ctx = context(reads(start), full_refresh=True)
    extract_once(reads(start), ctx)
    assert ctx.run.warnings == []


def is_odd(row: dict[str, Any]) -> bool:
    return bool(row["id"] % 2)


SINCE = {"type": "incremental", "cursor_path": "id", "initial_value": 0}
ASKED = {"status": "open", "since": SINCE, "api_key": "abc"}
OPEN = {"path": "rows", "params": ASKED}


@pytest.mark.parametrize(
    ("endpoint", "more", "changed"),
    [
        (OPEN | {"method": "GET"}, {}, None),
        (OPEN | {"params": ASKED | {"per_page": 5, "api_key": "renewed"}}, {}, None),
        (OPEN | {"params": ASKED | {"since": SINCE | {"initial_value": 1}}}, {}, None),
        (OPEN | {"params": ASKED | {"status": "all"}}, {}, "params.status"),
        ({"path": "all", "params": {"since": SINCE}}, {}, "params.api_key, params.status, path"),
        (OPEN, {"processing_steps": [{"filter": f"{__name__}:is_odd"}]}, "processing_steps"),
    ],
    ids=["as it was", "page size and key", "start", "parameter", "path", "filter"],
)
def test_request_that_changes_behind_a_cursor_is_told_once(
    tmp_path: Path, endpoint: dict[str, Any], more: dict[str, Any], changed: str | None
) -> None:
    def told(settings: Settings, **options: Any) -> list[str]:
        ctx = context(settings, **options)
        extract_once(settings, ctx)
        return [w for w in ctx.run.warnings if "asks otherwise" in w]

    with serving(lambda *_: [{"id": 7}]) as api:

        def reads(endpoint: dict[str, Any], **more: Any) -> Settings:
            rows = {"name": "rows", "write_disposition": "append", "endpoint": endpoint}
            return reading(tmp_path, api.url, rows | more)

        assert told(reads(OPEN)) == []
        found = told(reads(endpoint, **more))
        assert [f"({changed})" in line for line in found] == [True] * (changed is not None)
        assert told(reads(endpoint, **more)) == []
        assert told(reads(OPEN), full_refresh=True) == []
