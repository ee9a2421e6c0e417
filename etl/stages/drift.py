"""Tells how the sources' schemas drifted in this run, and what of the models that touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from loguru import logger

from etl.column_history import read_changes, read_columns, write_changes, write_columns
from etl.drift import Drift, Shape, compare, remember
from etl.errors import EtlError
from etl.fingerprint import fingerprint_project
from etl.raw.pipeline import Raw
from etl.records import SchemaChange
from etl.settings import Settings, dataset_name
from etl.stages.context import RunContext
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.environment import Project

# (schema.table, column or None for the whole table) → schema.model.column of all that it feeds.
Downstream = Callable[[str, str | None], Iterable[str]]


def find_drift(
    raw: Raw,
    earlier: Shape,
    load_ids: tuple[str, ...],
    read_whole: Iterable[str],
    brought: Iterable[str],
) -> Drift:
    """What these packages changed in the source's raw tables.

    Args:
        earlier: the tables before the run, for a source whose columns were never noted.
        read_whole: root tables that are replaced by what this run read.
        brought: root tables that have a resource.
    """
    with raw.connection() as connection:
        known = read_columns(connection, raw.source)
    if not load_ids:
        return Drift((), known, is_first=False)
    if not known and earlier:
        known = remember({}, earlier, raw.count_values(earlier, load_ids, others=True))
    shape = raw.shape()
    counts = raw.count_values(shape, load_ids)
    changes, after = compare(known, shape, counts, set(read_whole), set(brought))
    return Drift(tuple(changes), after, is_first=not known)


def tell_drift(ctx: RunContext) -> None:
    """Say of each change what it touches: a line in the log, and in the record.

    Noted as told only then: a run that dies before leaves it to the next one.
    """
    if not ctx.drift:
        return
    _add_touched(ctx)
    for source in ctx.run.sources:
        if source.source not in ctx.drift:
            continue
        for change in source.schema_changes:
            level = "WARNING" if change.may_break else "INFO"
            logger.bind(source=source.source, **change.model_dump(exclude_none=True)).log(
                level, f"schema drift in {source.source}: {change}"
            )
    project = fingerprint_project(ctx.settings)
    with connect(ctx.settings.warehouse) as connection:
        for name in sorted(ctx.drift):
            drift = ctx.drift.pop(name)
            if not drift.is_first:
                write_changes(connection, name, project, drift.changes)
            write_columns(connection, name, drift.known)


def _add_touched(ctx: RunContext) -> None:
    """Fill in what each change touches. A project that cannot be read leaves it open.

    A table that is new to raw is read by nothing yet: the first run of a source needs no SQLMesh.
    """
    changes = [c for drift in ctx.drift.values() for c in drift.changes]
    if not any(c.may_break or c.column for c in changes) or not ctx.settings.sqlmesh_dir.is_dir():
        return
    try:
        with ctx.project() as project:
            downstream = downstream_of(project)
    except EtlError as e:
        logger.warning(f"what the schema drift touches cannot be told: {e}")
        return
    for i, source in enumerate(ctx.run.sources):
        if source.source not in ctx.drift:
            continue
        told = tuple(with_touched(c, source.source, downstream) for c in source.schema_changes)
        ctx.run.sources[i] = source.model_copy(update={"schema_changes": told})


def with_touched(change: SchemaChange, source: str, downstream: Downstream) -> SchemaChange:
    """The change with every staging and mart column that is made of what changed."""
    table = f"{dataset_name(source)}.{change.table}"
    return change.model_copy(update={"touches": tuple(downstream(table, change.column))})


def downstream_of(project: Project) -> Downstream:
    """The lineage of a project as one function."""
    from etl.project.lineage import ColumnLineage

    lineage = ColumnLineage(project.context.models.values())

    def downstream(table: str, column: str | None) -> tuple[str, ...]:
        return tuple(f"{m}.{c}" for m, c in lineage.downstream(table, column))

    return downstream


def read_drift(settings: Settings) -> list[tuple[str, SchemaChange]]:
    """(source, change) of all that runs told since the project's files last changed.

    What vanished and came back is left out, and so is the first load of a source.
    """
    if not settings.warehouse.exists():
        return []
    project = fingerprint_project(settings)
    found: list[tuple[str, SchemaChange]] = []
    with connect(settings.warehouse, read_only=True) as connection:
        for source in settings.active_sources:
            known = read_columns(connection, source)
            for change in read_changes(connection, source, project):
                seen = known.get((change.table, change.column or ""))
                if change.kind not in ("vanished", "renamed") or (seen and seen.is_gone):
                    found.append((source, change))
    return found
