"""SQL Server among other processes: readers during publications, and kills at every step.

They run at the server that `ETL_TEST_MSSQL_DSN` names; its database has READ_COMMITTED_SNAPSHOT on.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from etl.settings import Strategy
from etl.targets import Publication
from tests.integration.servers import DIE_AT, STATE, A, SqlServer, counts, mssql, warehouse

__all__ = ["mssql", "warehouse"]

# Publishes and dies on the way.
KILLED = f"""{DIE_AT}
import sys
import duckdb
from pydantic import SecretStr
from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.mssql.session import MssqlSession
from etl.targets.publication import Order
from etl.targets.server.published import Published
warehouse, dsn, where, count = sys.argv[1:]
name, when = where.split()
owner, method = (Published, "write") if name == "remember" else (MssqlSession, name)
die_at(owner, method, when, count)
both = Publication("marts.a", "a", ("id",)), Publication("marts.b", "reports.b", ("id",))
target = Target(kind="mssql", dsn=SecretStr(dsn))
SERVER_TARGETS["mssql"](duckdb.connect(warehouse), Order("there", both, ()), target)
"""
B = Publication("marts.b", "reports.b", ("id",))
STEPS = [
    ("prepare after", 1), ("stage after", 1), ("apply after", 1), ("apply after", 2),
    ("write_mark after", 2), ("commit before", 1), ("commit after", 1), ("remember after", 1),
    ("remember after", 2),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_step_the_next_run_ends_with_exactly_the_marts_rows(
    mssql: SqlServer, tmp_path: Path
) -> None:
    path = tmp_path / "warehouse.duckdb"
    for state, (where, count) in enumerate(STEPS, 1):
        # Rows come, change and go.
        mssql.warehouse.execute(STATE.format(state, 100 + 10 * (state % 3)))
        mssql.warehouse.close()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, path, mssql.dsn, where, str(count)],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        mssql.warehouse = duckdb.connect(str(path))
        assert done.returncode == -9, (where, count, done.stderr)
        if mssql.exists("a"):
            # Both tables changed together, or neither did.
            assert mssql.query("SELECT DISTINCT state FROM a") == mssql.query(
                "SELECT DISTINCT state FROM reports.b"
            )
        runs = mssql.publish(A, B)
        assert runs["a"].reconciled
        for table, model in (("a", "a"), ("reports.b", "b")):
            expected = mssql.warehouse.execute(f"FROM marts.{model} ORDER BY id").fetchall()
            assert mssql.query(f"SELECT id, state FROM {table} ORDER BY id") == expected
        assert counts(mssql.publish(A, B)["a"])[:4] == ("unchanged", 0, 0, 0)


@pytest.mark.parametrize(
    ("strategy", "key"), [("replace", ("id",)), ("replace", ()), ("merge", ("id",))]
)
def test_readers_see_one_state_or_the_other(
    mssql: SqlServer, strategy: Strategy, key: tuple[str, ...]
) -> None:
    rows = 500
    a = Publication("marts.a", "a", key, strategy)
    b = Publication("marts.b", "b", key, strategy)
    mssql.change(STATE.format(0, rows))
    mssql.publish(a, b)
    seen: set[tuple[int, int, int]] = set()
    done = threading.Event()

    def read() -> None:
        reader = mssql.connect()
        while not done.is_set():
            row = reader.execute(
                "SELECT count(*), min(state), max(state) "
                "FROM (SELECT state FROM a UNION ALL SELECT state FROM b) AS both_tables"
            ).fetchone()
            seen.add(tuple(row))
        reader.close()

    reading = threading.Thread(target=read)
    reading.start()
    try:
        for state in (1, 2, 3):
            mssql.change(STATE.format(state, rows))
            mssql.publish(a, b)
    finally:
        done.set()
        reading.join()
    assert seen <= {(2 * rows, s, s) for s in range(4)}
    assert len(seen) > 1
