"""Apply and run: brings an environment up to date and says what happened to each model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlglot import exp
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.utils.errors import NodeAuditsErrors, PlanError

from etl.errors import ANY_FAILURE, EtlError, TransformError
from etl.project.audits import audit_failure
from etl.project.environment import Project
from etl.project.failures import classify
from etl.project.listener import bare_name
from etl.project.selection import plan_part
from etl.records import AuditRun, ModelRun


@dataclass(frozen=True)
class Outcome:
    """What an evaluation did: models evaluated, audits run, failures by model.

    `waiting` are (changed model, what it would build anew and failed) pairs: the model keeps its
    earlier version.
    """

    models: tuple[ModelRun, ...]
    audits: tuple[AuditRun, ...]
    failures: tuple[EtlError, ...]
    failed: frozenset[str]
    waiting: frozenset[tuple[str, str]]


def evaluate(
    project: Project,
    plan: Plan | None,
    wanted: Collection[str],
    *,
    held_back: Collection[str] = (),
    restate: Collection[str] = (),
    start: str | None = None,
    end: str | None = None,
) -> Outcome:
    """Apply the plan, if there is one, then evaluate every interval that is missing up to now.

    `held_back`: keep their version, and with them what would change it.
    `restate`: build these anew first, all of them or from `start` to `end`, and what is below.

    Raises:
        TransformError: the plan cannot be applied to any model.
    """
    wanted, waiting = set(wanted), frozenset[tuple[str, str]]()
    if wanted and plan is not None:
        waiting = _apply_contained(project, plan, wanted, set(held_back))
        wanted |= project.also
    if restate:
        _restate(project, set(restate), start, end)
        # What is below was built anew with them: it has to keep step with the run as well.
        wanted |= project.graph.below(restate) - set(held_back)
    if wanted and (plan is None or restate):
        failed = _failed(project)
        partly = wanted != project.graph.names or failed
        _run(project, wanted - failed if partly else None)
    return _describe(project, held_back, waiting)


def _failed(project: Project) -> set[str]:
    heard = project.listener
    return (set(heard.errors) | heard.skipped) & project.graph.names


def _apply_contained(
    project: Project, plan: Plan, changes: set[str], held_back: set[str]
) -> frozenset[tuple[str, str]]:
    """Apply a plan; when models fail, apply it again without them and what is below them.

    SQLMesh promotes all of a plan or nothing: one broken model would hold back every other.
    What failed keeps its earlier version in the environment, and so does what broke it: those pairs
    are returned.
    """
    heard, waiting = project.listener, set[tuple[str, str]]()
    evaluated = changes | project.also
    while not _apply(project, plan):
        broken = _failed(project)
        broken |= project.graph.below(broken)
        heard.skipped |= broken - set(heard.errors)
        rest = evaluated - broken
        if not rest or rest == evaluated:
            break
        evaluated = rest
        heard.next_pass()
        part = plan_part(project, changes - broken, broken | held_back, evaluated)
        waiting |= part.waiting
        if part.plan is None:
            _run(project, evaluated)
            break
        plan = part.plan
    return frozenset(waiting)


def _apply(project: Project, plan: Plan) -> bool:
    """False when models failed; each failure is in the listener."""
    before = set(project.listener.errors)
    try:
        project.context.apply(plan)
    except ANY_FAILURE as e:
        if isinstance(e, PlanError) and not set(project.listener.errors) <= before:
            return False
        error = classify(e, project.settings, "the plan cannot be applied")
        failed = error.subject if isinstance(error, TransformError) else ""
        if failed not in project.graph.names - before:
            raise error from e
        # When its view was made: the plan is applied again without it, and shows all others.
        project.listener.errors[failed] = e
        return False
    return True


def _restate(project: Project, models: set[str], start: str | None, end: str | None) -> None:
    again = (models & project.built_names()) - _failed(project)
    if again:
        project.listener.next_pass()
        plan = project.plan(restate=again, start=start, end=end)
        # SQLMesh forgets the intervals at the end: killed before, what is left would pass for done.
        project.context.state_sync.remove_intervals(
            [(plan.snapshots[i], interval) for i, interval in plan.restatements.items()],
            remove_shared_versions=True,
        )
        _apply(project, plan)
        project.listener.next_pass()


def _run(project: Project, select: Collection[str] | None) -> None:
    if select is not None and not select:
        return
    try:
        project.context.run(
            project.environment,
            ignore_cron=True,
            skip_janitor=True,
            select_models=sorted(select) if select is not None else None,
            no_auto_upstream=select is not None,
        )
    except ANY_FAILURE as e:
        raise classify(e, project.settings, "the run cannot be made") from e


# -- what happened -------------------------------------------------------------------------


def _describe(
    project: Project, held_back: Collection[str], waiting: frozenset[tuple[str, str]]
) -> Outcome:
    heard, graph = project.listener, project.graph
    failures, failed = _failures(project)
    built = project.built() or {}
    rows = _count(project, built.values(), heard.evaluated.keys() - failed)
    versions = {bare_name(name): s.version for name, s in built.items()}
    models = [
        ModelRun(
            name=name,
            kind=m.kind,
            version=None if name in failed else versions.get(name),
            intervals=m.intervals,
            rows=rows.get(name),
            seconds=round(m.seconds, 3),
            started_at=m.started_at,
            finished_at=m.finished_at,
            status="failed" if name in failed else "ok",
        )
        for name, m in heard.evaluated.items()
    ]
    stopped = heard.skipped | set(held_back) - failed
    models += [
        ModelRun(
            name=name,
            kind=graph.kind(name),
            intervals=0,
            rows=None,
            seconds=0,
            status="failed" if name in failed else "held_back",
        )
        for name in sorted((failed | stopped) & graph.names - heard.evaluated.keys())
    ]
    return Outcome(tuple(models), tuple(heard.audits), tuple(failures), frozenset(failed), waiting)


def _count(project: Project, built: Collection[Snapshot], names: Collection[str]) -> dict[str, int]:
    """Rows of models as they stand; views are not read. SQLMesh does not count on DuckDB."""
    index = project.deployable(built)
    rows: dict[str, int] = {}
    for snapshot in built:
        name = bare_name(snapshot.name)
        if not snapshot.is_model or name not in names or not snapshot.is_materialized:
            continue
        table = exp.to_table(snapshot.table_name(is_deployable=index.is_deployable(snapshot)))
        row = project.context.engine_adapter.fetchone(
            exp.select("COUNT(*)").from_(table), quote_identifiers=True
        )
        if row:
            rows[name] = int(row[0])
    return rows


def _failures(project: Project) -> tuple[list[EtlError], set[str]]:
    failures: list[EtlError] = []
    for name, error in sorted(project.listener.errors.items()):
        if isinstance(error, NodeAuditsErrors):
            failures += [audit_failure(name, a.audit_name, int(a.count)) for a in error.errors]
        else:
            found = classify(error, project.settings, "failed", name)
            found.subject = found.subject or name
            found.__cause__ = error
            lacking = [t for t in project.graph.unmade(name) if t.startswith("staging.")]
            if lacking and isinstance(found, TransformError):
                found.hint = (
                    f"no model makes {', '.join(sorted(lacking))}: `etl generate` writes staging "
                    "models of what was extracted; or mend the model, then `etl retry`"
                )
            failures.append(found)
    return failures, set(project.listener.errors)
