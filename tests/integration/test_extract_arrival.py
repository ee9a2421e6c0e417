"""What came from an API is counted in raw, however often a process dies or the count differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.arrival import FILE, uncounted
from etl.backlog import half_loaded
from etl.errors import EtlError, ReconciliationError
from etl.raw.packages import Packages
from etl.raw.pipeline import Raw
from etl.settings import Settings
from tests.duckdb_files import opened
from tests.integration.extracting import (
    Api,
    Killed,
    context,
    extract_once,
    failure_of,
    failures_of,
    query,
    serving,
    settings_of,
)

NEWS = {
    "name": "rows",
    "write_disposition": "append",
    "endpoint": {
        "path": "rows",
        "data_selector": "items",
        "params": {"since": {"type": "incremental", "cursor_path": "id", "initial_value": 0}},
    },
}
LOSE = "DELETE FROM api_raw.rows WHERE id = 2"
LOST = "2 rows came from the API, 1 stand in raw"
STRICT = {"schema_contract": {"columns": "discard_row"}}


class Source:
    """An API whose rows grow, and the settings that read it."""

    def __init__(self, folder: Path, api: Api, items: list[dict[str, Any]]) -> None:
        self.folder, self.api, self.items = folder, api, items

    def settings(self, **more: Any) -> Settings:
        client = {"base_url": self.api.url}
        return settings_of(self.folder, {"api": {"client": client, "resources": [NEWS]} | more})

    def ids(self) -> list[int]:
        return [r[0] for r in query(self.settings(), "SELECT id FROM api_raw.rows ORDER BY 1")]

    def change(self, sql: str) -> None:
        with opened(self.settings().warehouse) as connection:
            connection.execute(sql)

    def difference(self) -> EtlError:
        """What an extraction ends with that finds one."""
        return failure_of(self.settings(), ReconciliationError)

    def kill(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, **more: Any) -> None:
        """Extract, and die as soon as this function is called."""

        def die(*_: Any, **__: Any) -> Any:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(Killed):
                extract_once(self.settings(**more))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    items: list[dict[str, Any]] = [{"id": 1}]
    with serving(lambda *_: {"items": items}) as api:
        found = Source(tmp_path, api, items)
        extract_once(found.settings())
        items[:] = [{"id": 1}, {"id": 2}, {"id": 3}]
        yield found


@pytest.fixture
def lossy(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A row was lost on its way into raw, and the run ended with 12."""
    commit = Raw.commit

    def lose(raw: Raw) -> Any:
        done = commit(raw)
        with raw.connection() as connection:
            connection.execute(LOSE)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Raw, "commit", lose)
        assert LOST in source.difference().message
    return source


def test_difference_is_found_again_before_anything_is_extracted(lossy: Source) -> None:
    asked = len(lossy.api.asked)
    for _ in range(2):
        found = lossy.difference()
        assert LOST in found.message
        assert "--full-refresh --source api" in found.hint
    assert len(lossy.api.asked) == asked


def test_rows_put_right_by_hand_end_the_difference(lossy: Source) -> None:
    lossy.change("INSERT INTO api_raw.rows SELECT * REPLACE (2 AS id, 'x' AS _dlt_id) "
                 "FROM api_raw.rows WHERE id = 3")  # fmt: skip
    lossy.items.append({"id": 4})
    ctx = extract_once(lossy.settings())
    assert lossy.ids() == [1, 2, 3, 4]
    assert [(r.expected, r.found) for r in ctx.run.reconciliations] == [(2, 2), (1, 1)]
    assert extract_once(lossy.settings()).run.reconciliations == []


def test_full_refresh_ends_the_difference(lossy: Source) -> None:
    settings = lossy.settings()
    extract_once(settings, context(settings, full_refresh=True))
    assert lossy.ids() == [1, 2, 3]
    extract_once(settings)
    assert lossy.ids() == [1, 2, 3]


def test_full_refresh_that_fails_does_not_end_the_difference(lossy: Source) -> None:
    settings = lossy.settings()
    lossy.items.clear()
    failures_of(settings, context(settings, full_refresh=True))
    assert LOST in lossy.difference().message


def test_models_wait_until_the_difference_is_gone(lossy: Source) -> None:
    settings = lossy.settings()
    [load_id] = uncounted(settings, "api")
    dry = extract_once(settings, context(settings, dry_run=True))
    assert f"extract api: would first finish and count the package {load_id}" in dry.run.plan
    extract_once(settings, context(settings, full_refresh=True))
    assert uncounted(settings, "api") == []


def test_unreadable_note_is_a_difference(lossy: Source) -> None:
    (lossy.settings().dlt_dir / "api" / FILE).write_text("{}")
    assert FILE in lossy.difference().message


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Raw, "commit"), (Packages, "note_discards"), (Raw, "_load"), (Packages, "drop_old")],
)
def test_package_of_a_killed_run_is_counted(
    source: Source, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    source.kill(monkeypatch, owner, name)
    # Models wait for what is in raw and was not counted, not for what has yet to come there.
    assert len(uncounted(source.settings(), "api")) == (name == "drop_old")
    assert half_loaded(source.settings(), "api") == []
    ctx = extract_once(source.settings())
    assert source.ids() == [1, 2, 3]
    assert [(r.expected, r.found) for r in ctx.run.reconciliations] == [(2, 2)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, LOST),
        (STRICT, "1 rows came from the API besides 1 that the schema contract discards, 0 stand"),
    ],
    ids=["", "discarded"],
)
def test_row_that_a_killed_run_lost_is_missed(
    source: Source, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], says: str
) -> None:
    source.items[2]["new"] = True
    source.kill(monkeypatch, Packages, "drop_old", **more)
    source.change(LOSE)
    assert says in source.difference().message


def test_rows_that_a_killed_run_discarded_are_known(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.items[1]["new"] = True
    source.kill(monkeypatch, Raw, "_load", **STRICT)
    ctx = extract_once(source.settings(**STRICT))
    assert source.ids() == [1, 3]
    [found] = ctx.run.reconciliations
    assert (found.expected, found.found, found.discarded) == (1, 1, 1)
    assert [d.rows for s in ctx.run.sources for d in s.discarded] == [1]


def test_package_whose_discards_are_unknown_is_not_counted(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.items[1]["new"] = True
    source.kill(monkeypatch, Packages, "note_discards", **STRICT)
    ctx = extract_once(source.settings(**STRICT))
    assert source.ids() == [1, 3]
    assert ctx.run.reconciliations == []
    assert any(w.startswith("api_raw.rows was not counted") for w in ctx.run.warnings)
