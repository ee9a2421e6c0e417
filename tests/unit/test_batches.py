"""Batches of a mart's rows: as many rows as are asked for, fewer where these are long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from etl.targets.batches import BYTES, read_batches, read_schema

CHILD = """
import resource, sys
import duckdb, pyarrow
from etl.targets.batches import read_batches

def peak():
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit

with duckdb.connect() as connection:
    connection.execute("SET memory_limit = '128MB'")
    connection.execute("SET threads = 2")
    before = peak()
    query = "SELECT i, repeat(md5(i::VARCHAR), 640) AS v FROM range(20000) AS r(i)"
    assert sum(batch.num_rows for batch in read_batches(connection, query, 8192)) == 20_000
    print(peak() - before)
"""


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [9216, 9216, 1568]), (BYTES // 8192, [8192, 8192, 3616]), (BYTES // 2048, [2048] * 4)],
)
def test_batches_are_of_rows_or_of_bytes(length: int, expected: list[int]) -> None:
    """Rows come 1,024 at once."""
    with duckdb.connect() as connection:
        query = f"SELECT repeat('x', {length}) AS v FROM range({sum(expected)})"
        found = list(read_batches(connection, query, 8193))
        assert [batch.num_rows for batch in found] == expected
        assert all(batch.schema == read_schema(connection, query) for batch in found)


def test_long_rows_come_in_small_batches_in_their_order() -> None:
    long = 3 * BYTES
    lengths = [1, long, 2, 3, long, long, *range(4, 200)]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT unnest($1) AS n", [lengths])
        found = list(read_batches(connection, "SELECT repeat('x', n) AS v FROM t", 8192))
    assert [len(v) for batch in found for v in batch.column(0).to_pylist()] == lengths
    assert all(batch.num_rows == 1 or batch.nbytes <= 2 * BYTES for batch in found)


def test_failure_in_the_middle_has_its_class() -> None:
    with duckdb.connect() as connection:
        query = (
            "SELECT repeat('x', 1000) AS v, CASE WHEN i = 90000 THEN 'wrong' ELSE '1' END::INTEGER "
            "AS n FROM range(100000) AS r(i)"
        )
        batches = read_batches(connection, query, 8192)
        assert next(batches).num_rows
        with pytest.raises(duckdb.ConversionException, match="wrong"):
            list(batches)


def test_query_without_rows_has_no_batch() -> None:
    with duckdb.connect() as connection:
        assert list(read_batches(connection, "SELECT 1 AS a WHERE false", 8192)) == []


def test_memory_does_not_grow_with_the_mart() -> None:
    """400 MB of texts of 20 kB."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=100, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    assert int(child.stdout.split()[-1]) < 400, child.stdout  # behind a progress bar, perhaps
