"""Windows that see one interval's rows are found; those that have all of theirs are not."""

from __future__ import annotations

import pytest
from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model

from etl.project.windows import find_cut_window

BY_TIME = "INCREMENTAL_BY_TIME_RANGE (time_column day)"
IN_INTERVAL = "day BETWEEN @start_ds AND @end_ds"


def found(query: str, kind: str = BY_TIME) -> str:
    text = f"MODEL (name marts.a, kind {kind}); {query}"
    return find_cut_window(
        load_sql_based_model(parse(text, default_dialect="duckdb"), dialect="duckdb")
    )


@pytest.mark.parametrize(
    ("query", "function"),
    [
        (
            ("SELECT day, AVG(v) OVER (PARTITION BY k ORDER BY day ROWS 5 PRECEDING) AS a FROM t "
            f"WHERE {IN_INTERVAL}"),
            "AVG(v)",
        ),
        (f"SELECT day, SUM(v) OVER () AS a FROM t WHERE k > 0 AND ({IN_INTERVAL})", "SUM(v)"),
        ("SELECT day, SUM(v) OVER () AS a FROM t WHERE day = @start_date", "SUM(v)"),
        ("SELECT day, SUM(v) OVER () AS a FROM t WHERE @start_ts <= day::TIMESTAMP", "SUM(v)"),
        (
            (f"WITH x AS (SELECT day AS d, v, k FROM t WHERE {IN_INTERVAL}) "
            "SELECT d AS day, LAG(v IGNORE NULLS) OVER w AS a FROM x "
            "WINDOW w AS (PARTITION BY k ORDER BY d)"),
            "LAG(v)",
        ),
        (
            (f"WITH x AS (SELECT day, SUM(v) AS v FROM t WHERE {IN_INTERVAL} GROUP BY day) "
            "SELECT day, LAG(v) OVER (ORDER BY day) AS a FROM x"),
            "LAG(v)",
        ),
        (
            ("SELECT day, MAX(v) FILTER (WHERE v > 0) OVER (PARTITION BY k) AS a FROM "
            f"(SELECT * FROM t WHERE {IN_INTERVAL} UNION ALL SELECT * FROM u WHERE {IN_INTERVAL})"),
            "MAX(v)",
        ),
    ],
)  # fmt: skip
def test_window_over_the_intervals_rows_is_found(query: str, function: str) -> None:
    assert found(query) == function


@pytest.mark.parametrize(
    "query",
    [
        # All rows, or as many as it takes, with the interval cut out around the window.
        f"SELECT * FROM (SELECT day, LAG(v) OVER (ORDER BY day) AS a FROM t) WHERE {IN_INTERVAL}",
        (
            "SELECT * FROM (SELECT day, LAG(v) OVER (ORDER BY day) AS a FROM t WHERE "
            f"day >= @start_ds::DATE - INTERVAL 60 DAY AND day <= @end_ds) WHERE {IN_INTERVAL}"
        ),
        # Windows within a day.
        f"SELECT day, SUM(v) OVER (PARTITION BY k, day) AS a FROM t WHERE {IN_INTERVAL}",
        (
            f"WITH x AS (SELECT day::DATE AS d, v FROM t WHERE {IN_INTERVAL}) "
            "SELECT d AS day, SUM(v) OVER W AS a FROM x WINDOW w AS (PARTITION BY D)"
        ),
        # The newest version of a row.
        (
            f"SELECT day, v FROM t WHERE {IN_INTERVAL} "
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) = 1"
        ),
        # All rows of the keys that changed.
        (
            f"WITH x AS (SELECT k, MIN(day) AS since FROM t WHERE {IN_INTERVAL} GROUP BY k) "
            "SELECT day, LAG(v) OVER (PARTITION BY k ORDER BY day) AS a FROM t JOIN x USING (k)"
        ),
        # From where the model was.
        (
            "SELECT day, SUM(v) OVER (ORDER BY day) + (SELECT MAX(a) FROM marts.a) AS a FROM t "
            f"WHERE {IN_INTERVAL}"
        ),
    ],
)
def test_window_that_has_its_rows_is_let_through(query: str) -> None:
    assert found(query) == ""


@pytest.mark.parametrize(
    ("kind", "function"), [("FULL", ""), ("INCREMENTAL_BY_UNIQUE_KEY (unique_key k)", "SUM(v)")]
)
def test_only_models_of_intervals_are_looked_at(kind: str, function: str) -> None:
    query = f"SELECT k, SUM(v) OVER (ORDER BY day) AS a FROM t WHERE {IN_INTERVAL}"
    assert found(query, kind) == function
