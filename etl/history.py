"""Run records inside the warehouse (schema `etl_meta`), and which models may be published."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_origin

import duckdb

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
Verdict = Literal["passed", "failed", "held_back", "unfinished"]


@dataclass(frozen=True)
class ModelState:
    """Whether a model's present content passed its audits, and what identifies its rows."""

    model: str
    verdict: Verdict
    grain: tuple[str, ...]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing of the schema `etl_meta`."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.execute(
        f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.runs (
            run_id VARCHAR, attempt BIGINT, job VARCHAR, profile VARCHAR, environment VARCHAR,
            snapshot_date DATE, started_at TIMESTAMPTZ, finished_at TIMESTAMPTZ, exit_code BIGINT,
            exit_name VARCHAR, partial BOOLEAN, versions JSON, options JSON, warnings JSON,
            PRIMARY KEY (run_id, attempt))"""
    )
    connection.execute(
        f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.model_states (
            environment VARCHAR, model VARCHAR, verdict VARCHAR, grain VARCHAR[], run_id VARCHAR,
            changed_at TIMESTAMPTZ, PRIMARY KEY (environment, model))"""
    )
    for name, kind in PARTS.items():
        columns = ", ".join(
            f"{quoted(f)} {_type(i.annotation)}" for f, i in kind.model_fields.items()
        )
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{name} (run_id VARCHAR, attempt BIGINT, {columns})"
        )


def _type(annotation: Any) -> str:
    plain = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
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
        connection.execute(
            f"INSERT INTO {SCHEMA}.runs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
            [
                record.run_id, record.attempt, record.job, record.profile, record.environment,
                record.snapshot_date, record.started_at, record.finished_at, record.exit_code,
                record.exit_name, record.partial, json.dumps(record.versions),
                record.options.model_dump_json(), json.dumps(record.warnings),
            ],
        )  # fmt: skip
        for table in PARTS:
            rows = [
                [record.run_id, record.attempt, *map(_plain, part.model_dump(mode="json").values())]
                for part in getattr(record, table)
            ]
            if rows:
                marks = ",".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {SCHEMA}.{table} VALUES ({marks})", rows)  # noqa: S608
        connection.commit()
    except duckdb.Error:
        connection.rollback()
        raise


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


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
    rows = [
        [environment, m, v, list(grains.get(m, ())), run_id, now] for m, v in verdicts.items()
    ]
    if not rows:
        return
    connection.begin()
    connection.executemany(
        f"INSERT OR REPLACE INTO {SCHEMA}.model_states VALUES (?,?,?,?,?,?)",  # noqa: S608
        rows,
    )
    connection.commit()


def publishable(states: Mapping[str, ModelState], models: Iterable[str]) -> dict[str, str]:
    """Which of these models must not be published, and why: model to reason."""
    reasons = {
        "failed": "its audits failed",
        "held_back": "a model above it failed",
        "unfinished": "its last transformation did not end",
    }
    held: dict[str, str] = {}
    for model in models:
        state = states.get(model)
        if state is None:
            held[model] = "it was never built"
        elif state.verdict != "passed":
            held[model] = reasons[state.verdict]
    return held
