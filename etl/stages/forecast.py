"""What a transformation would do, found on a copy of SQLMesh's state: dry runs, `etl plan`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import EtlError, StageError
from etl.model_states import read_verdicts
from etl.records import Options
from etl.settings import Settings
from etl.stages.context import RunContext
from etl.stages.idle import find_idle
from etl.stages.models import refuse_lost
from etl.stages.scope import Scope, find_scope, unknown_loads
from etl.stages.tables import read_expected
from etl.stages.unfinished import hold_back_unfinished
from etl.warehouse import connect, look_into

if TYPE_CHECKING:
    from etl.project.environment import Project
    from etl.project.partial import Part


def say_plan(ctx: RunContext) -> None:
    """Add to the record what a transformation would do, and what it would refuse.

    Raises:
        StageError, TransformError: what a run would end with.
    """
    if "extract" not in ctx.options.stages:  # which finishes what is begun
        hold_back_unfinished(ctx.settings, ctx.run)
    idle = None
    if ctx.settings.warehouse.exists() and "extract" not in ctx.options.stages:
        with connect(ctx.settings.warehouse, read_only=True) as connection:
            idle = find_idle(connection, ctx.settings, ctx.options)
    if idle is not None:
        ctx.run.plan.append("transform: nothing new since the last run")
        return
    lines, failures = _foresee(ctx.settings, ctx.options, ctx.run.failed_sources)
    ctx.run.plan += lines
    if failures:
        raise StageError(failures)


def _foresee(
    settings: Settings, options: Options, failed_sources: Collection[str]
) -> tuple[list[str], list[EtlError]]:
    """What would be done, and the failures that keep nothing else from it."""
    from etl.project.changes import describe_plan, list_changes
    from etl.project.proposal import find_refusal
    from etl.project.selection import plan_part

    read_expected(settings.sqlmesh_dir)
    with copied_project(settings, options.environment) as project:
        scope = find_scope(project, options, failed_sources)
        refuse_unfit(project, settings, scope.wanted)
        plan = plan_part(project, scope.wanted).plan if scope.is_part else project.plan()
        refuse_unstanding(project, settings, options, scope)
        changes = list_changes(plan) if plan is not None else []
        refusal = find_refusal(project, changes, settings.transform.approve)
        lines = [
            *(describe_plan(plan) if plan is not None else ()),
            *(f"transform: build {m} anew{_interval(options)}" for m in sorted(scope.anew)),
        ]
        return lines, [*unknown_loads(project, options), *([refusal] if refusal else ())]


def refuse_unfit(project: Project, settings: Settings, models: Collection[str]) -> None:
    """Refuse those among these models that a run would not plan, and files that do not load.

    Raises:
        StageError: with a TransformError for each.
    """
    from etl.project.refusals import find_unfit

    with look_into(settings.warehouse) as connection:
        unfit = find_unfit(project, connection, datetime.now(UTC))
    refused: list[EtlError] = [*project.broken, *(e for n, e in unfit.items() if n in models)]
    if refused:
        raise StageError(refused)


def refuse_unstanding(project: Project, settings: Settings, options: Options, scope: Scope) -> None:
    """Refuse what a run would, for the warehouse lacks what was built there.

    Called after the plan was made, as in a run: SQLMesh then has let go of what it never finished.

    Raises:
        TransformError: warehouse and SQLMesh's state do not fit each other.
    """
    from etl.project.standing import refuse_strange_views

    with look_into(settings.warehouse) as connection:
        verdicts = read_verdicts(connection, options.environment)
        refuse_lost(project, connection, options, scope.anew, verdicts)
        refuse_strange_views(project, connection, scope.touched & project.standing_names())


@contextmanager
def copied_project(
    settings: Settings, environment: str, part: Part | None = None
) -> Iterator[Project]:
    """The project, or part of it, on a copy of its state: nothing in data/ is written to."""
    from etl.project.environment import Project

    if settings.state.exists():
        with connect(settings.state, read_only=True):
            pass  # what is wrong with it is told of the file itself, not of its copy
    with tempfile.TemporaryDirectory(prefix="etl-plan-") as folder:
        # The state, and what a process that was killed has left beside it (`.wal`).
        for path in settings.data.glob(f"{settings.state.name}*"):
            shutil.copy2(path, folder)
        cache = settings.data / "cache"
        if cache.is_dir():
            # What a run has parsed is parsed already; hundreds of models take half a minute.
            shutil.copytree(cache, Path(folder) / "cache", copy_function=_link_or_copy)
        elsewhere = settings.model_copy(update={"data_dir": Path(folder)})
        project = Project(elsewhere, environment, part=part)
        try:
            yield project
        finally:
            project.close()


def _link_or_copy(source: str, target: str) -> None:
    """One file under two names; a copy where the two folders are on different disks.

    SQLMesh writes files anew under names of their own and never into one that is there.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _interval(options: Options) -> str:
    start = f" from {options.start}" if options.start else ""
    return start + (f" to {options.end}" if options.end else "")
