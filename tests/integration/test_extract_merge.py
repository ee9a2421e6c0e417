"""Tables that are merged: each key of the API stands in raw once, the deleted ones do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest

from etl.errors import ReconciliationError
from etl.raw.pipeline import Raw
from etl.settings import Settings
from tests.integration.extracting import context, extract_once, failure_of, query, settings_of

GIVEN: dict[str, tuple[Any, dict[str, Any]]] = {}
"""What the source brings: by resource its pages, and the hints by which they are merged."""

Found = list[tuple[int, int]]


def made() -> Any:
    """The source's factory."""

    def resource_of(name: str) -> Any:
        pages, hints = GIVEN[name]
        hints = {"write_disposition": "merge", "primary_key": "id"} | hints

        @dlt.resource(name=name, **hints)
        def resource() -> Any:
            yield from pages

        return resource

    @dlt.source(name="shop")
    def source() -> Any:
        return [resource_of(name) for name in GIVEN]

    return source()


def settings_in(folder: Path) -> Settings:
    return settings_of(folder, {"shop": {"factory": f"{__name__}:made", "required": False}})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def bring(resources: dict[str, tuple[Any, dict[str, Any]]]) -> None:
    """What the next run finds."""
    GIVEN.clear()
    GIVEN.update(resources)


def extract_all(
    settings: Settings, resources: dict[str, tuple[Any, dict[str, Any]]]
) -> dict[str, Found]:
    """One run; by resource, what was compared: (expected, found)."""
    bring(resources)
    ctx = extract_once(settings)
    return {
        name: [
            (r.expected, r.found)
            for r in ctx.run.reconciliations
            if r.subject == f"shop_raw.{name}"
        ]
        for name in resources
    }


def extract(settings: Settings, *pages: Any, **hints: Any) -> Found:
    """One run of one resource, `things`; what was compared."""
    return extract_all(settings, {"things": (pages, hints)})["things"]


def row(number: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "name": f"n{number}"} | more


def strategy(name: str, **options: Any) -> dict[str, Any]:
    return {"write_disposition": {"disposition": "merge", "strategy": name, **options}}


