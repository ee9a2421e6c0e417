"""The shop through the source that ships: raw holds what plain Python says, day after day."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.demo import Fault, Replay
from etl.errors import ExtractError
from etl.raw.pipeline import Raw
from etl.settings import Settings
from tests.integration.extracting import (
    context,
    count,
    extract_once,
    failures_of,
    query,
    serving,
    settings_of,
)
from tests.integration.shop_reference import COLUMNS, Shop

ROOT = Path(__file__).parents[2]
FIRST = date(2026, 1, 1)
# What stands before the columns of `COLUMNS`, and how a nested table finds its order.
NESTED = {
    "orders__lines": (
        "o.id, t._dlt_list_idx",
        "JOIN shop_raw.orders o ON o._dlt_id = t._dlt_parent_id",
    ),
    "orders__lines__discounts": (
        "o.id, l._dlt_list_idx, t._dlt_list_idx",
        """JOIN shop_raw.orders__lines l ON l._dlt_id = t._dlt_parent_id
        JOIN shop_raw.orders o ON o._dlt_id = l._dlt_parent_id""",
    ),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Replay]:
    with Replay(FIRST, cache=True) as running:
        yield running


@pytest.fixture
def replay(running: Replay) -> Replay:
    """The shop on the first day."""
    running.date, running.faults = FIRST, ()
    return running


def shipped(folder: Path, url: str) -> Settings:
    """The source as config/demo.yaml has it, pointed at `url`."""
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    source = config["sources"]["shop"]
    source["client"]["base_url"] = url
    return settings_of(folder, {"shop": source})


@pytest.fixture
def settings(tmp_path: Path, replay: Replay) -> Settings:
    return shipped(tmp_path, replay.shop_url)


@pytest.fixture(scope="module")
def read_template(tmp_path_factory: pytest.TempPathFactory, running: Replay) -> Settings:
    """The shop after its first reading; tests that change it work on copies."""
    running.date, running.faults = FIRST, ()
    settings = shipped(tmp_path_factory.mktemp("read"), running.shop_url)
    extract_once(settings)
    return settings


@pytest.fixture
def read(tmp_path: Path, replay: Replay, read_template: Settings) -> Settings:
    """A shop after its first reading."""
    settings = shipped(tmp_path, replay.shop_url)
    shutil.copytree(read_template.data_dir, settings.data_dir)
    return settings


def raw_tables(settings: Settings) -> dict[str, Counter[tuple[Any, ...]]]:
    """The rows of raw by the columns of `COLUMNS`; nested ones begin as the reference's do."""
    found = {}
    for table, columns in COLUMNS.items():
        start, joins = NESTED.get(table, ("", ""))
        listed = ", ".join(filter(None, [start, *(f"t.{column}" for column in columns)]))
        found[table] = Counter(query(settings, f"SELECT {listed} FROM shop_raw.{table} t {joins}"))
        # No row of a nested table is left without its parent.
        assert query(settings, f"SELECT count(*) FROM shop_raw.{table}") == [
            (found[table].total(),)
        ]
    return found


def expected_tables(day: date) -> dict[str, Counter[tuple[Any, ...]]]:
    return {table: Counter(rows) for table, rows in Shop(day, FIRST).tables().items()}


def differing(settings: Settings, day: date) -> dict[str, tuple[Any, Any]]:
    """By table, what raw lacks and what it has too much; empty when both agree."""
    found, expected = raw_tables(settings), expected_tables(day)
    return {
        table: (list((rows - found[table]).items())[:3], list((found[table] - rows).items())[:3])
        for table, rows in expected.items()
        if rows != found[table]
    }


@pytest.mark.slow
def test_raw_holds_exactly_the_shop_of_each_day(read: Settings, replay: Replay) -> None:
    """The first day, the next, a gap, and one so long that nearly all orders have changed."""
    settings = read
    for ahead in (0, 1, 4, 30):
        replay.date = FIRST + timedelta(days=ahead)
        if ahead:
            extract_once(settings)
        assert differing(settings, replay.date) == {}
        assert query(settings, "SELECT count(*) FROM shop_raw.orders WHERE is_deleted") == [(0,)]
    # An order that the API no longer shows has stayed.
    oldest = query(settings, "SELECT min(updated_at)::DATE FROM shop_raw.orders")[0][0]
    assert oldest < FIRST


def test_later_readings_ask_only_for_what_is_new(read: Settings, replay: Replay) -> None:
    asked = len(replay.requests)
    replay.date = FIRST + timedelta(days=1)
    ctx = extract_once(read)
    rows = {s.resource: s.rows for s in ctx.run.sources}
    since = {r.method: r.query.get("updated_since") for r in replay.requests[asked:]}
    assert since["shop/v1/orders"] == max(r["updated_at"] for r in Shop(FIRST, FIRST).orders())
    assert since["shop/v1/customers"] is not None
    assert since["shop/v1/countries"] is None
    assert 50 < rows["orders"] < 250
    assert rows["customers"] < 20


