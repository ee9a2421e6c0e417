"""`etl plan`: what a run would change in the models, and a person's approval of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import StageError
from etl.records import Options
from etl.runs import Run, hold_lock, utc_now
from etl.settings import Settings
from etl.stages.drift import downstream_of, read_drift, with_touched
from etl.stages.forecast import plan_lines
from etl.stages.tables import ensure_raw_tables
from etl.stages.transform import transform_models

if TYPE_CHECKING:
    from etl.project.runner import Project


def show_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Lines that say what would change; nothing is changed."""
    if not settings.data.is_dir():
        return plan_lines(settings, environment)
    with hold_lock(settings, wait_lock):
        return plan_lines(
            settings, environment, also=lambda project: drift_lines(settings, project)
        )


def drift_lines(settings: Settings, project: Project) -> list[str]:
    """How raw tables have changed since the project's files did, and what that touches."""
    found = read_drift(settings)
    if not found:
        return []
    downstream = downstream_of(project)
    return [
        f"raw schema drift in {source}: {with_touched(change, source, downstream)}"
        for source, change in found
    ]


def apply_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Apply every change, whatever the policy: the person at the keyboard is the approval.

    Raises:
        StageError: models or audits that failed.
    """
    from etl.project.runner import Project

    options = Options(stages=("transform",), environment=environment)
    with hold_lock(settings, wait_lock):
        ensure_raw_tables(settings)
        project = Project(settings, environment)
        try:
            changes = project.propose("auto", None).changes
            run = Run(settings, options, "plan-apply", utc_now())
            failures = transform_models(project, run, options, "auto")
        finally:
            project.close()
    if failures:
        raise StageError(failures)
    return [f"applied: {change}" for change in changes]
