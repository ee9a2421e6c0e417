"""A write disposition that changes loses no nested row, and leaves none that is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ConfigError, SchemaError
from etl.raw.pipeline import Raw
from etl.settings import Settings
from tests.integration.extracting import (
    Api,
    Killed,
    context,
    extract_once,
    failure_of,
    pending,
    query,
    reading,
    serving,
    settings_of,
)

KEY = {"primary_key": "id"}
HINTS: dict[str, dict[str, Any]] = {
    "append": {"write_disposition": "append"},
    "delete-insert": {"write_disposition": "merge"} | KEY,
    "upsert": {"write_disposition": {"disposition": "merge", "strategy": "upsert"}} | KEY,
    "by a": {"write_disposition": "merge", "primary_key": "a"},
    "scd2": {"write_disposition": {"disposition": "merge", "strategy": "scd2"}},
}
BEFORE = [{"id": 1, "labels": [{"a": 1}, {"a": 2}]}, {"id": 2, "labels": [{"a": 3}]}]
AFTER = [{"id": 1, "labels": [{"a": 1}, {"a": 9}]}, {"id": 2, "labels": [{"a": 3}]}]


class Source:
    """An API of rows with nested ones."""

    def __init__(self, folder: Path, api: Api, rows: list[Any]) -> None:
        self.folder, self.api, self.rows = folder, api, rows

    def settings(self, hints: str, **more: Any) -> Settings:
        resource = {"name": "rows", "endpoint": {"path": "rows"}} | HINTS[hints] | more
        return reading(self.folder, self.api.url, resource, required=False)

    def nested(self) -> list[int]:
        found = query(self.settings("append"), "SELECT a FROM api_raw.rows__labels ORDER BY 1")
        return [a for (a,) in found]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    rows = list(BEFORE)
    with serving(lambda *_: rows) as api:
        yield Source(tmp_path, api, rows)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("append", "delete-insert"),
        ("delete-insert", "upsert"),
        ("scd2", "upsert"),
        ("scd2", "delete-insert"),
    ],
)
def test_change_that_would_lose_track_of_nested_rows_is_refused_but_for_a_full_refresh(
    source: Source, before: str, after: str
) -> None:
    extract_once(source.settings(before))
    source.rows[:] = AFTER
    settings = source.settings(after)
    asked = len(source.api.asked)
    for _ in range(2):
        failure = failure_of(settings, ConfigError)
        assert f"rows from {before} to {after}" in failure.message
        assert "--full-refresh --source api" in failure.hint
    assert len(source.api.asked) == asked
    assert source.nested() == [1, 2, 3]
    extract_once(settings, context(settings, full_refresh=True))
    assert source.nested() == [1, 3, 9]
    source.rows[:] = BEFORE
    extract_once(settings)
    assert source.nested() == [1, 2, 3]


@pytest.mark.parametrize(
    ("before", "after", "nested"),
    [("upsert", "delete-insert", [1, 3, 9]), ("delete-insert", "append", [1, 1, 2, 3, 3, 9])],
)
def test_change_that_keeps_track_of_nested_rows_goes_on(
    source: Source, before: str, after: str, nested: list[int]
) -> None:
    extract_once(source.settings(before))
    source.rows[:] = AFTER
    extract_once(source.settings(after))
    assert source.nested() == nested


def test_table_without_nested_rows_changes_where_it_stands(source: Source) -> None:
    source.rows[:] = [{"id": 1, "a": 1}]
    extract_once(source.settings("append"))
    source.rows[:] = [{"id": 1, "a": 2}, {"id": 2, "a": 3}]
    settings = source.settings("delete-insert")
    extract_once(settings)
    assert query(settings, "SELECT id, a FROM api_raw.rows ORDER BY 1") == [(1, 2), (2, 3)]


@pytest.mark.parametrize("after", ["delete-insert", "upsert"])
def test_keys_that_stand_several_times_are_merged_by_a_full_refresh_only(
    source: Source, after: str
) -> None:
    """One that the source brings no more would stand so for good."""
    source.rows[:] = [{"id": 1, "a": 1}, {"id": 2, "a": 1}]
    for _ in range(2):
        extract_once(source.settings("append"))
    source.rows[:] = [{"id": 1, "a": 2}]
    settings = source.settings(after)
    failure = failure_of(settings, ConfigError)
    assert f"rows from append to {after} by id, of which rows stand" in failure.message
    extract_once(settings, context(settings, full_refresh=True))
    assert query(settings, "SELECT id, a FROM api_raw.rows ORDER BY 1") == [(1, 2)]


def test_another_key_that_stands_several_times_is_refused(source: Source) -> None:
    source.rows[:] = [{"id": 1, "a": 1}, {"id": 2, "a": 1}]
    extract_once(source.settings("delete-insert"))
    failure = failure_of(source.settings("by a"), ConfigError)
    assert "by a, of which rows stand there several times" in failure.message


def test_key_that_the_source_calls_otherwise_is_given_up_by_a_full_refresh(source: Source) -> None:
    """dlt keeps what a column was told to be, also when the settings say it no more."""
    source.rows[:] = [{"id": 1, "a": 1}]
    extract_once(source.settings("delete-insert"))
    source.rows[:] = [{"number": 1, "a": 2}]
    settings = source.settings("by a")
    failure = failure_of(settings, SchemaError)
    assert "`etl run --full-refresh --source api`" in failure.hint
    extract_once(settings, context(settings, full_refresh=True))
    source.rows[:] = [{"number": 3, "a": 2}]
    extract_once(settings)
    assert query(settings, "SELECT number, a FROM api_raw.rows") == [(3, 2)]


@pytest.mark.parametrize(
    ("hint", "before", "after"),
    [
        ({"data_type": "double"}, 1, 1.5),  # BIGINT would round it
        ({"data_type": "text"}, 1, "k1"),  # BIGINT would refuse it
        ({"data_type": "bigint"}, 1.5, 2),  # staging would round what stands
    ],
)
def test_a_type_that_settings_change_is_taken_by_a_full_refresh_only(
    source: Source, hint: Any, before: Any, after: Any
) -> None:
    """DuckDB keeps a column's type, and casts what comes to it."""
    source.rows[:] = [{"id": 1, "v": before, "l": [{"v": before}]}]
    first = source.settings("delete-insert")
    extract_once(first)
    source.rows[:] = [{"id": 1, "v": after, "l": [{"v": after}]}]
    settings = source.settings("delete-insert", columns={"v": hint})
    for _ in range(2):
        failure = failure_of(settings, ConfigError)
        assert "rows.v from " in failure.message
        assert "--full-refresh --source api" in failure.hint
    assert query(first, "SELECT v FROM api_raw.rows") == [(before,)]
    extract_once(settings, context(settings, full_refresh=True))
    assert query(first, "SELECT v FROM api_raw.rows") == [(after,)]
    extract_once(settings)
    assert query(first, "SELECT v FROM api_raw.rows") == [(after,)]


