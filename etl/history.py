"""Run records inside the warehouse (schema `etl_meta`), for SQL."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
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
from etl.warehouse import ensure_tables, exists, quoted

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
# Of the run itself; the rest of its record stands in its parts.
RUN = (
    "run_id", "attempt", "job", "profile", "environment", "snapshot_date", "started_at",
    "finished_at", "exit_code", "exit_name", "partial", "versions", "options", "warnings",
)  # fmt: skip


def _tables() -> list[dict[str, Any]]:
    run = _columns(RunRecord, RUN) | {"snapshot_date": "DATE"}
    runs = {"name": f"{SCHEMA}.runs", "columns": run, "key": ("run_id", "attempt")}
    ids = _columns(RunRecord, ("run_id", "attempt"))
    parts = [
        {"name": f"{SCHEMA}.{name}", "columns": ids | _columns(kind, kind.model_fields)}
        for name, kind in PARTS.items()
    ]
    return [runs, *parts]


def _columns(kind: type[Record], names: Iterable[str]) -> dict[str, str]:
    return {name: _type(kind.model_fields[name].annotation) for name in names}


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
    ensure_tables(connection, _tables())
    connection.begin()
    try:
        for table in PARTS:
            connection.execute(
                f"DELETE FROM {SCHEMA}.{table} WHERE run_id = ? AND attempt = ?",  # noqa: S608
                [record.run_id, record.attempt],
            )
        _insert(connection, "runs", RUN, [[getattr(record, c) for c in RUN]])
        for table, kind in PARTS.items():
            rows = [
                [record.run_id, record.attempt, *(getattr(part, f) for f in kind.model_fields)]
                for part in getattr(record, table)
            ]
            _insert(connection, table, ("run_id", "attempt", *kind.model_fields), rows)
        connection.commit()
    except duckdb.Error:
        with suppress(duckdb.Error):  # ended by what failed
            connection.rollback()
        raise


def evaluated_models(connection: duckdb.DuckDBPyConnection, environment: str) -> set[str]:
    """Models that a run which ended, well or not, evaluated without a failure."""
    if not exists(connection, SCHEMA, "models"):
        return set()
    rows = connection.execute(
        "SELECT DISTINCT name FROM etl_meta.models JOIN etl_meta.runs USING (run_id, attempt) "
        "WHERE environment = ? AND status = 'ok'",
        [environment],
    ).fetchall()
    return {str(name) for (name,) in rows}


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[str], rows: list[list[Any]]
) -> None:
    """Insert by column name: a table that an earlier version made has another order."""
    if rows:
        names = ", ".join(quoted(c) for c in columns)
        marks = ", ".join("?" * len(rows[0]))
        # A row that is deleted and inserted under its primary key makes DuckDB 1.5 abort the
        # process when the disk is full at the commit.
        insert = "INSERT OR REPLACE" if table == "runs" else "INSERT"
        connection.executemany(
            f"{insert} INTO {SCHEMA}.{table} ({names}) VALUES ({marks})",
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
