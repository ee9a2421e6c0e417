"""Extract: all sources side by side, so that one that fails holds back none of the others."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from loguru import logger

from etl.arrival import read_arrival
from etl.errors import ANY_FAILURE, EtlError, StageError, TransformError
from etl.logs import adopt_library_loggers, bound
from etl.packages import raw_datasets
from etl.raw.places import NotReachedError
from etl.settings import dataset_name
from etl.sources.build import declare_source
from etl.sources.functions import import_factories
from etl.stages.containment import contained
from etl.stages.context import RunContext
from etl.stages.drift import tell_drift
from etl.stages.scope import wanted_models
from etl.stages.source import extract_source
from etl.warehouse import connect


def extract(ctx: RunContext) -> None:
    """Read all sources side by side; a source that fails holds back none of the others.

    Raises:
        StageError: one failure for each source, or part of one, that failed.
    """
    adopt_library_loggers()
    if not ctx.sources:
        logger.warning("no source to read: config/etl.yaml names none that is enabled")
        return
    if ctx.options.dry_run:
        for name in ctx.sources:
            _plan_source(ctx, name)
        return
    _refuse_unknown_selection(ctx)
    # Whole before the threads start: two that import it at once may each see half of it.
    import pyarrow  # noqa: F401

    todo = {n: s for n, s in ctx.sources.items() if n not in ctx.done_sources}
    import_factories(todo, ctx.settings.project)
    # dlt writes the schema of its destination's state tables on a first load, and DuckDB allows
    # one writer of a table: extraction runs side by side, commits take turns.
    pool = ThreadPoolExecutor(max_workers=max(1, len(todo)), thread_name_prefix="source")
    try:
        futures: dict[Future[None], str] = {
            pool.submit(bound(extract_source), ctx, n, s): n for n, s in todo.items()
        }
        wait(futures)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    if ctx.importing is not None:
        # SQLMesh's modules import each other: another thread that asks for one of them meanwhile
        # may see half of it.
        ctx.importing.join()
    failures: list[EtlError] = list(ctx.contained)
    for future, name in futures.items():
        error = future.exception()
        if error is None:
            ctx.done_sources.add(name)
        elif isinstance(error, ANY_FAILURE):
            failures.append(_point_to_the_demo(ctx, contained(ctx, error, name)))
        else:
            raise error
    tell_drift(ctx)
    _tell_of_unread(ctx)
    if failures:
        raise StageError(failures)


def _tell_of_unread(ctx: RunContext) -> None:
    """What is in raw of sources that the settings do not name goes on being published, and ages."""
    with connect(ctx.settings.warehouse) as connection:
        datasets = raw_datasets(connection)
    for dataset in sorted(set(datasets) - set(map(dataset_name, ctx.settings.sources))):
        ctx.run.warn(
            f"{dataset} is of a source that the settings do not name, so nothing renews it: drop "
            "the schema when no model reads it, or name the source, with `enabled: false` if it is "
            "not to be read",
            dataset=dataset,
        )


def _point_to_the_demo(ctx: RunContext, error: EtlError) -> EtlError:
    """Where there is a demo, say how to see the job run without a network.

    In a folder of its own: what it makes up would stay in the job's history and in its marts.
    """
    has_demo = (ctx.settings.project / "config" / "demo.yaml").exists()
    if isinstance(error, NotReachedError) and has_demo:
        error.hint += (
            "; `ETL_DATA_DIR=data-demo etl run --profile demo` shows the job without a network"
        )
    return error


def _refuse_unknown_selection(ctx: RunContext) -> None:
    """Tell of a selector that picks nothing before the sources are read, not hours after.

    The project is let go of again: other threads work with the warehouse now, and this stage may
    write models.
    """
    sources = ctx.sources.values()
    if not ctx.options.select or any(s.on_new_column == "generate" for s in sources):
        return
    # One that does not load is the transformation's to tell of.
    with suppress(TransformError), ctx.project() as project:
        wanted_models(project, ctx.options)
    ctx.close()


def _plan_source(ctx: RunContext, name: str) -> None:
    """Say what a run would read; nothing is opened that would be written to."""
    built, monitor = declare_source(ctx.settings, name)
    if ctx.refresh:
        ctx.run.plan.append(f"extract {name}: in place of all that raw holds of it")
    for resource, table in sorted(monitor.tables.items()):
        disposition = built.resources[resource].write_disposition
        ctx.run.plan.append(f"extract {name}.{resource} → {name}_raw.{table} ({disposition})")
    if arrival := read_arrival(ctx.settings.dlt_dir / name):
        packages = ", ".join(arrival.load_ids)
        ctx.run.plan.append(f"extract {name}: would first finish and count the package {packages}")