def test_a_type_that_settings_change_is_theirs_while_no_row_came(source: Source) -> None:
    source.rows[:] = []
    extract_once(source.settings("append", columns={"v": {"data_type": "bigint"}}))
    source.rows[:] = [{"id": 1, "v": 1.5}]
    settings = source.settings("append", columns={"v": {"data_type": "double"}})
    extract_once(settings)
    assert query(settings, "SELECT v FROM api_raw.rows") == [(1.5,)]


def arrow(values: list[Any], how: str, kind: str = "") -> Any:
    """A factory whose Arrow table takes its type from the values, as a DataFrame does."""
    import dlt
    import pyarrow as pa

    table = pa.table({"id": list(range(len(values))), "v": values})
    columns: Any = {"v": {"data_type": kind}} if kind else None
    made = dlt.resource([table], name="rows")
    made.apply_hints(write_disposition=how, primary_key="id", columns=columns)  # type: ignore[arg-type]  # a str
    return made


@pytest.mark.parametrize(
    ("how", "before", "after", "kind"),
    [
        ("append", [1], [1.5, 2.0], "double"),
        ("merge", [1], ["k", "2"], "text"),
        ("replace", [1.5], [2**60 + 1, 2], "bigint"),
    ],
)
def test_values_of_arrow_tables_that_a_column_does_not_hold_are_refused(
    tmp_path: Path, how: str, before: list[Any], after: list[Any], kind: str
) -> None:
    """dlt leaves them to DuckDB, which rounds where it can."""

    def settings(values: list[Any], **more: Any) -> Settings:
        arguments = {"values": values, "how": how} | more
        return settings_of(
            tmp_path, {"api": {"factory": f"{__name__}:arrow", "arguments": arguments}}
        )

    extract_once(settings(before))
    for _ in range(2):
        failure = failure_of(settings(after), SchemaError)
        assert "1 of api_raw.rows.v (" in failure.message
        assert "--full-refresh --source api" in failure.hint
        assert pending(settings(after), "api") == []
    assert query(settings(before), "SELECT v FROM api_raw.rows") == [(v,) for v in before]
    extract_once(settings(before))
    said = settings(after, kind=kind)
    extract_once(said, context(said, full_refresh=True))
    found = query(said, "SELECT v FROM api_raw.rows ORDER BY id")
    assert found == [(v,) for v in after], "as the hint says"


