"""The run record: what one run did, as frozen values with a published JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from etl.causes import causes
from etl.errors import EtlError, ExitCode
from etl.names import STAGE_NAMES, StageName

StageStatus = Literal["ok", "failed", "partial", "stopped", "skipped", "dry_run"]
ModelStatus = Literal["ok", "failed", "held_back"]
AuditStatus = Literal["passed", "failed", "error"]
# So many columns that a change touches are told in its line; the record has all.
MAX_TOUCHED = 5


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
    sample: tuple[dict[str, Any], ...] = Field(
        default=(), description="the row that broke a schema contract, pii masked"
    )

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
            sample=error.sample,
        )


class Timed(Record):
    """A part that knows when it was done; both null in records of earlier versions.

    What is done together has its times in common: the resources of a source, the loads of a target.
    """

    started_at: datetime | None = None
    finished_at: datetime | None = None


class Stage(Timed):
    """One stage of the run."""

    name: StageName
    status: StageStatus
    attempts: int = Field(ge=0)
    seconds: float = Field(ge=0)


class SchemaChange(Record):
    """One difference between a raw table before a run and after it."""

    kind: Literal["new", "vanished", "retyped", "renamed"]
    table: str = Field(description="the raw table, without its schema")
    column: str | None = Field(default=None, description="null: the table itself")
    type_before: str | None = None
    type_after: str | None = None
    new_name: str | None = Field(
        default=None, description="what it seems to be called now; the variant of a retyped column"
    )
    touches: tuple[str, ...] = Field(
        default=(), description="schema.model.column downstream, by column-level lineage"
    )

    @property
    def may_break(self) -> bool:
        """True unless it only adds: models may read what is gone or has another type."""
        return self.kind != "new"

    def __str__(self) -> str:
        name = f"{self.table}.{self.column}" if self.column else self.table
        what = "column" if self.column else "table"
        text = {
            "new": f"new {what} {name}" + (f" {self.type_after}" if self.type_after else ""),
            "vanished": f"{what} {name} has no {'value' if self.column else 'row'} any more",
            "retyped": f"column {name} was {self.type_before}, now comes as {self.type_after}"
            + (f" (in {self.new_name})" if self.new_name else ""),
            "renamed": f"{what} {name} looks renamed to {self.new_name}",
        }[self.kind]
        shown = ", ".join(self.touches[:MAX_TOUCHED])
        more = len(self.touches) - MAX_TOUCHED
        return (
            text
            + (f"; touches {shown}" if shown else "")
            + (f" and {more} more" if more > 0 else "")
        )


class Discarded(Record):
    """What a schema contract left out of one raw table."""

    table: str
    column: str = Field(description="the column that the contract refused; empty: the table")
    rows: int = Field(ge=0, default=0)
    values: int = Field(ge=0, default=0)

    def __str__(self) -> str:
        counted = ((self.rows, "row"), (self.values, "value"))
        what = " and ".join(f"{n:,} {word}{'s' if n != 1 else ''}" for n, word in counted if n)
        place = f"{self.table}.{self.column}" if self.column else f"table {self.table}"
        return f"the schema contract discarded {what} because of {place}"


class SourceRun(Timed):
    """What one resource of a source brought: rows at the API, load packages in raw."""

    source: str
    resource: str = Field(description="the raw table that the resource feeds")
    rows: int = Field(ge=0, description="rows that the API returned")
    pages: int | None = Field(ge=0, description="null: a factory's, which counted none")
    requests: int | None = Field(ge=0, description="null: a factory's, which nobody sees")
    retries: int | None = Field(ge=0, description="null: as requests")
    load_ids: tuple[str, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()
    discarded: tuple[Discarded, ...] = Field(
        default=(), description="rows and values that schema_contract left out of raw"
    )

    @field_validator("schema_changes", mode="before")
    @classmethod
    def _read_version_1(cls, value: Any) -> Any:
        """Records of version 1 had a sentence for each: `new column orders.elo bigint`."""
        return [_change_of_version_1(v) if isinstance(v, str) else v for v in value]


def _change_of_version_1(text: str) -> SchemaChange:
    _, what, name, *rest = text.split(" ")
    if what == "table":
        return SchemaChange(kind="new", table=name)
    table, _, column = name.partition(".")
    return SchemaChange(kind="new", table=table, column=column, type_after=" ".join(rest) or None)


class ModelRun(Timed):
    """What the transform stage did with one model."""

    name: str
    kind: str
    version: str | None = Field(
        default=None, description="SQLMesh's: with another one it has another table"
    )
    intervals: int = Field(ge=0)
    rows: int | None
    seconds: float = Field(ge=0)
    status: ModelStatus


class AuditRun(Record):
    """The result of one audit."""

    model: str
    name: str
    blocking: bool
    status: AuditStatus
    failing_rows: int = Field(ge=0)
    sql: str = Field(description="the query that returns the failing rows")
    sample: tuple[dict[str, Any], ...] = Field(default=(), description="at most 5, pii masked")


class LoadRun(Timed):
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
    discarded: int = Field(
        ge=0, default=0, description="rows that a schema contract left out; not in `expected`"
    )

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

    schema_version: Literal[2] = 2
    run_id: str
    job: str
    profile: str
    labels: dict[str, str] = Field(default_factory=dict, description="as the configuration says")
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

    @field_validator("schema_version", mode="before")
    @classmethod
    def _read_version_1(cls, value: Any) -> Any:
        """Version 1 differs only in `schema_changes`, which are read as well."""
        return 2 if value == 1 else value

    @property
    def worst(self) -> Failure | None:
        """The failure that the run's code is of; None when it ended well."""
        return next((f for f in self.failures if f.exit_code == self.exit_code), None)

    @property
    def seconds(self) -> float | None:
        """How long the run took, None while it lasts."""
        if self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def code(self) -> ExitCode | None:
        """The exit code, None while the run lasts."""
        return None if self.exit_code is None else ExitCode(self.exit_code)


# Fields that carry words of libraries, APIs and users; all others are ours and hold no secret.
FREE_TEXT = {"message", "cause", "hint", "subject", "sql", "sample", "warnings", "plan",
             "table", "column", "new_name", "touches", "select"}  # fmt: skip


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
