"""`etl plan`: what a run would change in the models, and a person's approval of it."""

from __future__ import annotations

from etl.errors import StageError
from etl.records import Options
from etl.runs import Run, hold_lock, utc_now
from etl.settings import Settings
from etl.stages.transform import plan_lines, transform_models
from etl.warehouse import connect, ensure_tables, expected_tables


def show_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Lines that say what would change; nothing is changed."""
    if not settings.data.is_dir():
        return plan_lines(settings, environment)
    with hold_lock(settings, wait_lock):
        return plan_lines(settings, environment)


def apply_plan(settings: Settings, environment: str, wait_lock: float) -> list[str]:
    """Apply every change, whatever the policy: the person at the keyboard is the approval.

    Raises:
        StageError: models or audits that failed.
    """
    from etl.project.runner import Project

    options = Options(stages=("transform",), environment=environment)
    with hold_lock(settings, wait_lock):
        with connect(settings.warehouse) as connection:
            ensure_tables(connection, expected_tables(settings.sqlmesh_dir))
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