@pytest.mark.parametrize(("before", "after"), [([1], [2.0, None]), ([1.5], [2])])
def test_values_of_arrow_tables_that_a_column_holds_exactly_are_taken(
    tmp_path: Path, before: list[Any], after: list[Any]
) -> None:
    """A column of a DataFrame is of floats as soon as a value lacks."""

    def settings(values: list[Any]) -> Settings:
        source = {"factory": f"{__name__}:arrow", "arguments": {"values": values, "how": "append"}}
        return settings_of(tmp_path, {"api": source})

    for values in (before, after, after):
        extract_once(settings(values))
    found = query(settings(after), "SELECT v FROM api_raw.rows")
    assert Counter(v for (v,) in found) == Counter(before + 2 * after)


@pytest.mark.parametrize("hints", ["append", "delete-insert", "scd2"])
def test_every_type_that_dlt_knows_is_found_in_raw_as_it_was_asked_for(
    source: Source, hints: str
) -> None:
    """The names of types are DuckDB's on one side and dlt's on the other."""
    values: dict[str, tuple[dict[str, Any], Any]] = {
        "a": ({"data_type": "text"}, "x"),
        "b": ({"data_type": "text", "precision": 7}, "x"),
        "c": ({"data_type": "double"}, 1.5),
        "d": ({"data_type": "bool"}, True),
        "e": ({"data_type": "timestamp"}, "2026-01-01T00:00:00Z"),
        "f": ({"data_type": "timestamp", "timezone": False}, "2026-01-01T00:00:00"),
        "g": ({"data_type": "timestamp", "timezone": False, "precision": 3}, "2026-01-01"),
        "h": ({"data_type": "bigint"}, 1),
        "i": ({"data_type": "bigint", "precision": 16}, 1),
        "j": ({"data_type": "binary"}, "eA=="),
        "k": ({"data_type": "json"}, {"x": 1}),
        "l": ({"data_type": "decimal"}, 1),
        "m": ({"data_type": "decimal", "precision": 9, "scale": 3}, 1),
        "n": ({"data_type": "wei"}, 1),
        "o": ({"data_type": "date"}, "2026-01-01"),
        "p": ({"data_type": "time"}, "10:00:00"),
    }
    source.rows[:] = [{"id": 1} | {name: value for name, (_, value) in values.items()}]
    settings = source.settings(hints, columns={name: hint for name, (hint, _) in values.items()})
    for _ in range(2):
        extract_once(settings)


def test_strategy_that_is_named_no_longer_is_over(source: Source) -> None:
    """A merge that names none is one by the key; dlt would go on to keep versions."""
    source.rows[:] = [{"id": 1, "a": 1}]
    extract_once(source.settings("scd2"))
    source.rows[:] = [{"id": 1, "a": 2}]
    settings = source.settings("delete-insert")
    extract_once(settings)
    assert query(settings, "SELECT id, a FROM api_raw.rows ORDER BY 1") == [(1, 2)]


CURSOR = {"endpoint": {"path": "rows", "incremental": {"cursor_path": "id"}}}


@pytest.mark.parametrize(
    ("hints", "current"),
    [({}, 0), ({"merge_key": "id"}, 2), (CURSOR | {"merge_key": "id"}, 2)],
    ids=["", "key", "cursor"],
)
def test_versions_end_when_no_row_is_left(
    source: Source, monkeypatch: pytest.MonkeyPatch, hints: dict[str, Any], current: int
) -> None:
    """With a `merge_key` or a cursor, no row says nothing of those that are there."""
    monkeypatch.setitem(HINTS, "scd2", HINTS["scd2"] | hints)
    settings = source.settings("scd2")
    extract_once(settings)
    source.rows[:] = []
    extract_once(settings)
    holding = "FROM api_raw.rows WHERE _dlt_valid_to IS NULL"
    assert query(settings, f"SELECT count(*) {holding}") == [(current,)]