GONE: dict[str, Any] = {"columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
GONE_AT: dict[str, Any] = {"columns": {"gone_at": {"hard_delete": True, "data_type": "text"}}}
ARROW = pa.table({"id": pa.array([1, 2, 2], pa.int64()), "name": ["a", "b", "c"]})
OWNED = [row(1, owner={"id": 1}), row(2, owner={"id": 2})]
UNCOUNTED: dict[str, dict[str, Any]] = {
    "versioned": strategy("scd2"),
    "inserted_only": strategy("insert-only"),
    "unchanged_skipped": strategy("upsert", skip_unchanged_rows=True),
    "filtered": strategy("delete-insert", source_filter="id > 1"),
    "by_merge_key": {"primary_key": None, "merge_key": "name"},
    "by_both_keys": {"merge_key": "name"},
    "by_nested_key": {"primary_key": "owner__id"},
}
RUNS: list[dict[str, tuple[Any, dict[str, Any]]]] = [
    {
        "twice": ([[row(1), row(2)], [row(2), row(3)], row(3)], {}),
        "compound": (
            [[row(1, day=1), row(1, day=2), row(1, day=2)]], {"primary_key": ("id", "day")},
        ),
        "typed": ([[row(1), row("1"), row("2")]], {}),
        "arrow": ([ARROW, ARROW], {}),
        "renamed": ([[{"productId": 7}]], {"primary_key": "productId"}),
        "deleted": ([[row(1, gone=False), row(2, gone=None), row(3)]], GONE),
        "dated": ([[row(1), row(2)]], GONE_AT),
        "upserted": ([[row(1), row(2)]], strategy("upsert")),
        "unset": ([[row(1, gone=False), row(2, gone=True)]], strategy("upsert") | GONE),
        **{name: ([OWNED], hints) for name, hints in UNCOUNTED.items()},
    },
    {
        "twice": ([[row(2, name="new"), row(4)]], {}),
        "deleted": ([[row(1, gone=True), row(4), row(9, gone=True)]], GONE),
        "dated": ([[row(1, gone_at="today"), row(2)]], GONE_AT),
        "upserted": ([[row(2), row(3)]], strategy("upsert")),
        "unset": ([[row(1, gone=True), row(3), row(9, gone=True)]], strategy("upsert") | GONE),
        **{name: ([OWNED], hints) for name, hints in UNCOUNTED.items()},
    },
    {"deleted": ([[row(2, gone=True), row(2, gone=False)]], GONE)},
]  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """What the runs of `RUNS` compared, and which ids stood after each."""

    runs: list[dict[str, Found]]
    ids: list[dict[str, list[Any]]]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    settings = settings_in(tmp_path_factory.mktemp("merged"))
    runs, ids = [], []
    for resources in RUNS:
        runs.append(extract_all(settings, resources))
        ids.append(
            {
                name: [i for (i,) in query(settings, f"SELECT id FROM shop_raw.{name} ORDER BY 1")]
                for name in ("twice", "deleted")
            }
        )
    return Compared(runs, ids)


def test_keys_that_come_twice_and_in_several_pages_count_once(compared: Compared) -> None:
    assert compared.runs[0]["twice"] == [(3, 3)]
    # The next run moves what it brings to its own package; the rest stays and is not counted.
    assert compared.runs[1]["twice"] == [(2, 2)]
    assert compared.ids[1]["twice"] == [1, 2, 3, 4]


def test_compound_key_counts_its_combinations(compared: Compared) -> None:
    assert compared.runs[0]["compound"] == [(2, 2)]


def test_one_key_may_come_as_number_and_as_text(compared: Compared) -> None:
    assert compared.runs[0]["typed"] == [(2, 2)]


def test_arrow_tables_are_counted_by_key(compared: Compared) -> None:
    assert compared.runs[0]["arrow"] == [(2, 2)]


def test_name_of_the_key_may_change_on_its_way(compared: Compared) -> None:
    assert compared.runs[0]["renamed"] == [(1, 1)]


def test_deleted_keys_must_be_gone(compared: Compared) -> None:
    assert compared.runs[0]["deleted"] == [(3, 3)]
    assert compared.runs[1]["deleted"] == [(1, 1), (0, 0)]
    assert compared.ids[1]["deleted"] == [2, 3, 4]
    # Kept and deleted in one package: dlt takes either.
    assert compared.runs[2]["deleted"] == []


def test_any_value_marks_a_deletion_where_the_column_is_no_boolean(compared: Compared) -> None:
    assert compared.runs[0]["dated"] == [(2, 2)]
    assert compared.runs[1]["dated"] == [(1, 1), (0, 0)]


def test_upsert_is_counted_by_key(compared: Compared) -> None:
    assert compared.runs[0]["upserted"] == [(2, 2)]
    assert compared.runs[1]["upserted"] == [(2, 2)]


def test_upsert_does_not_insert_what_comes_deleted(compared: Compared) -> None:
    assert compared.runs[0]["unset"] == [(1, 1), (0, 0)]
    assert compared.runs[1]["unset"] == [(1, 1), (0, 0)]


@pytest.mark.parametrize("name", UNCOUNTED)
def test_what_cannot_be_counted_is_not(compared: Compared, name: str) -> None:
    assert [run[name] for run in compared.runs[:2]] == [[], []]


def test_keys_are_counted_unless_a_contract_discarded_rows_of_them(settings: Settings) -> None:
    strict = {"schema_contract": {"columns": "discard_row"}}
    assert extract(settings, [row(1), row(2)], **strict) == [(2, 2)]
    assert extract(settings, [row(1), row(3)], **strict) == [(2, 2)]
    assert extract(settings, [row(1), row(4, elo=7)], **strict) == []
    assert query(settings, "SELECT id FROM shop_raw.things ORDER BY 1") == [(1,), (2,), (3,)]


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
    assert extract(settings, [row(1), row(2)], **GONE) == [(2, 2)]
    commit = Raw.commit

    def commit_badly(raw: Raw) -> Any:
        done = commit(raw)
        with raw.connection() as connection:
            connection.execute(change)
        return done

    monkeypatch.setattr(Raw, "commit", commit_badly)
    bring({"things": ([[row(1, gone=True), row(2), row(3)]], GONE)})
    ctx = context(settings)
    failure = failure_of(settings, ReconciliationError, ctx)
    assert says in failure.message
    assert not ctx.run.reconciliations[-1].agrees
