"""Run records inside the warehouse (schema `etl_meta`), and which models may be published."""

from __future__ import annotations

import json
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin

import duckdb
from pydantic import BaseModel

from etl.records import (
    AuditRun,
    Failure,
    LoadRun,
    ModelRun,
    Reconciliation,
    Record,
    RunRecord,
    SourceRun,
    Stage,
)
from etl.warehouse import exists, quoted

SCHEMA = "etl_meta"
PARTS: dict[str, type[Record]] = {
    "failures": Failure,
    "stages": Stage,
    "sources": SourceRun,
    "models": ModelRun,
    "audits": AuditRun,
    "loads": LoadRun,
    "reconciliations": Reconciliation,
}
Verdict = Literal["passed", "failed", "held_back", "unfinished", "unaudited"]


RUN_COLUMNS = {
    "job": "VARCHAR",
    "profile": "VARCHAR",
    "environment": "VARCHAR",
    "snapshot_date": "DATE",
    "started_at": "TIMESTAMPTZ",
    "finished_at": "TIMESTAMPTZ",
    "exit_code": "BIGINT",
    "exit_name": "VARCHAR",
    "partial": "BOOLEAN",
    "versions": "JSON",
    "options": "JSON",
    "warnings": "JSON",
}
STATE_COLUMNS = {
    "environment": "VARCHAR",
    "model": "VARCHAR",
    "verdict": "VARCHAR",
    "grain": "VARCHAR[]",
    "run_id": "VARCHAR",
    "changed_at": "TIMESTAMPTZ",
}
TRANSFORMATION_COLUMNS = {
    "environment": "VARCHAR",
    "project": "VARCHAR",
    "packages": "VARCHAR",
    "plan_id": "VARCHAR",
    "due_at": "TIMESTAMPTZ",
    "pairs": "JSON",
    "run_id": "VARCHAR",
    "finished_at": "TIMESTAMPTZ",
}


@dataclass(frozen=True)
class ModelState:
    """Whether a model's present content passed its audits, and what identifies its rows."""

    model: str
    verdict: Verdict
    grain: tuple[str, ...]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing of the schema `etl_meta`."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    present: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ?",
        [SCHEMA],
    ).fetchall():
        present.setdefault(table, set()).add(column)
    for name, (columns, key) in _tables().items():
        if name not in present:
            listed = [f"{quoted(c)} {t}" for c, t in columns.items()]
            primary = [f"PRIMARY KEY ({', '.join(key)})"] if key else []
            connection.execute(f"CREATE TABLE {SCHEMA}.{name} ({', '.join(listed + primary)})")
            continue
        # An earlier version made it: what it lacks is added, its rows keep NULL there.
        for column, kind in columns.items():
            if column not in present[name]:
                connection.execute(
                    f"ALTER TABLE {SCHEMA}.{name} ADD COLUMN {quoted(column)} {kind}"
                )


def _tables() -> dict[str, tuple[dict[str, str], tuple[str, ...]]]:
    """Every table: its columns with their types, and its primary key."""
    run = {"run_id": "VARCHAR", "attempt": "BIGINT"}
    return {
        "runs": (run | RUN_COLUMNS, ("run_id", "attempt")),
        "model_states": (STATE_COLUMNS, ("environment", "model")),
        "transformations": (TRANSFORMATION_COLUMNS, ("environment",)),
    } | {
        name: (run | {f: _type(i.annotation) for f, i in kind.model_fields.items()}, ())
        for name, kind in PARTS.items()
    }


def _type(annotation: Any) -> str:
    plain = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN",
             datetime: "TIMESTAMPTZ"}  # fmt: skip
    origin = get_origin(annotation)
    if origin is Literal:
        return "VARCHAR"
    if origin is types.UnionType:
        return _type(next(a for a in get_args(annotation) if a is not type(None)))
    return plain.get(annotation, "JSON")


