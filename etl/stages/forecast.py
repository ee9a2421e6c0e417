"""What a transformation would do, found on a copy of SQLMesh's state: dry runs, `etl plan`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import EtlError, StageError
from etl.records import Options
from etl.settings import Settings
from etl.stages.context import RunContext
from etl.stages.idle import find_idle
from etl.stages.scope import find_scope, unknown_loads
from etl.stages.tables import read_expected
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.environment import Project
    from etl.project.partial import Part


def say_plan(ctx: RunContext) -> None:
    """Add to the record what a transformation would do."""
    idle = None
    if ctx.settings.warehouse.exists() and "extract" not in ctx.options.stages:
        with connect(ctx.settings.warehouse, read_only=True) as connection:
            idle = find_idle(connection, ctx.settings, ctx.options)
    if idle is not None:
        ctx.run.plan.append("transform: nothing new since the last run")
        return
    ctx.run.plan += _plan_lines(ctx.settings, ctx.options)


def _plan_lines(settings: Settings, options: Options) -> list[str]:
    from etl.project.changes import describe_plan
    from etl.project.selection import plan_part

    read_expected(settings.sqlmesh_dir)
    with copied_project(settings, options.environment) as project:
        if unknown := unknown_loads(project, options):
            raise StageError(unknown)
        scope = find_scope(project, options)
        refuse_unfit(project, settings, scope.wanted)
        plan = plan_part(project, scope.wanted).plan if scope.is_part else project.plan()
        return [
            *(describe_plan(plan) if plan is not None else ()),
            *(f"transform: build {m} anew{_interval(options)}" for m in sorted(scope.anew)),
        ]


def refuse_unfit(project: Project, settings: Settings, models: Collection[str]) -> None:
    """Refuse those among these models that a run would not plan, and files that do not load.

    Raises:
        StageError: with a TransformError for each.
    """
    from etl.project.refusals import find_unfit

    here = settings.warehouse.exists()
    with connect(settings.warehouse, read_only=True) if here else nullcontext() as connection:
        unfit = find_unfit(project, connection, datetime.now(UTC))
    refused: list[EtlError] = [*project.broken, *(e for n, e in unfit.items() if n in models)]
    if refused:
        raise StageError(refused)


@contextmanager
def copied_project(
    settings: Settings, environment: str, part: Part | None = None
) -> Iterator[Project]:
    """The project, or part of it, on a copy of its state: nothing in data/ is written to."""
    from etl.project.environment import Project

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
