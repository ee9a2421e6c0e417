"""Records of finished runs: a short one, and one in which something of every kind happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from etl.errors import DataQualityError, EtlError
from etl.records import Failure, Options, RunRecord

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def record(*errors: EtlError, **more: Any) -> RunRecord:
    """A finished run with these failures; its code is the first one's."""
    code = errors[0].code if errors else 0
    return RunRecord.model_validate(
        {
            "run_id": "20260102T000000Z-000001", "job": "shop", "profile": "default",
            "environment": "prod", "options": Options(), "attempt": 1, "versions": {},
            "started_at": NOW, "finished_at": NOW, "status": "finished", "exit_code": int(code),
            "exit_name": "", "partial": False, "snapshot_date": "2026-01-02",
            "failures": [Failure.of(e, "extract") for e in errors], **more,
        }
    )  # fmt: skip


def times(start: float, end: float) -> dict[str, Any]:
    """So many seconds after the run began."""
    return {
        "started_at": NOW + timedelta(seconds=start),
        "finished_at": NOW + timedelta(seconds=end),
    }


def full(**more: Any) -> RunRecord:
    """A run in which something of every kind happened."""
    source = {"source": "shop", "pages": 3, "requests": 4, "retries": 1}
    load = {"target": "pg", "strategy": "merge", **times(40, 50)}
    given = {
        "finished_at": NOW + timedelta(seconds=50), "exit_name": "DATA_QUALITY", "partial": True,
        "warnings": ("the clock was ahead",), "versions": {"etl-job": "1.2.3"},
        "stages": [
            {"name": "extract", "status": "ok", "attempts": 1, "seconds": 10, **times(0, 10)},
            {"name": "load", "status": "ok", "attempts": 1, "seconds": 10, **times(40, 50)},
        ],
        "sources": [
            {**source, "resource": "orders", "rows": 1234, "load_ids": ["17.5"], **times(0, 9),
             "schema_changes": [{"kind": "new", "table": "orders", "column": "tax"}],
             "discarded": [{"table": "orders", "column": "x", "rows": 7}]},
        ],
        "reconciliations": [
            {"between": "api-raw", "subject": "shop_raw.orders", "load_id": "17.5",
             "expected": 1234, "found": 1233},
            {"between": "raw-staging", "subject": "staging.a", "load_id": "17.5",
             "expected": 5, "found": 5},
        ],
        "models": [
            {"name": "marts.a", "kind": "FULL", "intervals": 1, "rows": 9, "seconds": 2,
             "status": "failed", **times(20, 22)},
            {"name": "marts.idle", "kind": "VIEW", "intervals": 0, "rows": None, "seconds": 0,
             "status": "held_back"},
        ],
        "audits": [
            {"model": "marts.a", "name": "not_null", "blocking": True, "status": "failed",
             "failing_rows": 42, "sql": "SELECT * FROM a WHERE b IS NULL",
             "sample": [{"id": 5, "b": None}]},
            {"model": "marts.a", "name": "unique", "blocking": False, "status": "passed",
             "failing_rows": 0, "sql": ""},
        ],
        "loads": [
            {**load, "model": "marts.b", "table": "public.b", "status": "published",
             "inserted": 11, "updated": 22, "deleted": 33, "rows_at_target": 4444},
            {**load, "model": "marts.a", "table": "public.a", "status": "held_back"},
        ],
    }  # fmt: skip
    error = DataQualityError("audit not_null failed on marts.a", subject="marts.a", hint="mend it")
    return record(error, **{**given, **more})
