"""Drift: what counts as new, vanished, retyped and renamed, from shapes and counts alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import pytest

from etl.drift import Column, Count, Known, Seen, Shape, Table, compare, is_vanished, remember
from etl.records import SchemaChange, SourceRun


def table(table_name: str, parent: str | None = None, /, **columns: str) -> Table:
    return Table(table_name, parent, {n: Column(t) for n, t in columns.items()})


def shape(*tables: Table) -> Shape:
    return {t.name: t for t in tables}


def full(rows: int, *columns: str, parents: int = 0) -> Count:
    return Count(rows, dict.fromkeys(columns, rows), parents)


def told(
    known: Known,
    after: Shape,
    counts: Mapping[str, Count],
    *complete: str,
    brought: Collection[str] = ("orders",),
) -> tuple[list[str], Known]:
    changes, now = compare(known, after, counts, complete, brought)
    return [str(c) for c in changes], now


ORDERS = table("orders", id="bigint", name="text")
KNOWN = remember({}, shape(ORDERS), {"orders": full(100, "id", "name")})


def test_every_table_of_a_first_load_is_new() -> None:
    assert told({}, shape(ORDERS), {"orders": full(5, "id", "name")})[0] == ["new table orders"]


def test_a_load_like_the_one_before_changes_nothing() -> None:
    changes, now = told(KNOWN, shape(ORDERS), {"orders": full(10, "id", "name")})
    assert changes == []
    assert now["orders", "name"] == Seen("text", 110, 110)


def test_a_new_column_is_told_with_its_type_and_once() -> None:
    wider = shape(table("orders", id="bigint", name="text", elo="double"))
    counts = {"orders": full(10, "id", "name", "elo")}
    changes, now = told(KNOWN, wider, counts)
    assert changes == ["new column orders.elo double"]
    assert told(now, wider, counts)[0] == []


def test_a_column_without_values_is_told_once_until_a_value_comes() -> None:
    empty, filled = {"orders": full(10, "id")}, {"orders": full(10, "id", "name")}
    changes, now = told(KNOWN, shape(ORDERS), empty)
    assert changes == ["column orders.name has no value any more"]
    changes, now = told(now, shape(ORDERS), empty)
    assert changes == []
    changes, now = told(now, shape(ORDERS), filled)
    assert changes == []
    assert not now["orders", "name"].is_gone
    # It has been empty before, so it takes more rows now.
    assert told(now, shape(ORDERS), {"orders": full(100, "id")})[0] == [
        "column orders.name has no value any more"
    ]


@pytest.mark.parametrize(
    ("before", "rows", "expected"),
    [
        (Seen("text", 1000, 1000), 2, False),  # too few rows
        (Seen("text", 1000, 1000), 3, True),
        (Seen("text", 3, 3), 3, False),  # too little known
        (Seen("text", 4, 4), 4, True),
        (Seen("text", 10_000, 100), 200, False),  # one row in a hundred: chance
        (Seen("text", 10_000, 100), 600, True),
        (Seen("text", 1000, 0), 1000, False),  # there was never a value
        (Seen("text", 1000, 1000, is_gone=True), 1000, False),  # told already
    ],
)
def test_a_column_is_vanished_only_when_chance_is_unlikely(
    before: Seen, rows: int, expected: bool
) -> None:
    assert is_vanished(before, rows) is expected


def test_a_table_without_rows_in_this_run_is_not_judged() -> None:
    assert told(KNOWN, shape(ORDERS), {"orders": Count()})[0] == []
    assert told(KNOWN, shape(ORDERS), {})[0] == []


def test_a_replaced_table_that_came_empty_is_vanished() -> None:
    changes, now = told(KNOWN, shape(ORDERS), {"orders": Count()}, "orders")
    assert changes == ["table orders has no row any more"]
    assert told(now, shape(ORDERS), {"orders": Count()}, "orders")[0] == []


def test_a_variant_column_is_a_retyped_one_and_its_base_not_vanished() -> None:
    variant = Table(
        "orders", None, {**ORDERS.columns, "id__v_text": Column("text", variant_of="id")}
    )
    changes, now = told(KNOWN, shape(variant), {"orders": full(10, "id__v_text", "name")})
    assert changes == ["column orders.id was bigint, now comes as text (in id__v_text)"]
    assert told(now, shape(variant), {"orders": full(10, "id__v_text", "name")})[0] == []


def test_a_type_that_changed_in_place_is_told() -> None:
    other = shape(table("orders", id="bigint", name="json"))
    assert told(KNOWN, other, {"orders": full(10, "id", "name")})[0] == [
        "column orders.name was text, now comes as json"
    ]


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ({"full_name": "text"}, ["column orders.name looks renamed to full_name"]),
        ({"title": "text"}, ["column orders.name looks renamed to title"]),  # the only two
        (
            {"full_name": "bigint"},
            ["new column orders.full_name bigint", "column orders.name has no value any more"],
        ),
        (
            {"title": "text", "city": "text"},
            [
                "new column orders.city text",
                "column orders.name has no value any more",
                "new column orders.title text",
            ],
        ),
        (
            {"names": "text", "city": "text"},
            ["new column orders.city text", "column orders.name looks renamed to names"],
        ),
    ],
)
def test_one_that_went_and_one_that_came_look_renamed_by_type_and_name(
    came: dict[str, str], expected: list[str]
) -> None:
    after = shape(table("orders", id="bigint", name="text", **came))
    assert told(KNOWN, after, {"orders": full(10, "id", *came)})[0] == expected


def test_a_nested_table_is_judged_by_its_parents() -> None:
    items = table("orders__items", "orders", sku="text")
    lines = table("orders__lines", "orders", sku="text")
    other = table("orders__history", "orders", at="timestamp")
    known = remember(
        {},
        shape(ORDERS, items),
        {"orders": full(100, "id", "name"), "orders__items": full(250, "sku", parents=90)},
    )
    counts = {"orders": full(20, "id", "name"), "orders__items": Count()}
    assert told(known, shape(ORDERS, items), counts)[0] == [
        "table orders__items has no row any more"
    ]
    renamed = counts | {"orders__lines": full(40, "sku", parents=20)}
    assert told(known, shape(ORDERS, items, lines), renamed)[0] == [
        "table orders__items looks renamed to orders__lines"
    ]
    unlike = counts | {"orders__history": full(40, "at", parents=20)}
    assert told(known, shape(ORDERS, items, other), unlike)[0] == [
        "new table orders__history",
        "table orders__items has no row any more",
    ]
    few = {"orders": full(2, "id", "name"), "orders__items": Count()}
    assert told(known, shape(ORDERS, items), few)[0] == []


LINES = table("orders__lines", "orders", sku="text")
BOUGHT = table("purchases", id="bigint", name="text")
BOUGHT_LINES = table("purchases__lines", "purchases", sku="text")
BOTH = {"orders": full(100, "id", "name"), "orders__lines": full(250, "sku", parents=90)}
MOVED = {
    "orders": Count(), "orders__lines": Count(), "purchases": full(5, "id", "name"),
    "purchases__lines": full(9, "sku", parents=5),
}  # fmt: skip


def test_a_root_table_that_no_resource_brings_looks_renamed_to_a_new_one_like_it() -> None:
    known = remember({}, shape(ORDERS, LINES), BOTH)
    after = shape(ORDERS, LINES, BOUGHT, BOUGHT_LINES)
    changes, now = told(known, after, MOVED, brought=("purchases",))
    assert changes == [
        "table orders looks renamed to purchases",
        "table orders__lines looks renamed to purchases__lines",
    ]
    assert told(now, after, MOVED, brought=("purchases",))[0] == []
    # One that has its resource still had no news, and one with rows is there.
    new = ["new table purchases", "new table purchases__lines"]
    assert told(known, after, MOVED, brought=("orders", "purchases"))[0] == new
    back = MOVED | {"orders": full(1, "id", "name")}
    assert told(known, after, back, brought=("purchases",))[0] == new
    # So it is when nothing that came is like it; and that it is left alone is no news.
    unlike = shape(ORDERS, LINES, table("log", at="timestamp", text="text"))
    counts = {"orders": Count(), "orders__lines": Count(), "log": full(5, "at", "text")}
    assert told(known, unlike, counts, brought=("log",))[0] == ["new table log"]
    assert told(known, shape(ORDERS, LINES), counts, brought=())[0] == []
    # Rows of Arrow tables without a load id cannot be counted.
    uncounted = {n: c for n, c in MOVED.items() if not n.startswith("orders")}
    assert told(known, after, uncounted, brought=("purchases",))[0] == new


# -- in the record ---------------------------------------------------------------------------------


def test_changes_of_a_version_1_record_are_read_as_records() -> None:
    old = {"source": "a", "resource": "b", "rows": 1, "pages": 1, "requests": 1, "retries": 0}
    texts = ["new column orders.elo bigint", "new table orders__items (3 columns)"]
    read = SourceRun.model_validate_json(json.dumps(old | {"schema_changes": texts}))
    assert [(c.kind, c.table, c.column, c.type_after) for c in read.schema_changes] == [
        ("new", "orders", "elo", "bigint"),
        ("new", "orders__items", None, None),
    ]
    assert SourceRun.model_validate_json(read.model_dump_json()) == read


def test_a_line_names_some_of_what_is_touched_and_counts_the_rest() -> None:
    touched = tuple(f"marts.m.c{i}" for i in range(7))
    change = SchemaChange(kind="vanished", table="t", column="c", touches=touched)
    assert str(change) == (
        "column t.c has no value any more; touches marts.m.c0, marts.m.c1, marts.m.c2, "
        "marts.m.c3, marts.m.c4 and 2 more"
    )
