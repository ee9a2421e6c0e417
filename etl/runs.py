"""The run while it happens: its folder, and its record on disk while that grows."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from loguru import logger

from etl.errors import EtlError, ExitCode, ResourcesError, most_severe
from etl.names import STAGE_NAMES
from etl.records import (
    AuditRun,
    Failure,
    LoadRun,
    ModelRun,
    Options,
    Reconciliation,
    RunRecord,
    SourceRun,
    Stage,
    redacted,
)
from etl.settings import Settings, dataset_name

# What file systems say that have no symbolic links (vfat, SMB).
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def new_run_id(now: datetime) -> str:
    """Sortable by time, unique without coordination."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass
class Run:
    """One run while it happens; stages add to it, `record()` freezes it.

    Safe to use from several threads: sources report from their own.
    """

    settings: Settings
    options: Options
    run_id: str
    started_at: datetime
    attempt: int = 1
    read_at: datetime | None = None
    redact: Callable[[str], str] = str
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    sources: list[SourceRun] = field(default_factory=list)
    models: list[ModelRun] = field(default_factory=list)
    audits: list[AuditRun] = field(default_factory=list)
    loads: list[LoadRun] = field(default_factory=list)
    reconciliations: list[Reconciliation] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """runs/<run_id>, absolute."""
        return self.settings.runs / self.run_id

    @property
    def snapshot_date(self) -> date:
        """The day that its sources are read; a retry that reads them has its own."""
        return self.settings.snapshot_date(self.read_at or self.started_at)

    @property
    def code(self) -> ExitCode:
        """The code of the most severe failure so far."""
        return most_severe([ExitCode(f.exit_code) for f in self.failures])

    @property
    def failed_sources(self) -> set[str]:
        """Sources whose data of this run is missing or not trusted.

        A failed part, `source[part]`, is none: the rest of its source is to be trusted.
        """
        return {f.subject.split(".")[0] for f in self.failures if f.stage == "extract"}

    def fail(self, error: EtlError, stage: str = "") -> None:
        """Add a failure to the record."""
        self.failures.append(Failure.of(error, stage))

    def warn(self, text: str, **fields: Any) -> None:
        """Log a warning with these fields, and add it to the record, once."""
        logger.bind(**fields).warning(text)
        if text not in self.warnings:  # a stage may be tried again
            self.warnings.append(text)

    def record(self, finished_at: datetime | None = None) -> RunRecord:
        """The run as it stands now; finished when an end is given."""
        from etl.versions import versions

        done = finished_at is not None
        record = RunRecord(
            run_id=self.run_id,
            job=self.settings.job,
            profile=self.settings.profile,
            labels=self.settings.labels,
            environment=self.options.environment,
            options=self.options,
            attempt=self.attempt,
            versions=versions(),
            started_at=self.started_at,
            finished_at=finished_at,
            status="finished" if done else "running",
            exit_code=int(self.code) if done else None,
            exit_name=self.code.name if done else None,
            partial=bool(self.failures) and any(x.status == "published" for x in self.loads),
            snapshot_date=self.snapshot_date.isoformat(),
            failures=tuple(self.failures),
            warnings=tuple(self.warnings),
            stages=tuple(self.stages),
            # They end in any order.
            sources=tuple(sorted(self.sources, key=lambda s: (s.source, s.resource))),
            models=tuple(self.models),
            audits=tuple(self.audits),
            loads=tuple(self.loads),
            reconciliations=tuple(self.reconciliations),
            plan=tuple(self.plan),
        )
        return redacted(record, self.redact)

    def save(self, finished_at: datetime | None = None) -> RunRecord:
        """Write run.json so that a reader sees the old or the new one, never half of it."""
        record = self.record(finished_at)
        with self._writing:
            write_atomically(self.folder / "run.json", record.model_dump_json(indent=2))
        return record


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content whole.

    Raises:
        ResourcesError: the disk is full or the folder is not writable.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except OSError as e:
        raise ResourcesError(
            f"cannot write {path}: {e.strerror}",
            hint="free disk space or make the folder writable, then run again",
        ) from e


def open_run(
    settings: Settings, options: Options, redact: Callable[[str], str], now: datetime
) -> Run:
    """A new run with its folder; `runs/latest` points to it."""
    run = Run(settings, options, new_run_id(now), now, redact=redact)
    _claim(run)
    return run


def extracted_sources(record: RunRecord) -> set[str]:
    """The sources that a run had brought to raw whole."""
    failed = {re.split(r"[.\[]", f.subject)[0] for f in record.failures if f.stage == "extract"}
    return {s.source for s in record.sources} - failed


def reopen_run(settings: Settings, last: RunRecord, redact: Callable[[str], str]) -> Run:
    """The last failed run again, under its id, with what it had already done.

    What the failed stage and later ones reported is dropped: they run again, for what they did
    without it is not all.
    """
    ended_well = {s.name: s for s in last.stages if s.status == "ok"}
    stages = [name for name in STAGE_NAMES if name in last.options.stages]
    done = [ended_well[name] for name in takewhile(ended_well.__contains__, stages)]
    again = {s for s in last.options.stages if s not in {d.name for d in done}}
    extracted = extracted_sources(last)
    datasets = {dataset_name(s) for s in extracted}
    run = Run(
        settings,
        last.options,
        last.run_id,
        last.started_at,
        attempt=last.attempt + 1,
        read_at=utc_now() if "extract" in again else None,
        redact=redact,
        stages=done,
        sources=[s for s in last.sources if s.source in extracted],
        models=[] if "transform" in again else list(last.models),
        audits=[] if "transform" in again or "audit" in again else list(last.audits),
        reconciliations=[
            r
            for r in last.reconciliations
            if (r.subject.split(".")[0] in datasets)
            or (r.between == "raw-staging" and "transform" not in again)
        ],
    )
    _claim(run)
    return run


def _claim(run: Run) -> None:
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        latest = run.settings.runs / "latest"
        part = run.settings.runs / f".latest.{os.getpid()}"
        part.unlink(missing_ok=True)
        if latest.is_dir() and not latest.is_symlink():  # copied by what follows links
            shutil.rmtree(latest)
        try:
            part.symlink_to(run.run_id)
            part.replace(latest)
        except OSError as e:
            if e.errno not in _NO_LINKS:  # without it the newest folder is the latest
                raise
    except OSError as e:
        raise ResourcesError(
            f"cannot write {run.settings.runs}: {e.strerror}",
            hint="data_dir must be a writable folder on a disk with free space",
        ) from e
