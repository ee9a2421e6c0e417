"""Memory of the load: little however many rows there are, and more when that is not enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dlt.destinations.exceptions import DatabaseTransientException
from dlt.pipeline.pipeline import Pipeline
from pyarrow import parquet

import etl.raw.pipeline
from etl.raw import shapes
from etl.raw.packages import Packages
from etl.raw.pipeline import Raw
from tests.integration.extracting import count, extract_once, settings_of

ROOT = Path(__file__).parents[2]
FACTORY = """
import dlt
import pyarrow as pa

@dlt.resource(name="rows", write_disposition="append")
def rows(size):
    for start in range(0, size, 10_000):
        ids = pa.array(range(start, start + 10_000), pa.int64())
        texts = pa.array([f"{n:x} text of one row {n * 7919:x}" for n in ids.tolist()])
        yield pa.table({"id": ids, "a": texts, "b": texts, "c": texts, "d": texts, "e": texts})
"""
LONG = """
import dlt

@dlt.resource(name="rows", write_disposition="append")
def rows(size):
    for start in range(0, size, 100):
        yield [{"id": n, "document": f"{n:x} " * 3_000} for n in range(start, start + 100)]
"""
CHILD = """
import resource, sys
from pathlib import Path
from tests.integration.extracting import count, extract_once, settings_of

sys.path.insert(0, sys.argv[1])
source = {"factory": "many_rows:rows", "arguments": {"size": int(sys.argv[2])}}
settings = settings_of(Path(sys.argv[1]) / sys.argv[2], {"py": source})
extract_once(settings)
assert count(settings, "py_raw.rows") == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, rows: int) -> int:
    """Peak memory of a process that extracts so many rows, in the machine's unit."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(rows)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return int(child.stdout.split()[-1])  # DuckDB may have drawn a progress bar before it


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    (tmp_path / "many_rows.py").write_text(FACTORY)
    few, many = peak(tmp_path, 100_000), peak(tmp_path, 1_000_000)
    assert many <= 1.5 * few, (few, many)


def test_load_that_needs_more_memory_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl.raw.pipeline, "LEAN_MEGABYTES_PER_THREAD", 1)
    loads = load_counting(tmp_path, monkeypatch, "many_rows", FACTORY, 100_000)
    assert loads == 2, "the first load had enough memory: this test proves nothing"


def test_load_of_long_values_gets_more_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt would try five times with too little, and log as many errors."""
    monkeypatch.setattr(etl.raw.pipeline, "LEAN_MEGABYTES_PER_THREAD", 20)
    assert load_counting(tmp_path, monkeypatch, "long_rows", LONG, 4_000) == 1


def test_long_rows_wait_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 of them would be one group of rows, which DuckDB reads whole."""
    groups: list[int] = []
    real = Packages.largest_vector

    def largest_vector(self: Packages) -> int:
        for file in self.files_of_standing_tables().get("rows", ()):
            data = parquet.read_metadata(file)
            groups.extend(data.row_group(i).total_byte_size for i in range(data.num_row_groups))
        return real(self)

    monkeypatch.setattr(Packages, "largest_vector", largest_vector)
    load_counting(tmp_path, monkeypatch, "long_rows", LONG, 4_000)
    assert sum(groups) > 40e6
    assert max(groups) < 20e6


def test_commit_that_lacks_memory_is_made_with_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB says then that the transaction failed, and dlt that it may help to try again."""
    limited: list[bool] = []
    load = Pipeline.load

    def failing(self: Pipeline, *given: Any, **named: Any) -> Any:
        with duckdb.connect(str(tmp_path / "data" / "warehouse.duckdb")) as connection:
            [(limit,)] = connection.execute("SELECT current_setting('memory_limit')").fetchall()
        limited.append(limit.endswith("MiB"))
        if limited == [True]:
            raise DatabaseTransientException(duckdb.TransactionException("failed to commit"))
        return load(self, *given, **named)

    monkeypatch.setattr(Pipeline, "load", failing)
    load_counting(tmp_path, monkeypatch, "many_rows", FACTORY, 10_000)
    assert limited == [True, False]


def load_counting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, rows: int
) -> int:
    """Extract so many rows; how often they were loaded until they stood there."""
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    taken: list[int] = []
    real = Raw._take_back

    def take_back(self: Raw) -> list[str]:
        taken.append(1)
        return real(self)

    monkeypatch.setattr(Raw, "_take_back", take_back)
    source = {"factory": f"{module}:rows", "arguments": {"size": rows}}
    extract_once(settings := settings_of(folder, {"py": source}))
    assert count(settings, "py_raw.rows") == rows
    return len(taken)


def test_count_that_needs_more_memory_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[str] = []

    def count_values(connection: duckdb.DuckDBPyConnection, *wanted: Any, others: bool) -> Any:
        [(limit, threads)] = connection.execute(
            "SELECT current_setting('memory_limit'), current_setting('threads')"
        ).fetchall()
        limits.append(limit)
        if len(limits) == 1:
            assert limit == f"{8 * threads}.0 MiB"
            raise duckdb.OutOfMemoryException
        return shapes.count_values(connection, *wanted, others=others)

    monkeypatch.setattr(etl.raw.pipeline, "LEAN_MEGABYTES_PER_THREAD", 8)
    monkeypatch.setattr(etl.raw.pipeline, "count_values", count_values)
    (tmp_path / "many_rows.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = {"factory": "many_rows:rows", "arguments": {"size": 10_000}}
    settings = settings_of(tmp_path, {"py": source})
    extract_once(settings)
    assert count(settings, "py_raw.rows") == 10_000
    assert limits[1].endswith("GiB")


def test_limit_of_the_load_does_not_stay_for_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DuckDB enforces it, not as it shows it."""
    monkeypatch.setattr(etl.raw.pipeline, "LEAN_MEGABYTES_PER_THREAD", 8)
    (tmp_path / "many_rows.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = {"factory": "many_rows:rows", "arguments": {"size": 10_000}}
    settings = settings_of(tmp_path, {"py": source})
    settings.data.mkdir()
    with duckdb.connect(str(settings.warehouse)) as held:
        extract_once(settings)
        held.execute("SET temp_directory = ''")
        held.execute("CREATE TABLE t AS SELECT md5(i::VARCHAR) AS s FROM range(1000000) AS r(i)")
        held.execute("CREATE TABLE u AS FROM t ORDER BY s")
