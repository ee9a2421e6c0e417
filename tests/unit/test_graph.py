"""What the graph of models says of each."""

from __future__ import annotations

import pytest
from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model

from etl.project.graph import Graph
from etl.stages.idle import FILES


def graph_of(model: str) -> Graph:
    """The graph of one model."""
    return Graph([load_sql_based_model(parse(model, default_dialect="duckdb"), dialect="duckdb")])


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
    assert graph_of(text).grain("marts.a") == columns


@pytest.mark.parametrize(
    ("read", "is_elsewhere"),
    [
        ("FROM 'a.csv' AS a", True),
        ("FROM staging.b, 'a.parquet' AS a", True),
        ("FROM READ_JSON_AUTO('a')", True),
        ("FROM parquet_metadata('a')", True),
        ("FROM ST_READ('a')", True),
        ("FROM postgres_query('a', 'SELECT 1')", True),
        ("FROM query_table('ref.a')", True),
        ("FROM delta_scan('a')", True),
        ("FROM staging.b WHERE x <> getenv('A')", True),
        ("FROM staging.b WHERE x <> 'read_csv'", False),
    ],
)
def test_what_is_read_beside_tables_of_ours_is_seen(read: str, is_elsewhere: bool) -> None:
    graph = graph_of(f"MODEL (name marts.a, kind FULL); SELECT x {read}")
    assert (graph.reads_elsewhere(FILES) or bool(graph.foreign({"staging"}))) is is_elsewhere
