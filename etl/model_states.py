"""Which models may be published, and the last whole transformation, kept in the warehouse."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb

from etl.warehouse import ensure_tables, exists

Verdict = Literal["passed", "failed", "held_back", "unfinished", "unaudited"]

STATES: dict[str, Any] = {
    "name": "etl_meta.model_states",
    "columns": {
        "environment": "VARCHAR",
        "model": "VARCHAR",
        "verdict": "VARCHAR",
        "grain": "VARCHAR[]",
        "run_id": "VARCHAR",
        "changed_at": "TIMESTAMPTZ",
    },
    "key": ("environment", "model"),
}
TRANSFORMATIONS: dict[str, Any] = {
    "name": "etl_meta.transformations",
    "columns": {
        "environment": "VARCHAR",
        "project": "VARCHAR",
        "packages": "VARCHAR",
        "plan_id": "VARCHAR",
        "due_at": "TIMESTAMPTZ",
        "pairs": "JSON",
        "run_id": "VARCHAR",
        "finished_at": "TIMESTAMPTZ",
    },
    "key": ("environment",),
}


@dataclass(frozen=True)
class ModelState:
    """Whether a model's present content passed its audits, and what identifies its rows."""

    verdict: Verdict
    grain: tuple[str, ...]


def read_states(connection: duckdb.DuckDBPyConnection, environment: str) -> dict[str, ModelState]:
    """The state of every model of an environment; empty before the first transformation."""
    if not exists(connection, "etl_meta", "model_states"):
        return {}
    rows = connection.execute(
        "SELECT model, verdict, grain FROM etl_meta.model_states WHERE environment = ?",
        [environment],
    ).fetchall()
    return {m: ModelState(v, tuple(g or ())) for m, v, g in rows}


def read_verdicts(connection: duckdb.DuckDBPyConnection, environment: str) -> dict[str, Verdict]:
    """The verdict on every model of an environment."""
    return {m: s.verdict for m, s in read_states(connection, environment).items()}


def write_states(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    run_id: str,
    verdicts: Mapping[str, Verdict],
    grains: Mapping[str, tuple[str, ...]],
) -> None:
    """Set models' verdicts, all of them or none."""
    ensure_tables(connection, [STATES])
    now = datetime.now(UTC)
    rows = [[environment, m, list(grains.get(m, ())), v, run_id, now] for m, v in verdicts.items()]
    if not rows:
        return
    connection.begin()
    connection.executemany(
        "INSERT INTO etl_meta.model_states "
        "(environment, model, grain, verdict, run_id, changed_at) VALUES (?,?,?,?,?,?) "
        "ON CONFLICT DO UPDATE SET verdict = excluded.verdict, run_id = excluded.run_id, "
        "changed_at = excluded.changed_at",
        rows,
    )
    # Only where it is another: DuckDB 1.5 deletes and inserts to change a list, see `etl.history`.
    connection.executemany(
        "UPDATE etl_meta.model_states SET grain = $3 "
        "WHERE environment = $1 AND model = $2 AND grain IS DISTINCT FROM $3",
        [row[:3] for row in rows],
    )
    connection.commit()


def forget_models(
    connection: duckdb.DuckDBPyConnection, environment: str, keep: Collection[str]
) -> None:
    """Drop the verdicts of all other models: the project has them no more."""
    connection.execute(
        "DELETE FROM etl_meta.model_states WHERE environment = ? AND NOT list_contains(?, model)",
        [environment, sorted(keep)],
    )


@dataclass(frozen=True)
class Transformation:
    """The last transformation of an environment that left nothing to do.

    `project` and `packages` are fingerprints of the project's files and of the committed load
    packages, `due_at` is when a model's cron asks for the next one (None: every run must),
    `pairs` are (dataset, raw table, staging model), `finished_at` is when it was noted.
    """

    project: str
    packages: str
    plan_id: str
    due_at: datetime | None
    pairs: tuple[tuple[str, str, str], ...]
    finished_at: datetime


def read_transformation(
    connection: duckdb.DuckDBPyConnection, environment: str
) -> Transformation | None:
    """The last complete transformation of an environment, None before the first."""
    if not exists(connection, "etl_meta", "transformations"):
        return None
    row = connection.execute(
        "SELECT project, packages, plan_id, due_at, pairs, finished_at "
        "FROM etl_meta.transformations WHERE environment = ?",
        [environment],
    ).fetchone()
    if row is None:
        return None
    pairs = tuple((str(d), str(t), str(m)) for d, t, m in json.loads(row[4] or "[]"))
    return Transformation(str(row[0]), str(row[1]), str(row[2]), row[3], pairs, row[5])


def write_transformation(
    connection: duckdb.DuckDBPyConnection, environment: str, run_id: str, done: Transformation
) -> None:
    """Note a complete transformation in place of the one before."""
    ensure_tables(connection, [TRANSFORMATIONS])
    row = vars(done) | {
        "environment": environment,
        "run_id": run_id,
        "pairs": json.dumps(done.pairs),
    }
    connection.execute(
        f"INSERT OR REPLACE INTO etl_meta.transformations ({', '.join(row)}) "  # noqa: S608 - names of ours
        f"VALUES ({', '.join('?' * len(row))})",
        [*row.values()],
    )


def publishable(states: Mapping[str, ModelState], models: Iterable[str]) -> dict[str, str]:
    """Which of these models must not be published, and why: model to reason."""
    reasons: dict[Verdict | None, str] = {
        None: "it was never built",
        "failed": "it failed, or its audits did",
        "held_back": "a model above it failed or went on without it, or a standalone audit has "
        "still to pass",
        "unfinished": "its last transformation did not end",
        "unaudited": "a standalone audit that reads it has not run since its transformation",
    }
    verdicts = {m: states[m].verdict if m in states else None for m in models}
    return {m: reasons[v] for m, v in verdicts.items() if v != "passed"}