def write_history(connection: duckdb.DuckDBPyConnection, record: RunRecord) -> None:
    """Add a finished run; a second time for the same attempt replaces the first."""
    create_tables(connection)
    connection.begin()
    try:
        for table in ("runs", *PARTS):
            connection.execute(
                f"DELETE FROM {SCHEMA}.{table} WHERE run_id = ? AND attempt = ?",  # noqa: S608
                [record.run_id, record.attempt],
            )
        run = [getattr(record, c) for c in ("run_id", "attempt", *RUN_COLUMNS)]
        _insert(connection, "runs", ("run_id", "attempt", *RUN_COLUMNS), [run])
        for table, kind in PARTS.items():
            rows = [
                [record.run_id, record.attempt, *(getattr(part, f) for f in kind.model_fields)]
                for part in getattr(record, table)
            ]
            _insert(connection, table, ("run_id", "attempt", *kind.model_fields), rows)
        connection.commit()
    except duckdb.Error:
        connection.rollback()
        raise


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[str], rows: list[list[Any]]
) -> None:
    """Insert by column name: a table that an earlier version made has another order."""
    if rows:
        names = ", ".join(quoted(c) for c in columns)
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(
            f"INSERT INTO {SCHEMA}.{table} ({names}) VALUES ({marks})",  # noqa: S608
            [[_plain(v) for v in row] for row in rows],
        )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, tuple | list | dict):
        return json.dumps(
            value, ensure_ascii=False, default=lambda part: part.model_dump(mode="json")
        )
    return value


def read_states(
    connection: duckdb.DuckDBPyConnection, environment: str, *, create: bool = True
) -> dict[str, ModelState]:
    """The state of every model of an environment; empty before the first transformation."""
    if create:
        create_tables(connection)
    elif not exists(connection, SCHEMA, "model_states"):
        return {}
    rows = connection.execute(
        f"SELECT model, verdict, grain FROM {SCHEMA}.model_states WHERE environment = ?",  # noqa: S608
        [environment],
    ).fetchall()
    return {m: ModelState(m, v, tuple(g or ())) for m, v, g in rows}


def write_states(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    run_id: str,
    verdicts: Mapping[str, Verdict],
    grains: Mapping[str, tuple[str, ...]],
) -> None:
    """Set models' verdicts, all of them or none."""
    create_tables(connection)
    now = datetime.now(UTC)
    rows = [[environment, m, v, list(grains.get(m, ())), run_id, now] for m, v in verdicts.items()]
    if not rows:
        return
    connection.begin()
    connection.executemany(
        f"INSERT OR REPLACE INTO {SCHEMA}.model_states ({', '.join(STATE_COLUMNS)}) "  # noqa: S608
        "VALUES (?,?,?,?,?,?)",
        rows,
    )
    connection.commit()


def forget_models(
    connection: duckdb.DuckDBPyConnection, environment: str, keep: Collection[str]
) -> None:
    """Drop the verdicts of all other models: the project has them no more."""
    connection.execute(
        f"DELETE FROM {SCHEMA}.model_states WHERE environment = ? AND NOT list_contains(?, model)",  # noqa: S608
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
    if not exists(connection, SCHEMA, "transformations"):
        return None
    row = connection.execute(
        "SELECT project, packages, plan_id, due_at, pairs, finished_at "  # noqa: S608
        f"FROM {SCHEMA}.transformations WHERE environment = ?",
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
    create_tables(connection)
    connection.execute(
        f"INSERT OR REPLACE INTO {SCHEMA}.transformations "  # noqa: S608
        f"({', '.join(TRANSFORMATION_COLUMNS)}) VALUES (?,?,?,?,?,?,?,?)",
        [
            environment,
            done.project,
            done.packages,
            done.plan_id,
            done.due_at,
            json.dumps(done.pairs),
            run_id,
            done.finished_at,
        ],
    )


def publishable(states: Mapping[str, ModelState], models: Iterable[str]) -> dict[str, str]:
    """Which of these models must not be published, and why: model to reason."""
    reasons = {
        "failed": "it failed, or its audits did",
        "held_back": "a model above it failed or went on without it, or a standalone audit has "
        "still to pass",
        "unfinished": "its last transformation did not end",
        "unaudited": "a standalone audit that reads it has not run since its transformation",
    }
    held: dict[str, str] = {}
    for model in models:
        state = states.get(model)
        if state is None:
            held[model] = "it was never built"
        elif state.verdict != "passed":
            held[model] = reasons[state.verdict]
    return held
