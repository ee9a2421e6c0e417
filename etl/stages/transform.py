"""Transform: plan and run the models, then count every load package in raw against staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from etl.errors import EtlError, StageError
from etl.logs import adopt_library_loggers
from etl.runs import Run
from etl.stages.context import RunContext
from etl.stages.forecast import say_plan
from etl.stages.generation import generate_models
from etl.stages.idle import find_idle
from etl.stages.models import transform_models
from etl.stages.reconcile import reconcile
from etl.stages.scope import unknown_loads
from etl.stages.tables import ensure_raw_tables
from etl.stages.unfinished import hold_back_unfinished
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.environment import Project


def transform(ctx: RunContext) -> None:
    """Bring the environment up to date with the project and with raw.

    Raises:
        StageError: models, audits, counts or approvals that failed; the rest is up to date.
        ApprovalError, TransformError: nothing could be transformed.
    """
    if ctx.options.dry_run:
        say_plan(ctx)
        return
    settings, run = ctx.settings, ctx.run
    # Tried again, the stage reports anew.
    run.models, run.audits = [], []
    counted = [r for r in run.reconciliations if r.between != "raw-staging"]
    run.reconciliations = list(counted)
    hold_back_unfinished(settings, run)
    ungenerated = generate_models(ctx)
    ensure_raw_tables(settings)
    with connect(settings.warehouse) as connection:
        idle = find_idle(connection, settings, ctx.options)
        # The counts are compared all the same; what differs needs the models to be held back.
        if idle is not None and not reconcile(connection, run, idle.pairs):
            ctx.transformed = ctx.idle = True
            logger.bind(next_due=str(idle.due_at)).info("nothing new to transform")
            if ungenerated:
                raise StageError(ungenerated)
            return
        run.reconciliations = counted
    with ctx.project() as project:
        adopt_library_loggers()
        failures = transform_models(project, run, ctx.options, settings.transform.approve)
        failures += unknown_loads(project, ctx.options)
        _tidy(project, run)
    ctx.transformed = True
    failures = ungenerated + failures
    if failures:
        raise StageError(failures)


def _tidy(project: Project, run: Run) -> None:
    """What cannot be dropped harms nothing that is published."""
    try:
        project.tidy()
    except EtlError as e:
        run.warn(str(e))