def test_reading_a_day_again_brings_nothing_and_changes_nothing(read: Settings) -> None:
    before = raw_tables(read)
    ctx = extract_once(read)
    assert {s.resource: s.rows for s in ctx.run.sources if s.resource in ("orders", "customers")} \
        == {"orders": 0, "customers": 0}  # fmt: skip
    assert raw_tables(read) == before


def test_nested_rows_go_with_their_order_when_a_package_has_none_of_them(tmp_path: Path) -> None:
    """A package without a discount, then one without a line: the tables' old rows must go."""
    discount = {"code": "CLUB", "amount": "1.00"}
    line = {"line_no": 1, "unit_price": "9.50", "discounts": [discount, discount]}
    versions: list[dict[str, Any]] = [
        {"lines": [line, line | {"line_no": 2}]},
        {"lines": [line | {"discounts": []}]},
        {"lines": []},
        {"lines": [line]},
        {"is_deleted": True},
    ]
    order: dict[str, Any] = {}

    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        rows = [order] if path == "/orders" else []
        return {"data": rows, "page": 1, "total_pages": 1}

    seen = []
    with serving(answer) as api:
        settings = shipped(tmp_path, api.url)
        for day, version in enumerate(versions, 1):
            updated_at = f"2026-01-{day:02}T00:00:00Z"
            order = {"id": 1, "is_deleted": False, "updated_at": updated_at} | version
            extract_once(settings)
            tables = ("orders", "orders__lines", "orders__lines__discounts")
            seen.append(
                tuple(query(settings, f"SELECT count(*) FROM shop_raw.{t}")[0][0] for t in tables)
            )
    assert seen == [(1, 2, 4), (1, 1, 0), (1, 0, 0), (1, 1, 2), (0, 0, 0)]


def test_full_refresh_holds_what_the_api_shows(read: Settings, replay: Replay) -> None:
    settings = read
    replay.date = FIRST + timedelta(days=4)
    extract_once(settings, context(settings, full_refresh=True))
    expected = Shop(replay.date, replay.date).tables()
    assert raw_tables(settings) == {table: Counter(rows) for table, rows in expected.items()}


def test_schema_keeps_references_keys_and_types(read: Settings) -> None:
    tables = Raw(read, "shop").pipeline.default_schema.tables
    told = {
        table: [
            (r["columns"], r["referenced_table"], r["referenced_columns"])
            for r in tables[table].get("references") or ()
        ]
        for table in ("companies", "customers", "orders")
    }
    assert told == {
        "companies": [(["country_code"], "countries", ["code"])],
        "customers": [(["company_id"], "companies", ["id"])],
        "orders": [(["customer_id"], "customers", ["id"])],
    }
    assert tables["orders__lines__discounts"]["parent"] == "orders__lines"
    for table, column, scale in (
        ("countries", "eur_rate", 8),
        ("orders__lines", "unit_price", 2),
        ("orders__lines__discounts", "amount", 2),
    ):
        hints = tables[table]["columns"][column]
        assert (hints["data_type"], hints["precision"], hints["scale"]) == ("decimal", 18, scale)
    deletes = [n for n, c in tables["orders"]["columns"].items() if c.get("hard_delete")]
    assert deletes == ["is_deleted"]


def test_pages_that_end_early_come_with_the_next_reading(
    settings: Settings, replay: Replay
) -> None:
    """Rows come in order of change, so the cursor never passes one that was not read."""
    replay.faults = [Fault("no_cursor", method=name, page=2) for name in ("orders", "customers")]
    extract_once(settings)
    assert query(settings, "SELECT count(*) FROM shop_raw.customers") == [(200,)]
    replay.faults = []
    extract_once(settings)
    assert differing(settings, FIRST) == {}


BROKEN = {
    "orders, page 3: the cursor repeats": Fault("repeat_cursor", method="orders", page=3),
    "orders, page 2: the page has no field": Fault("missing_field", method="orders", page=2),
    "companies, page 1: the page has no field": Fault("missing_field", method="companies"),
}


def test_broken_pagination_fails_and_commits_nothing(settings: Settings, replay: Replay) -> None:
    for told, fault in BROKEN.items():
        replay.faults = [fault]
        (error,) = failures_of(settings)
        assert isinstance(error, ExtractError), told
        assert told in str(error)
        loads = count(settings, "shop_raw._dlt_loads")
        assert count(settings, "shop_raw.orders") == loads == 0, told
    replay.faults = []
    extract_once(settings)
    assert differing(settings, FIRST) == {}