def test_rows_where_a_merges_cursor_stands_are_not_appended_again(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge knows them by all their fields, an append by its key: they would be others."""
    source.rows[:] = [{"id": 1}, {"id": 2}]
    for name in ("append", "delete-insert"):
        monkeypatch.setitem(HINTS, name, HINTS[name] | CURSOR | KEY)
    extract_once(source.settings("delete-insert"))
    settings = source.settings("append")
    failure = failure_of(settings, ConfigError)
    assert "rows from delete-insert to append" in failure.message
    extract_once(settings, context(settings, full_refresh=True))
    extract_once(settings)
    assert query(settings, "SELECT id FROM api_raw.rows ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize("before", ["append", "delete-insert"])
def test_rows_that_stand_get_no_versions_but_by_a_full_refresh(source: Source, before: str) -> None:
    """Nobody knows from when on they held: dlt leaves that empty, for good."""
    source.rows[:] = [{"id": 1, "a": 1}]
    extract_once(source.settings(before))
    settings = source.settings("scd2")
    failure = failure_of(settings, ConfigError)
    assert f"rows from {before} to scd2" in failure.message
    assert "--full-refresh --source api" in failure.hint
    extract_once(settings, context(settings, full_refresh=True))
    source.rows[:] = [{"id": 1, "a": 2}]
    extract_once(settings)
    found = query(settings, "SELECT a, _dlt_valid_from IS NULL FROM api_raw.rows ORDER BY 1")
    assert found == [(1, False), (2, False)]


def test_table_that_had_no_row_yet_takes_on_versions(source: Source) -> None:
    source.rows[:] = []
    extract_once(source.settings("append"))
    source.rows[:] = [{"id": 1, "a": 1}]
    extract_once(source.settings("scd2"))
    assert query(source.settings("scd2"), "SELECT id FROM api_raw.rows") == [(1,)]


def test_tables_that_a_killed_run_was_to_make_anew_are_made_by_the_next(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_once(source.settings("append"))
    source.rows[:] = AFTER
    settings = source.settings("delete-insert")
    load = Raw._load

    def die(*_: Any) -> Any:
        raise Killed

    def load_and_die(raw: Raw) -> Any:
        load(raw)
        raise Killed

    for killer in (die, load_and_die):
        with monkeypatch.context() as patch:
            patch.setattr(Raw, "_load", killer)
            with pytest.raises(Killed):
                extract_once(settings, context(settings, full_refresh=True))
        extract_once(settings)
        assert source.nested() == [1, 3, 9]
        assert pending(settings, "api") == []


def made(rows: int) -> Any:
    """A source whose hints are functions of a row."""
    import dlt

    def disposition(row: Any) -> Any:
        return "append"

    @dlt.resource(name="rows", table_name=lambda row: "rows", write_disposition=disposition)
    def resource() -> Any:
        yield {"id": rows}

    return resource


def test_hints_that_are_functions_of_a_row_are_left_alone(tmp_path: Path) -> None:
    def settings(rows: int) -> Settings:
        factory = {"factory": f"{__name__}:made", "arguments": {"rows": rows}}
        return settings_of(tmp_path, {"api": factory})

    for rows in (1, 2):
        extract_once(settings(rows))
    assert query(settings(2), "SELECT id FROM api_raw.rows ORDER BY 1") == [(1,), (2,)]


def hinted(**hints: Any) -> Any:
    """A source with these hints."""
    import dlt

    def rows() -> Any:
        yield {"id": 1, "labels": [{"a": 1}]}

    return dlt.resource(rows, name="rows", **hints)


@pytest.mark.parametrize(
    "hints",
    [
        {"write_disposition": "nosuch"},
        {"columns": {"id": {"data_type": "nosuch"}}},
        {"nested_hints": {"labels": {"write_disposition": "nosuch"}}},
        {"write_disposition": {"disposition": "merge", "strategy": "scd2",
                               "validity_column_names": ["a"]}},
    ],
    ids=["disposition", "type", "nested", "scd2"],
)  # fmt: skip
@pytest.mark.parametrize("is_first", [True, False])
def test_hints_that_dlt_does_not_accept_are_the_configurations_fault(
    tmp_path: Path, hints: dict[str, Any], is_first: bool
) -> None:
    """And of that source alone, whether it has been read before or not."""

    def settings(**arguments: Any) -> Settings:
        factory = {"factory": f"{__name__}:hinted"}
        return settings_of(tmp_path, {"api": factory | {"arguments": arguments}, "other": factory})

    if not is_first:
        extract_once(settings())
    failure = failure_of(settings(**hints), ConfigError)
    assert failure.subject == "api"
    assert "api.rows: dlt does not accept its hints" in str(failure)
    assert query(settings(), "SELECT count(*) FROM other_raw.rows") == [(2 - is_first,)]
