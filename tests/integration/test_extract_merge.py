"""Tables that are merged: each key of the API stands in raw once, the deleted ones do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest

from etl.errors import ReconciliationError
from etl.raw import Raw
from etl.settings import Settings
from tests.integration.extracting import context, extract_once, failures_of, query, settings_of

PAGES: dict[str, Any] = {}
Found = list[tuple[int, int]]


def give(pages: Any, **hints: Any) -> Any:
    """The source's factory: these pages, merged by these hints."""
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints

    @dlt.resource(name="things", **hints)
    def things() -> Any:
        yield from pages

    return things


def made() -> Any:
    return give(PAGES["pages"], **PAGES["hints"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, {"shop": {"factory": f"{__name__}:made", "required": False}})


def extract(settings: Settings, *pages: Any, **hints: Any) -> Found:
    """One run; what was compared: (expected, found)."""
    PAGES.update(pages=pages, hints=hints)
    ctx = extract_once(settings)
    return [(r.expected, r.found) for r in ctx.run.reconciliations]


def row(number: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "name": f"n{number}"} | more


def test_keys_that_come_twice_and_in_several_pages_count_once(settings: Settings) -> None:
    pages = [[row(1), row(2)], [row(2), row(3)], row(3)]
    assert extract(settings, *pages) == [(3, 3)]
    # The next run moves what it brings to its own package; the rest stays and is not counted.
    assert extract(settings, [row(2, name="new"), row(4)]) == [(2, 2)]
    assert query(settings, "SELECT id FROM shop_raw.things ORDER BY 1") == [(1,), (2,), (3,), (4,)]


def test_compound_key_counts_its_combinations(settings: Settings) -> None:
    rows = [row(1, day=1), row(1, day=2), row(1, day=2)]
    assert extract(settings, rows, primary_key=("id", "day")) == [(2, 2)]


def test_one_key_may_come_as_number_and_as_text(settings: Settings) -> None:
    assert extract(settings, [row(1), row("1"), row("2")]) == [(2, 2)]


def test_arrow_tables_are_counted_by_key(settings: Settings) -> None:
    table = pa.table({"id": pa.array([1, 2, 2], pa.int64()), "name": ["a", "b", "c"]})
    assert extract(settings, table, table) == [(2, 2)]


def test_name_of_the_key_may_change_on_its_way(settings: Settings) -> None:
    assert extract(settings, [{"productId": 7}], primary_key="productId") == [(1, 1)]


def test_deleted_keys_must_be_gone(settings: Settings) -> None:
    deleted = {"columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
    first = [row(1, gone=False), row(2, gone=None), row(3)]
    assert extract(settings, first, **deleted) == [(3, 3)]
    assert extract(settings, [row(1, gone=True), row(4), row(9, gone=True)], **deleted) == [
        (1, 1), (0, 0),
    ]  # fmt: skip
    assert query(settings, "SELECT id FROM shop_raw.things ORDER BY 1") == [(2,), (3,), (4,)]
    # Kept and deleted in one package: dlt takes either.
    assert extract(settings, [row(2, gone=True), row(2, gone=False)], **deleted) == []


def test_any_value_marks_a_deletion_where_the_column_is_no_boolean(settings: Settings) -> None:
    deleted = {"columns": {"gone_at": {"hard_delete": True, "data_type": "text"}}}
    assert extract(settings, [row(1), row(2)], **deleted) == [(2, 2)]
    assert extract(settings, [row(1, gone_at="today"), row(2)], **deleted) == [(1, 1), (0, 0)]


def strategy(name: str, **options: Any) -> dict[str, Any]:
    return {"write_disposition": {"disposition": "merge", "strategy": name, **options}}


def test_upsert_is_counted_by_key(settings: Settings) -> None:
    assert extract(settings, [row(1), row(2)], **strategy("upsert")) == [(2, 2)]
    assert extract(settings, [row(2), row(3)], **strategy("upsert")) == [(2, 2)]


def test_keys_are_counted_unless_a_contract_discarded_rows_of_them(settings: Settings) -> None:
    strict = {"schema_contract": {"columns": "discard_row"}}
    assert extract(settings, [row(1), row(2)], **strict) == [(2, 2)]
    assert extract(settings, [row(1), row(3)], **strict) == [(2, 2)]
    assert extract(settings, [row(1), row(4, elo=7)], **strict) == []
    assert query(settings, "SELECT id FROM shop_raw.things ORDER BY 1") == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    "hints",
    [
        strategy("scd2"),
        strategy("insert-only"),
        strategy("upsert", skip_unchanged_rows=True),
        strategy("delete-insert", source_filter="id > 1"),
        {"primary_key": None, "merge_key": "name"},
        {"merge_key": "name"},
        {"primary_key": None},
        {"primary_key": "owner__id"},
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_not(settings: Settings, hints: dict[str, Any]) -> None:
    rows = [row(1, owner={"id": 1}), row(2, owner={"id": 2})]
    for _ in range(2):
        assert extract(settings, rows, **hints) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM shop_raw.things WHERE id = 2", "2 keys came from the API, 1 stand in raw"),
        (
            "INSERT INTO shop_raw.things SELECT * FROM shop_raw.things WHERE id = 2",
            "2 keys came from the API, 3 stand in raw",
        ),
        (
            "INSERT INTO shop_raw.things (id, _dlt_load_id, _dlt_id) VALUES (1, '0', 'x')",
            "0 of the keys to delete may remain, 1 stand in raw",
        ),
    ],
    ids=["lost", "doubled", "not deleted"],
)
def test_lost_doubled_and_undeleted_keys_end_with_12(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    columns = {"columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
    assert extract(settings, [row(1), row(2)], **columns) == [(2, 2)]
    commit = Raw.commit

    def commit_badly(raw: Raw) -> Any:
        done = commit(raw)
        with raw.connection() as connection:
            connection.execute(change)
        return done

    monkeypatch.setattr(Raw, "commit", commit_badly)
    PAGES.update(pages=[[row(1, gone=True), row(2), row(3)]], hints=columns)
    ctx = context(settings)
    [failure] = failures_of(settings, ctx)
    assert type(failure) is ReconciliationError
    assert says in failure.message
    assert not ctx.run.reconciliations[-1].agrees
