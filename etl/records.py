"""The run record: what one run did, as frozen values with a published JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from etl.errors import EtlError, ExitCode, causes

SCHEMA_VERSION = 1

StageName = Literal["extract", "transform", "audit", "load"]
STAGE_NAMES: tuple[StageName, ...] = ("extract", "transform", "audit", "load")


class Record(BaseModel):
    """A frozen part of the run record."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(Record):
    """One failure, with its class and what to do about it."""

    exit_code: int
    exit_name: str
    stage: str = Field(description="stage, or empty when the failure belongs to none")
    subject: str = Field(description="source, model or target that failed")
    message: str
    cause: str = Field(description="type and text of the innermost cause, redacted")
    hint: str
    retryable: bool

    @classmethod
    def of(cls, error: EtlError, stage: str) -> Failure:
        """The record of an error that a stage raised."""
        root = causes(error)[-1]
        return cls(
            exit_code=error.code,
            exit_name=error.code.name,
            stage=stage,
            subject=error.subject,
            message=error.message,
            cause="" if root is error else f"{type(root).__name__}: {root}"[:2000],
            hint=error.hint,
            retryable=error.code.retryable,
        )


class Stage(Record):
    """One stage of the run."""

    name: StageName
    status: Literal["ok", "failed", "partial", "stopped", "skipped", "dry_run"]
    attempts: int = Field(ge=0)
    seconds: float = Field(ge=0)


class SourceRun(Record):
    """What one resource of a source brought: rows at the API, load packages in raw."""

    source: str
    resource: str = Field(description="the raw table that the resource feeds")
    rows: int = Field(ge=0, description="rows that the API returned")
    pages: int = Field(ge=0)
    requests: int = Field(ge=0)
    retries: int = Field(ge=0)
    load_ids: tuple[str, ...] = ()
    schema_changes: tuple[str, ...] = ()


class ModelRun(Record):
    """What the transform stage did with one model."""

    name: str
    kind: str
    intervals: int = Field(ge=0)
    rows: int | None
    seconds: float = Field(ge=0)
    status: Literal["ok", "failed", "held_back"]


class AuditRun(Record):
    """The result of one audit."""

    model: str
    name: str
    blocking: bool
    status: Literal["passed", "failed", "error"]
    failing_rows: int = Field(ge=0)
    sql: str = Field(description="the query that returns the failing rows")
    sample: tuple[dict[str, Any], ...] = Field(default=(), description="at most 5, pii masked")


class LoadRun(Record):
    """What one load did at its target."""

    model: str
    target: str
    table: str
    strategy: str
    status: Literal["published", "unchanged", "held_back", "failed", "dry_run"]
    inserted: int = Field(ge=0, default=0)
    updated: int = Field(ge=0, default=0)
    deleted: int = Field(ge=0, default=0)
    rows_at_target: int = Field(ge=0, default=0)
    reconciled: bool = False
    seconds: float = Field(ge=0, default=0)


class Reconciliation(Record):
    """Rows counted on both sides of a handover."""

    between: Literal["api-raw", "raw-staging"]
    subject: str
    load_id: str
    expected: int
    found: int

    @property
    def agrees(self) -> bool:
        """True when nothing was lost and nothing doubled."""
        return self.expected == self.found


class Options(Record):
    """What the command line asked for."""

    stages: tuple[StageName, ...] = STAGE_NAMES
    sources: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    environment: str = "prod"
    full_refresh: bool = False
    start: str | None = None
    end: str | None = None
    dry_run: bool = False


class RunRecord(Record):
    """Everything about one run; `runs/<run_id>/run.json`."""

    schema_version: Literal[1] = 1
    run_id: str
    job: str
    profile: str
    environment: str
    options: Options
    attempt: int = Field(ge=1, description="2 and more: `etl retry` resumed this run")
    versions: dict[str, str]
    started_at: datetime
    finished_at: datetime | None
    status: Literal["running", "finished"]
    exit_code: int | None
    exit_name: str | None
    partial: bool = Field(description="some of the job was published although the run failed")
    snapshot_date: str
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    sources: tuple[SourceRun, ...] = ()
    models: tuple[ModelRun, ...] = ()
    audits: tuple[AuditRun, ...] = ()
    loads: tuple[LoadRun, ...] = ()
    reconciliations: tuple[Reconciliation, ...] = ()
    plan: tuple[str, ...] = Field(default=(), description="what a dry run would have done")

    @property
    def code(self) -> ExitCode | None:
        """The exit code, None while the run lasts."""
        return None if self.exit_code is None else ExitCode(self.exit_code)


# Fields that carry words of libraries, APIs and users; all others are ours and hold no secret.
FREE_TEXT = {"message", "cause", "hint", "subject", "sql", "sample", "warnings", "plan",
             "schema_changes", "select"}  # fmt: skip


def redacted(record: RunRecord, redact: Callable[[str], str]) -> RunRecord:
    """The record with every secret in its free texts masked."""

    def clean(value: Any, free: bool) -> Any:
        if isinstance(value, dict):
            return {k: clean(v, free or k in FREE_TEXT) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v, free) for v in value]
        return redact(value) if free and isinstance(value, str) else value

    return RunRecord.model_validate_json(json.dumps(clean(record.model_dump(mode="json"), False)))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of run.json (`etl/run.schema.json` is this, kept in step by a test)."""
    schema = RunRecord.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "etl run record"
    return schema
