"""Audits without a transformation: those of models over all data, and the standalone ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory
from sqlmesh.core.snapshot.evaluator import SnapshotEvaluator

from etl.errors import DataQualityError, EtlError, TransformError
from etl.project.failures import classify
from etl.project.listener import STANDALONE, bare_name
from etl.records import AuditRun

if TYPE_CHECKING:
    from sqlmesh.core.audit import StandaloneAudit

    from etl.project.environment import Project


@dataclass
class Audited:
    """Audits that ran, and what failed: by the model that must not be published."""

    audits: list[AuditRun] = field(default_factory=list)
    failures: list[EtlError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    # Models that a blocking standalone audit reads which could not be run.
    unaudited: set[str] = field(default_factory=set)
    # Standalone audits that this run is too narrow for, with the models that wait for them.
    left_out: dict[str, set[str]] = field(default_factory=dict)

    def add(
        self, runs: list[AuditRun], subject: str, held: set[str], read: Collection[str] = ()
    ) -> None:
        """Audits that ran, and the models that each holds back when it blocks and fails."""
        self.audits += runs
        for run in runs:
            if run.blocking and run.status == "failed":
                self.failures.append(audit_failure(subject, run.name, run.failing_rows, read))
                self.failed |= held


def audit_models(project: Project, models: Collection[str]) -> Audited:
    """Run every audit of these models over all of their data.

    Raises:
        TransformError: the environment was never built.
    """
    snapshots = _snapshots(project)
    result = Audited()
    for snapshot in sorted(snapshots.values(), key=lambda s: s.name):
        name = bare_name(snapshot.name)
        if not snapshot.is_model or snapshot.model.kind.is_external or name not in models:
            continue
        project.listener.heard.pop(name, None)
        try:
            with _translating(project, "an audit cannot be run", name):
                project.context.snapshot_evaluator.audit(
                    snapshot=snapshot, snapshots=snapshots, **_bounds(project, snapshots)
                )
        except EtlError as e:
            result.failures.append(e)
            result.failed.add(name)
        result.add(project.listener.heard.get(name, []), name, {name})
    return result


def standalone_readers(project: Project) -> dict[str, set[str]]:
    """Each blocking standalone audit with the models that it reads."""
    return {
        name: project.graph.read_by(audit.depends_on)
        for name, audit in project.context.standalone_audits.items()
        if _blocks(audit) and not audit.skip
    }


def audit_standalone(project: Project, never_built: Collection[str], scope: set[str]) -> Audited:
    """Run every standalone audit; one that fails holds back the models that it reads.

    SQLMesh cannot declare a standalone audit blocking, so here each is, unless it says
    `blocking FALSE`. One that reads a model in `never_built` has nothing to compare yet; one that
    reads a model which should be there and is not leaves the others unaudited. One that reads a
    model outside of `scope` would compare models of different runs: it is left out.
    """
    result = Audited()
    audits = project.context.standalone_audits
    if not audits:
        return result
    snapshots = _snapshots(project)
    for name, audit in sorted(audits.items()):
        read = project.graph.read_by(audit.depends_on)
        missing = {
            bare_name(d) for d in audit.depends_on if d not in snapshots
        } & project.local_names
        if audit.skip or missing & set(never_built):
            continue
        if missing:
            result.unaudited |= read if _blocks(audit) else set()
            continue
        if not read <= scope:
            result.left_out[name] = read if _blocks(audit) else set()
            continue
        try:
            with _translating(project, "the standalone audit cannot be run", name):
                runs = _run(project, name, audit, snapshots)
        except EtlError as e:
            e.subject = name
            result.failures.append(e)
            result.failed |= read if _blocks(audit) else set()
            continue
        result.add(runs, name, read, read)
    return result


@contextmanager
def _translating(project: Project, what: str, name: str) -> Iterator[None]:
    """Give what SQL and macros raise, which may be anything, its class."""
    try:
        yield
    except Exception as e:
        raise classify(e, project.settings, what, name) from e


def _blocks(audit: StandaloneAudit) -> bool:
    return "blocking" not in audit.model_fields_set or audit.blocking


def _run(
    project: Project, name: str, audit: StandaloneAudit, snapshots: dict[str, Snapshot]
) -> list[AuditRun]:
    snapshot = project.context.get_snapshot(name, raise_if_missing=True).copy(deep=True)
    if not snapshot.version:
        # New and not yet part of a plan; an audit has no table that a version would name.
        snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
    evaluator = project.context.snapshot_evaluator
    results = SnapshotEvaluator.audit(
        evaluator, snapshot, snapshots=snapshots, **_bounds(project, snapshots)
    )
    return project.listener.audited(
        snapshot,
        results,
        evaluator.adapter,
        read=[snapshots[d] for d in sorted(audit.depends_on) if d in snapshots],
        blocking=_blocks(audit),
    )


def _snapshots(project: Project) -> dict[str, Snapshot]:
    found = project.built()
    if found is None:
        raise TransformError(
            f"environment `{project.environment}` was never built",
            subject=project.environment,
            hint=f"etl run --stage transform --environment {project.environment}",
        )
    return found


def _bounds(project: Project, snapshots: dict[str, Snapshot]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "start": project.settings.transform.start.isoformat(),
        "end": now,
        "execution_time": now,
        "deployability_index": project.deployable(snapshots.values()),
    }


def audit_failure(
    subject: str, audit: str, rows: int, read: Collection[str] = ()
) -> DataQualityError:
    """The error of a blocking audit; `read` are the models of a standalone one."""
    where = f"on {subject}" if not read else f"({STANDALONE}, reads {', '.join(sorted(read))})"
    hint = "see run.json → audits: the query that shows the rows, and a sample"
    if audit == "relationship":  # as `etl generate` names what holds nested rows to their parents
        hint += (
            "; what somebody deleted in raw comes back by `etl run --full-refresh --source NAME` "
            "only"
        )
    return DataQualityError(
        f"audit {audit} failed {where}: {rows} row{'s' if rows != 1 else ''}",
        subject=subject,
        hint=hint,
    )
