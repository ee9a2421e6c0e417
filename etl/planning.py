"""`etl plan`: what a run would change in the models, and a person's approval of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from etl.errors import StageError
from etl.lock import hold_lock
from etl.logs import start_logs
from etl.packages import refuse_slow_clock
from etl.records import Options, SchemaChange
from etl.runs import Run, utc_now
from etl.secrets import redactor
from etl.settings import Settings, dataset_name
from etl.stages.drift import Downstream, downstream_of, read_drift, with_touched
from etl.stages.forecast import copied_project, refuse_unfit, refuse_unstanding
from etl.stages.models import transform_models
from etl.stages.scope import check_options, find_scope
from etl.stages.tables import ensure_raw_tables, read_expected
from etl.stages.unfinished import hold_back_unfinished
from etl.stop import Stop, stopping
from etl.warehouse import connect, look_into

if TYPE_CHECKING:
    from etl.project.changes import Change


def plan(settings: Settings, environment: str, wait_lock: float, *, apply: bool) -> list[str]:
    """Show the plan or apply it, with the log and the answer to signals that a run has.

    Raises:
        ConfigError: there is no folder of models.
        StageError: models or audits that failed.
        Stopped: a signal came.
    """
    check_options(settings, Options(environment=environment), utc_now())
    redact = redactor(settings)
    stop_logs = start_logs(settings, None, "", redact)
    try:
        with stopping(Stop(), lambda code: None):
            act = apply_plan if apply else show_plan
            return [redact(line) for line in act(settings, environment, wait_lock)]
    finally:
        stop_logs()


def show_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Lines that say what would change; nothing is changed.

    Raises:
        ConfigError: a file of external models is no list of tables.
        ResourcesError: the clock is behind what raw holds.
        StageError, TransformError: models that a run refuses, or all of them.
    """
    if not settings.data.is_dir():
        return _plan_lines(settings, environment, [])
    # Open to the end: DuckDB opens a file once per process, which takes 30 ms and more.
    with hold_lock(settings, wait_lock), look_into(settings.warehouse) as connection:
        refuse_slow_clock(connection, utc_now())
        return _plan_lines(settings, environment, read_drift(settings))


def _plan_lines(
    settings: Settings, environment: str, drift: list[tuple[str, SchemaChange]]
) -> list[str]:
    """What a run would change in the models, then how raw drifted since, with what that touches."""
    from etl.project.changes import describe_changes, list_changes, unchanged
    from etl.project.partial import find_part
    from etl.project.proposal import find_refusal

    read_expected(settings.sqlmesh_dir)
    drifted = frozenset(f"{dataset_name(source)}.{change.table}" for source, change in drift)
    part = find_part(settings, environment, drifted)
    if part is not None and not part.models:
        return [unchanged(part.total), *_drift_lines(drift, lambda table, column: ())]
    with copied_project(settings, environment, part) as project:
        refuse_unfit(project, settings, project.graph.names)
        total = part.total if part is not None else len(project.graph.names)
        plan = project.plan()
        options = Options(environment=environment)
        refuse_unstanding(project, settings, options, find_scope(project, options))
        lines = describe_changes(plan, total)
        refusal = find_refusal(project, list_changes(plan), settings.transform.approve)
        if refusal is not None:
            lines.append(f"transform: {refusal}")
        return [*lines, *(_drift_lines(drift, downstream_of(project)) if drift else ())]


def _drift_lines(drift: list[tuple[str, SchemaChange]], downstream: Downstream) -> list[str]:
    return [
        f"raw schema drift in {source}: {with_touched(change, source, downstream)}"
        for source, change in drift
    ]


def apply_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Apply every change, whatever the policy: the person at the keyboard is the approval.

    Raises:
        StageError: models or audits that failed.
        ResourcesError: the clock is behind what raw holds.
    """
    from etl.project.environment import Project

    changes: list[Change] = []
    options = Options(stages=("transform",), environment=environment)
    with hold_lock(settings, wait_lock):
        ensure_raw_tables(settings)
        with connect(settings.warehouse) as connection:
            refuse_slow_clock(connection, utc_now())
        project = Project(settings, environment)
        try:
            run = Run(settings, options, "plan-apply", utc_now())
            failures = hold_back_unfinished(settings, run)
            failures += transform_models(project, run, options, "auto", changes.extend)
        finally:
            project.close()
    if failures:
        raise StageError(failures)
    return _applied(changes, len(run.models))


def _applied(changes: Collection[Change], models: int) -> list[str]:
    """What was applied, then how much was evaluated: what is new in raw is, with or without it."""
    evaluated = f"{models} model{'s' if models != 1 else ''} evaluated"
    if not changes:
        return [f"transform: no model changed; {evaluated} for what is new in raw"]
    return [*(f"applied: {change}" for change in changes), f"transform: {evaluated}"]
