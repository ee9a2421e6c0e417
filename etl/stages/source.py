"""One source from its API to raw: read, checked, committed, counted, reported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from loguru import logger

from etl.drift import Drift, Shape
from etl.errors import EtlError
from etl.logs import stage_context
from etl.raw.collisions import check_tables
from etl.raw.counts import root_tables
from etl.raw.dispositions import settle_dispositions
from etl.raw.early import tell_early_cursors, tell_early_stamps, tell_lowered_starts
from etl.raw.fields import remember_fields
from etl.raw.last import last_extraction, remember_extraction
from etl.raw.moved import refuse_moved_cursors, refuse_moved_tables, refuse_other_name
from etl.raw.pipeline import Committed, Raw
from etl.records import SchemaChange, SourceRun
from etl.runs import utc_now
from etl.settings import Source
from etl.sources.asked import asked_by, tell_changed
from etl.sources.build import build_source
from etl.sources.http import ApiSession
from etl.sources.monitor import Monitor
from etl.stages.arrival import count_arrival
from etl.stages.context import RunContext
from etl.stages.drift import find_drift


def extract_source(ctx: RunContext, name: str, source: Source) -> None:
    """Finish what an earlier run left of it, read it, check, commit and count. Raises EtlError."""
    with stage_context("extract", source=name):
        started_at = utc_now()
        raw = Raw(ctx.settings, name)
        earlier = raw.shape()
        pending = _finish_earlier(ctx, raw)
        monitor = _monitor(ctx, raw, source)
        session = _read(ctx, raw, monitor, earlier)
        ctx.stop.check()
        with ctx.warehouse_turn:
            committed = pending + raw.commit()
            count_arrival(ctx.run, raw)
            drift = _drift(raw, monitor, earlier, committed)
        asked = last_extraction(raw).get("asked", {}) if not ctx.refresh else {}
        _remember(raw, monitor)
        for told in (
            *tell_changed(name, asked, asked_by(source), monitor.incremental),
            *tell_early_cursors(name, raw.pipeline.state, utc_now()),
            *tell_early_stamps(raw, source.stamp, ctx.run.snapshot_date),
            *monitor.tell(),
        ):
            ctx.run.warn(told)
        _report(ctx, raw, monitor, session, committed, drift.changes, started_at)
        ctx.drift[name] = drift
        ctx.contained.extend(monitor.contained)


def _finish_earlier(ctx: RunContext, raw: Raw) -> Committed:
    with ctx.warehouse_turn:
        pending = raw.finish_pending()
        if not ctx.refresh:  # which replaces what is there
            count_arrival(ctx.run, raw)
    if pending.load_ids:
        logger.bind(load_ids=list(pending.load_ids)).warning(
            "load packages of an earlier run were committed first"
        )
    return pending


def _monitor(ctx: RunContext, raw: Raw, source: Source) -> Monitor:
    last = last_extraction(raw)
    return Monitor(
        raw.source,
        source,
        earlier_pages=last.get("pages", {}),
        # A run that was killed before its counts were kept has left rows all the same.
        earlier_rows=last.get("rows", None if raw.is_new else 0),
        is_refresh=ctx.refresh,
        earlier_bases=last.get("bases", {}),
        on_page=lambda resource, rows: _show_page(ctx, raw.source, rows),
        check_stop=ctx.stop.check,
    )


def _read(ctx: RunContext, raw: Raw, monitor: Monitor, earlier: Shape) -> ApiSession | None:
    """Read the source into packages that the guards have accepted; the session with its API."""
    name, refresh = raw.source, ctx.refresh
    built, session = build_source(
        monitor,
        project=ctx.settings.project,
        snapshot_date=ctx.run.snapshot_date,
        wait=ctx.stop.wait,
        first=raw.is_new,
    )
    refuse_other_name(name, built, None if raw.is_new else raw.recorded)
    check_tables(name, monitor.tables.values(), built.schema.naming, earlier)
    with ctx.warehouse_turn:
        cursors = monitor.incremental if session is not None else ()
        settle_dispositions(
            name,
            built,
            raw.recorded,
            raw.has_doubled,
            cursors=cursors,
            retyped=raw.find_retyped(built),
            refresh=refresh,
        )
        if not refresh:
            state = raw.pipeline.state
            refuse_moved_cursors(name, built, state, monitor.cursors)
            tables = last_extraction(raw).get("tables", {})
            refuse_moved_tables(name, built, state, tables, monitor.tables)
        created = raw.ensure_tables(built)
    if created:
        logger.bind(tables=created).info("declared raw tables were created empty")
    if refresh:
        logger.warning("full refresh: what raw holds of this source is replaced by this package")
    chains = max(1, len(built.selected_resources))
    try:
        load_ids, refused = raw.extract(built, workers=min(32, chains), refresh=refresh)
    finally:
        if session is not None:
            session.close()  # the API is not held by idle connections while the models run
    for line in tell_lowered_starts(name, built.selected_resources.values(), raw.pipeline.state):
        ctx.run.warn(line)
    try:
        monitor.check_source()
    except EtlError:
        for load_id in load_ids:
            raw.packages.reject(load_id)
        raise
    raw.packages.accept(monitor.arrival(load_ids, refused))
    return session


def _drift(raw: Raw, monitor: Monitor, earlier: Shape, committed: Committed) -> Drift:
    tables = root_tables(raw, set(monitor.tables.values()))
    whole = [tables[n].name for n in monitor.whole_tables() if tables[n].is_replaced]
    return find_drift(raw, earlier, committed.load_ids, whole, [t.name for t in tables.values()])


def _remember(raw: Raw, monitor: Monitor) -> None:
    remember_fields(raw, monitor.field_paths())
    bases = {**monitor.earlier_bases, **monitor.bases}
    last = last_extraction(raw)
    tables = {**last.get("tables", {}), **monitor.tables}
    asked = {**last.get("asked", {}), **asked_by(monitor.settings)}
    remember_extraction(raw, sum(monitor.rows.values()), monitor.longest, bases, tables, asked)


def _show_page(ctx: RunContext, source: str, rows: int) -> None:
    if rows:
        _import_ahead(ctx)
    ctx.progress.advance("pages", source, 1)
    ctx.progress.advance("rows", source, rows)


def _import_ahead(ctx: RunContext) -> None:
    """Import what the later stages need, while this one waits for the network.

    Called at the first page with rows: a run that finds nothing new needs no SQLMesh.
    """
    if "transform" not in ctx.options.stages:
        return
    with ctx.importing_turn:
        if ctx.importing is None:
            ctx.importing = threading.Thread(target=_import_sqlmesh, name="imports", daemon=True)
            ctx.importing.start()


def _import_sqlmesh() -> None:
    import etl.project.runner  # noqa: F401 - only so that it is imported


def _report(
    ctx: RunContext,
    raw: Raw,
    monitor: Monitor,
    session: ApiSession | None,
    committed: Committed,
    changes: tuple[SchemaChange, ...],
    started_at: datetime,
) -> None:
    finished_at = utc_now()
    tables = sorted(set(monitor.tables.values()) | set(monitor.rows))
    owner = _owner(raw, tables)
    for table in tables:
        resources = [r for r, t in monitor.tables.items() if t == table]
        ctx.run.sources.append(
            SourceRun(
                source=raw.source,
                resource=table,
                rows=monitor.rows[table],
                pages=monitor.pages_of(resources),
                requests=sum(session.requests[r] for r in resources) if session else None,
                retries=sum(session.retries[r] for r in resources) if session else None,
                load_ids=committed.load_ids,
                schema_changes=tuple(c for c in changes if owner(c.table) == table),
                discarded=tuple(d for d in committed.discarded if owner(d.table) == table),
                started_at=started_at,
                finished_at=finished_at,
            )
        )
    for discard in committed.discarded:
        ctx.run.warn(f"{raw.source}: {discard}", **discard.model_dump())
    logger.bind(
        rows=sum(monitor.rows.values()),
        pages=monitor.pages_of(monitor.pages),
        load_ids=list(committed.load_ids),
        schema_changes=len(changes),
        discarded_rows=sum(d.rows for d in committed.discarded),
        discarded_values=sum(d.values for d in committed.discarded),
    ).info("extracted and committed")


def _owner(raw: Raw, tables: list[str]) -> Callable[[str], str | None]:
    """Which of these tables a raw table belongs to: itself, or the root that it is nested in."""
    by_name = {stored.name: name for name, stored in root_tables(raw, tables).items()}

    def owner(table: str) -> str | None:
        roots = [n for n in by_name if table == n or table.startswith(f"{n}__")]
        # A table that a row named itself belongs to no resource that could be told.
        return by_name[max(roots, key=len)] if roots else next(iter(tables), None)

    return owner
