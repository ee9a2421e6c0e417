"""What a table does not take as its query returns it: columns it did not begin with, NULLs."""

from __future__ import annotations

import pytest

from etl.errors import ExitCode
from tests.integration.projects import Shop

MODEL = "MODEL (name marts.prices, kind FULL, grain name); SELECT {} FROM read_csv('{}')"


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """A mart of a file that somebody writes: tea costs 1."""
    shop.publish("marts.prices")
    read(shop, "*")
    shop.write("prices.csv", "name,price\ntea,1\n")
    assert shop.go_on().exit_code == 0
    return shop


def read(shop: Shop, columns: str) -> None:
    shop.write("sqlmesh/models/prices.sql", MODEL.format(columns, shop.folder / "prices.csv"))


def test_value_that_its_column_cannot_hold_is_not_rounded(shop: Shop) -> None:
    shop.write("prices.csv", "name,price\ntea,1.5\n")
    record = shop.go_on((3, "eve", 5))
    (failure,) = record.failures
    assert (record.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.prices")
    assert failure.message.endswith("price is DOUBLE, was BIGINT")
    assert shop.published("prices") == [("tea", 1)]
    assert shop.published("totals")[-1] == ("eve", 5)
    read(shop, "name, price::DOUBLE AS price")
    assert shop.go_on().exit_code == 0, "as the hint says"
    assert shop.published("prices") == [("tea", 1.5)]


def test_column_that_is_left_out_is_told(shop: Shop) -> None:
    shop.write("prices.csv", "name,price,colour\ntea,1,green\n")
    record = shop.go_on()
    assert record.exit_code == 0, record.failures
    assert record.warnings[0].startswith("marts.prices is without what is new in its query: colour")
    read(shop, "name, price, colour")
    assert not shop.go_on().warnings
    assert shop.published("prices") == [("tea", 1, "green")]


def test_rows_without_a_key_are_not_added_in_each_run(shop: Shop) -> None:
    kinds = {
        "keyed": "INCREMENTAL_BY_UNIQUE_KEY (unique_key customer)",
        "parted": "INCREMENTAL_BY_PARTITION, partitioned_by (customer)",
    }

    def write(customer: str) -> None:
        for name, kind in kinds.items():
            query = f"SELECT {customer} AS customer, amount, id FROM staging.stg_shop__orders"
            text = f"MODEL (name marts.{name}, kind {kind}); {query}"
            shop.write(f"sqlmesh/models/{name}.sql", text)

    for name in kinds:
        shop.publish(f"marts.{name}")
    shop.edit("sqlmesh/models/totals.sql", "FROM", "FROM (FROM")
    shop.edit("sqlmesh/models/totals.sql", "GROUP BY", "WHERE customer IS NOT NULL) GROUP BY")
    write("customer")
    failures = {f.subject: f for f in shop.go_on((3, None, 5)).failures}
    assert failures.keys() == {f"marts.{name}" for name in kinds}
    for failure in failures.values():
        assert failure.exit_code == ExitCode.DATA_QUALITY
        assert "its key (customer) is NULL" in failure.message
    write("COALESCE(customer, '')")
    for order in (4, "kim", 5), (5, "lee", 5):
        assert shop.go_on(order).exit_code == 0
    for name in kinds:
        keys = [row[0] for row in shop.published(name)]
        assert keys == ["", "ann", "bob", "kim", "lee"], name


PYTHON = """
from sqlmesh import model


@model(
    "marts.{name}",
    kind="FULL",
    columns={{"id": "int", "amount": "{type}"}},
    depends_on=["staging.stg_shop__orders"],
)
def execute(context, **kwargs):
    table = context.resolve_table("staging.stg_shop__orders")
    newest = f"SELECT id, amount / 2 AS amount FROM {{table}} QUALIFY id = MAX(id) OVER ()"
    found = context.fetchdf(f"FROM ({{newest}}) WHERE amount < 100")
    {end}
"""


def test_model_in_python_that_finds_nothing_has_no_rows(shop: Shop) -> None:
    """SQLMesh leaves those of the evaluation before."""
    ends = {"frames": "return found", "yielded": "yield from [found] if len(found) else ()"}
    for name, end in ends.items():
        shop.publish(f"marts.{name}")
        text = PYTHON.format(name=name, type="double", end=end)
        shop.write(f"sqlmesh/models/{name}.py", text)
    for order, rows in (
        ((3, "eve", 5), [(3, 2.5)]),
        ((4, "eve", 900), []),
        ((5, "eve", 4), [(5, 2)]),
    ):
        record = shop.go_on(order)
        assert record.exit_code == 0, record.failures
        assert [shop.published(name) for name in ends] == [rows, rows]


def test_fraction_in_a_frame_is_not_rounded_to_a_whole_number(shop: Shop) -> None:
    shop.write(
        "sqlmesh/models/frames.py", PYTHON.format(name="frames", type="int", end="return found")
    )
    assert shop.go_on((3, "eve", 4)).exit_code == 0
    (failure,) = shop.go_on((4, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.frames")
    assert "would be rounded: amount" in failure.message
    shop.write(
        "sqlmesh/models/frames.py", PYTHON.format(name="frames", type="double", end="return found")
    )
    assert shop.go_on().exit_code == 0, "as the hint says"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("return None", "it returns NoneType, which is no data frame"),
        ("return [{'id': 1}]", "it returns list, which is no data frame"),
        ("return found[['id']]", "its data frame has no amount, which its `columns` names"),
    ],
)
def test_model_in_python_without_what_it_declares_says_what_it_lacks(
    shop: Shop, end: str, told: str
) -> None:
    text = PYTHON.format(name="frames", type="double", end=end)
    shop.write("sqlmesh/models/frames.py", text)
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.message) == (ExitCode.TRANSFORM, f"marts.frames: {told}")
