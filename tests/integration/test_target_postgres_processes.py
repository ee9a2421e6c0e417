"""PostgreSQL among other processes: readers during every publication, and kills at every step."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from etl.settings import Strategy
from etl.targets import Publication
from etl.targets.postgres import session, staging
from tests.integration.forking import forking
from tests.integration.servers import DIE_AT, STATE, A, Postgres, counts, pg, warehouse
from tests.postgres_server import running_server

__all__ = ["pg", "warehouse"]

# Publishes and dies on the way.
KILLED = f"""{DIE_AT}
import sys
import duckdb, psycopg
from pydantic import SecretStr
from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.publication import Order
from etl.targets.server.published import Published

def run():
    warehouse, dsn, where, count = sys.argv[1:]
    name, when = where.split()
    owner, method = (psycopg.Connection, name) if name in ("execute", "commit") else (
        (psycopg.Copy, name) if name == "write" else (Published, "write"))
    die_at(owner, method, when, count)
    both = Publication("marts.a", "a", ("id",)), Publication("marts.b", "reports.b", ("id",))
    target = Target(kind="postgres", dsn=SecretStr(dsn))
    SERVER_TARGETS["postgres"](duckdb.connect(warehouse), Order("pg", both, ()), target)
"""
B = Publication("marts.b", "reports.b", ("id",))


def set_state(warehouse: duckdb.DuckDBPyConnection, state: int, rows: int = 500) -> None:
    warehouse.execute(STATE.format(state, rows))


def steps() -> list[tuple[str, int]]:
    executes = [("execute before", n) for n in range(2, 60, 5)]
    return [
        *executes, ("write before", 1), ("write after", 1), ("write after", 2),
        ("commit before", 1), ("commit after", 1), ("remember before", 2), ("remember after", 1),
        ("remember after", 2),
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_at_any_step_the_next_run_ends_with_exactly_the_marts_rows(
    pg: Postgres, tmp_path: Path
) -> None:
    path, killed = tmp_path / "warehouse.duckdb", 0
    with forking(KILLED) as forks:
        for state, (where, count) in enumerate([("execute before", 9), *steps()], 1):
            # Rows come, change and go.
            set_state(pg.warehouse, state, 500 + 50 * (state % 3))
            pg.warehouse.close()
            code = forks.run(path, pg.server.dsn(pg.database), where, count)
            pg.warehouse = duckdb.connect(str(path))
            assert code in (-signal.SIGKILL, 0), (where, count)
            killed += code != 0
            if pg.query("SELECT to_regclass('a')") != [(None,)]:
                # Both tables changed together, or neither did.
                assert pg.query("SELECT DISTINCT state FROM a") == pg.query(
                    "SELECT DISTINCT state FROM reports.b"
                )
            runs = pg.publish(A, B)
            assert runs["a"].reconciled
            for table, model in (("a", "a"), ("reports.b", "b")):
                expected = pg.warehouse.execute(f"FROM marts.{model} ORDER BY id").fetchall()
                assert pg.query(f"SELECT id, state FROM {table} ORDER BY id") == expected
            assert counts(pg.publish(A, B)["a"])[:4] == ("unchanged", 0, 0, 0)
    assert killed >= 15


@pytest.mark.parametrize(
    ("strategy", "key"),
    [("replace", ("id",)), ("replace", ()), ("merge", ("id",)), ("append_once", ("id",))],
)
def test_readers_see_one_state_or_the_other(
    pg: Postgres, strategy: Strategy, key: tuple[str, ...]
) -> None:
    rows = 2000
    a = Publication("marts.a", "a", key, strategy)
    b = Publication("marts.b", "b", key, strategy)
    # With append_once nothing changes, so a state is told by the number of its rows.
    set_state(pg.warehouse, 0, rows)
    pg.publish(a, b)
    seen: set[tuple[int, int, int]] = set()
    reads, done = 0, threading.Event()

    def read() -> None:
        nonlocal reads
        with psycopg.connect(pg.server.dsn(pg.database), autocommit=True) as reader:
            while not done.is_set():
                row = reader.execute(
                    "SELECT count(*), min(state), max(state) "
                    "FROM (SELECT * FROM a UNION ALL SELECT * FROM b) AS both_tables"
                ).fetchone()
                assert row is not None
                seen.add(row)
                reads += 1

    reading = threading.Thread(target=read)
    reading.start()
    expected = {(2 * rows, 0, 0)}
    for state in range(1, 6):
        if strategy == "append_once":
            set_state(pg.warehouse, 0, rows + state)
            expected.add((2 * (rows + state), 0, 0))
        else:
            set_state(pg.warehouse, state, rows)
            expected.add((2 * rows, state, state))
        if state % 2:
            pg.change("DROP SCHEMA etl_published CASCADE")  # sent whole
        pg.publish(a, b)
    done.set()
    reading.join()
    assert seen <= expected
    assert len(seen) > 1
    assert reads > len(seen)


def test_rows_stay_known_when_the_servers_transactions_have_wrapped_round(
    warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy server has so many in a month; then its oldest rows seem to be from the future."""
    staged: list[int] = []

    def noted(*args: Any) -> Any:
        result = staging.stage(*args)
        staged.append(result.rows)
        return result

    monkeypatch.setattr(session, "stage", noted)
    with running_server() as server:
        pg = Postgres(server, warehouse)
        pg.publish(A)
        server.skip_transactions(1 << 31)
        both = A, Publication("marts.a", "new", ("id",))
        assert [r.status for r in pg.publish(*both).values()] == ["unchanged", "published"]
        for i in (1, 2):
            pg.change(f"UPDATE base.a SET v = 'x' WHERE id = {i}")
            assert [r.updated for r in pg.publish(*both).values()] == [1, 1]
    assert staged == [1, 1, 1, 1]
