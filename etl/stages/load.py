"""Load: publish the audited marts to their targets; what is not fit keeps its earlier version."""

from __future__ import annotations

from collections.abc import Collection

from duckdb import DuckDBPyConnection
from loguru import logger

from etl.backlog import half_loaded
from etl.errors import DataQualityError, EtlError, StageError
from etl.model_states import ModelState, publishable, read_states
from etl.packages import find_moved
from etl.records import LoadRun
from etl.runs import utc_now
from etl.settings import Load, dataset_name
from etl.stages.containment import contained
from etl.stages.context import RunContext
from etl.stages.forecast import copied_project
from etl.stages.scope import find_scope, unknown_loads
from etl.targets import Publication, publish
from etl.warehouse import connect


def load(ctx: RunContext) -> None:
    """Publish every load of the configuration that the options name and that may be published.

    A target that fails, whatever the reason, holds back none of the others.

    Raises:
        StageError: targets that failed, and marts that may not be published.
    """
    if ctx.options.environment != "prod":
        logger.info("only prod is published")
        return
    settings, dry = ctx.settings, ctx.options.dry_run
    chosen = _chosen(ctx)
    if dry and not settings.warehouse.exists():
        ctx.run.plan += [f"load {x.model} → {x.target}: publish it whole" for x in chosen]
        return
    failures: list[EtlError] = []
    with connect(settings.warehouse, read_only=dry) as connection:
        states = read_states(connection, "prod")
        held = _held(ctx, connection, states, {x.model for x in chosen})
        for name in settings.targets:
            loads = [x for x in chosen if x.target == name]
            if not loads:
                continue
            started_at = utc_now()
            try:
                ready = [x for x in loads if x.model not in held]
                results = _publish(ctx, connection, name, ready, states)
            except Exception as e:  # noqa: BLE001 - a bug at one target is none of the others'
                failures.append(contained(ctx, e, name))
                results = [
                    LoadRun(
                        model=x.model, target=name, table=x.target_table, strategy=x.strategy,
                        status="failed",
                    )
                    for x in loads
                ]  # fmt: skip
            models = {x.model for x in loads}
            times = {"started_at": started_at, "finished_at": utc_now()}
            results = [r.model_copy(update=times) for r in results if r.model in models]
            ctx.run.loads = _tell_again(ctx.run.loads, results)
            _tell(ctx, results)
    failures += _unexplained(ctx, held, states)
    if failures:
        raise StageError(failures)


def _held(
    ctx: RunContext, connection: DuckDBPyConnection, states: dict[str, ModelState], models: set[str]
) -> dict[str, str]:
    """Which of the models may not be published, and why."""
    settings = ctx.settings
    held = publishable(states, models)
    half = {dataset_name(s) for s in settings.active_sources if half_loaded(settings, s)}
    moved = find_moved(connection, "prod", half) & models - held.keys()
    return held | dict.fromkeys(moved, "a view of raw, which has changed since its audits")


def _publish(
    ctx: RunContext,
    connection: DuckDBPyConnection,
    target: str,
    ready: list[Load],
    states: dict[str, ModelState],
) -> list[LoadRun]:
    """Publish what is ready; all else of the target, chosen or not, keeps its version there."""
    settings, evaluated = ctx.settings, {m.name for m in ctx.run.models if m.intervals}
    kept = [x for x in settings.loads if x.target == target and x not in ready]
    return publish(
        settings,
        connection,
        target,
        [_publication(x, states, evaluated) for x in ready],
        [_publication(x, states, evaluated) for x in kept],
        dry_run=ctx.options.dry_run,
    )


def _tell_again(before: list[LoadRun], results: list[LoadRun]) -> list[LoadRun]:
    """The loads with new results: tried again, the stage finds unchanged what it had published."""
    done = {(r.target, r.table): r for r in before}
    for r in results:
        earlier = done.get((r.target, r.table))
        if earlier is None or (earlier.status, r.status) != ("published", "unchanged"):
            done[r.target, r.table] = r
    return list(done.values())


def _chosen(ctx: RunContext) -> list[Load]:
    """The loads of this run: all, or those of the models that its options name."""
    options, settings = ctx.options, ctx.settings
    if not options.select and not options.sources:
        return list(settings.loads)
    copied = copied_project(settings, options.environment)
    with copied if options.dry_run else ctx.project() as project:
        models = find_scope(project, options).touched
    return [x for x in settings.loads if x.model in models]


def _publication(load: Load, states: dict[str, ModelState], evaluated: set[str]) -> Publication:
    state = states.get(load.model)
    key = load.key or (state.grain if state else ())
    return Publication(
        load.model, load.target_table, key, load.strategy, load.columns, load.primary_key,
        load.indexes, load.model in evaluated,
    )  # fmt: skip


def _tell(ctx: RunContext, results: list[LoadRun]) -> None:
    for r in results:
        known = r.status != "failed"  # else nobody has counted what stands there
        change = f"+{r.inserted} ~{r.updated} -{r.deleted}" if known else "failed"
        if ctx.options.dry_run:
            ctx.run.plan.append(f"load {r.model} → {r.target}: {change}")
            continue
        counts = {"rows": r.rows_at_target, "change": change} if known else {}
        logger.bind(model=r.model, target=r.target, **counts).info(r.status.replace("_", " "))


def _unexplained(ctx: RunContext, held: dict[str, str], built: Collection[str]) -> list[EtlError]:
    """Marts held back for what an earlier run left: this run must not end with 0 either."""
    if not held or ctx.run.failures or ctx.options.dry_run:
        return []
    unknown: list[EtlError] = []
    if held.keys() - set(built):
        with ctx.project() as project:
            unknown = [e for e in unknown_loads(project, ctx.options) if e.subject in held]
    told = {e.subject for e in unknown}
    return unknown + [
        DataQualityError(
            f"{model} was not published: {reason}",
            subject=model,
            hint="etl run --stage transform --stage audit --stage load",
        )
        for model, reason in sorted(held.items())
        if model not in told
    ]
