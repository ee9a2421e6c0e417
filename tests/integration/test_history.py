"""The run record goes into the warehouse and comes back as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.history import PARTS, SCHEMA, write_history
from etl.model_states import (
    ModelState,
    Transformation,
    Verdict,
    publishable,
    read_states,
    read_transformation,
    write_states,
    write_transformation,
)
from etl.records import Options, RunRecord
from tests.duckdb_files import opened
from tests.processes import ROOT
from tests.run_records import full

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
RECORD = full(
    options=Options(select=("marts.a+",), full_refresh=True), started_at=AT,
    warnings=("“it's” wrong; 'quoted' 🙂", "w2"),
)  # fmt: skip


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with opened(tmp_path / "warehouse.duckdb") as found:
        yield found


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM {SCHEMA}.{table}")
    names = [d[0] for d in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def read_back(connection: duckdb.DuckDBPyConnection) -> RunRecord:
    """The record again, from its tables alone."""
    (run,) = rows(connection, "runs")
    parts: dict[str, Any] = {}
    for table, kind in PARTS.items():
        parts[table] = tuple(
            {
                k: json.loads(v)
                if isinstance(v, str) and str(kind.model_fields[k].annotation).startswith("tuple")
                else v
                for k, v in row.items()
                if k not in ("run_id", "attempt")
            }
            for row in rows(connection, table)
        )
    return RunRecord.model_validate(
        {
            **run,
            "versions": json.loads(run["versions"]),
            "options": json.loads(run["options"]),
            "warnings": json.loads(run["warnings"]),
            "snapshot_date": run["snapshot_date"].isoformat(),
            "status": "finished",
            **parts,
        }
    )


def test_record_comes_back_from_its_tables_as_it_was(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    write_history(connection, RECORD)
    assert read_back(connection) == RECORD
    assert all(getattr(RECORD, table) for table in PARTS), "every part is tried"


def test_second_writing_of_an_attempt_replaces_the_first(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    write_history(connection, RECORD)
    write_history(connection, RECORD.model_copy(update={"exit_code": 0, "failures": ()}))
    assert [r["exit_code"] for r in rows(connection, "runs")] == [0]
    assert rows(connection, "failures") == []
    assert len(rows(connection, "models")) == 2


def test_next_attempt_stands_beside_the_first(connection: duckdb.DuckDBPyConnection) -> None:
    write_history(connection, RECORD)
    write_history(connection, RECORD.model_copy(update={"attempt": 2}))
    assert sorted(r["attempt"] for r in rows(connection, "runs")) == [1, 2]
    assert sorted({r["attempt"] for r in rows(connection, "audits")}) == [1, 2]


def test_tables_of_an_earlier_version_get_the_columns_that_they_lack(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute(f"""
        CREATE SCHEMA {SCHEMA};
        CREATE TABLE {SCHEMA}.runs (attempt BIGINT, run_id VARCHAR, gone VARCHAR, job VARCHAR,
            PRIMARY KEY (run_id, attempt));
        INSERT INTO {SCHEMA}.runs VALUES (1, 'old', 'x', 'shop');
        CREATE TABLE {SCHEMA}.audits (run_id VARCHAR, attempt BIGINT, name VARCHAR);
        CREATE TABLE {SCHEMA}.model_states (environment VARCHAR, model VARCHAR, verdict VARCHAR,
            PRIMARY KEY (environment, model));
    """)
    write_history(connection, RECORD)
    write_states(connection, "prod", "r", {"marts.a": "failed"}, {"marts.a": ("id",)})
    found = {r["run_id"]: r for r in rows(connection, "runs")}
    assert found["old"]["exit_code"] is None
    assert found["old"]["gone"] == "x"
    assert found[RECORD.run_id]["exit_code"] == 3
    assert rows(connection, "audits")[0]["failing_rows"] == 42
    assert read_states(connection, "prod")["marts.a"].grain == ("id",)


def test_failed_writing_leaves_the_history_as_it_was(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    write_history(connection, RECORD)
    connection.execute(f"ALTER TABLE {SCHEMA}.loads ALTER inserted TYPE BOOLEAN")
    connection.execute(f"ALTER TABLE {SCHEMA}.loads ALTER COLUMN seconds TYPE DATE USING NULL")
    with pytest.raises(duckdb.Error):
        write_history(connection, RECORD.model_copy(update={"exit_code": 0}))
    assert [r["exit_code"] for r in rows(connection, "runs")] == [3]
    assert len(rows(connection, "models")) == 2


def test_verdicts_and_grains_by_environment(connection: duckdb.DuckDBPyConnection) -> None:
    verdicts: dict[str, Verdict] = {"marts.a": "passed", "marts.b": "failed"}
    write_states(connection, "prod", "r", verdicts, {"marts.b": ("id",)})
    write_states(connection, "dev", "r", {"marts.a": "unfinished"}, {})
    write_states(connection, "prod", "r2", {"marts.b": "unaudited"}, {"marts.b": ("id", "day")})
    states = read_states(connection, "prod")
    assert states == {
        "marts.a": ModelState("passed", ()),
        "marts.b": ModelState("unaudited", ("id", "day")),
    }
    held = publishable(states, ["marts.a", "marts.b", "marts.c"])
    assert set(held) == {"marts.b", "marts.c"}
    assert held["marts.c"] == "it was never built"


def test_reading_without_history_finds_nothing_and_makes_nothing(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    assert read_states(connection, "prod") == {}
    assert read_transformation(connection, "prod") is None
    assert connection.execute("SELECT count(*) FROM information_schema.tables").fetchone() == (0,)


@pytest.mark.parametrize("due_at", [AT, None])
def test_transformation_comes_back_as_it_was(
    connection: duckdb.DuckDBPyConnection, due_at: datetime | None
) -> None:
    done = Transformation(
        "files", "packages", "plan", due_at, (("shop_raw", "orders", "s.orders"),), AT
    )
    write_transformation(connection, "prod", "r1", Transformation("", "", "", None, (), AT))
    write_transformation(connection, "prod", "r2", done)
    assert read_transformation(connection, "prod") == done
    assert read_transformation(connection, "dev") is None


FULL = """
import resource, sys
import duckdb
from etl.history import write_history
from etl.model_states import write_states
from etl.packages import note_shown
from tests.integration.test_history import RECORD

connection = duckdb.connect(sys.argv[1])
number = 0

def write():
    global number
    number += 1
    verdict = "passed" if number % 2 else "unfinished"
    if "states" in sys.argv:
        write_states(connection, "prod", str(number), {"marts.a": verdict}, {"marts.a": ("id",)})
    if "history" in sys.argv:
        write_history(connection, RECORD.model_copy(update={"exit_code": number}))
    if "shown" in sys.argv:
        note_shown(connection, "prod", {"marts.a"}, {"marts.a": {"raw": [str(number)]}})

write()
connection.close()
connection = duckdb.connect(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    while number < 1000:
        write()
except duckdb.TransactionException:
    print("told")
"""


@pytest.mark.parametrize("what", ["states", "history", "shown"])
def test_full_disk_at_a_commit_is_told(tmp_path: Path, what: str) -> None:
    """DuckDB aborts the process when a row is deleted and inserted under its key."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "w.duckdb"), what],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr[-2000:]
