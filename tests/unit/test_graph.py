"""What the graph of models says of each."""

from __future__ import annotations

import pytest
from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model

from etl.project.graph import Graph


@pytest.mark.parametrize(
    ("written", "columns"),
    [
        ("grain ticker", ("ticker",)),
        ("grain (ticker, day)", ("ticker", "day")),
        ("grain [ticker, day]", ("ticker", "day")),
        ("grains ((ticker, day), number)", ("ticker", "day")),
        ("kind FULL", ()),
    ],
)
def test_grain_is_read_in_every_way_to_write_it(written: str, columns: tuple[str, ...]) -> None:
    text = f"MODEL (name marts.a, {written}); SELECT ticker, day, number FROM staging.b"
    model = load_sql_based_model(parse(text, default_dialect="duckdb"), dialect="duckdb")
    assert Graph([model]).grain("marts.a") == columns
