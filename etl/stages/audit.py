"""Audit: what the transformation has not just audited, standalone audits, the age of the data."""

from __future__ import annotations

from datetime import UTC, datetime

from loguru import logger

from etl.errors import DataQualityError, EtlError, StageError
from etl.model_states import Verdict, read_states
from etl.settings import dataset_name
from etl.stages.context import RunContext
from etl.stages.scope import find_scope
from etl.stages.verdicts import mark
from etl.warehouse import connect, exists, quoted


def audit(ctx: RunContext) -> None:
    """Run the standalone audits; all others over all data too, unless the models just ran theirs.

    This stage takes the right to be published away; it gives it only to models that waited for
    a standalone audit. What failed in a transformation needs another one.

    Raises:
        StageError: blocking audits that failed, sources whose data is too old.
    """
    if ctx.options.dry_run:
        which = "standalone audits" if "transform" in ctx.options.stages else "every audit"
        ctx.run.plan.append(f"audit: {which} over all data of {ctx.options.environment}")
        return
    failures: list[EtlError] = list(_stale(ctx))
    if ctx.idle:
        logger.info("nothing new to audit")
    else:
        failures += _audit(ctx)
    if failures:
        raise StageError(failures)


def _audit(ctx: RunContext) -> list[EtlError]:
    from etl.project.audits import Audited, audit_models, audit_standalone
    from etl.project.listener import STANDALONE

    # Tried again, the stage reports anew.
    ctx.run.audits = [a for a in ctx.run.audits if ctx.transformed and a.model != STANDALONE]
    with connect(ctx.settings.warehouse) as connection:
        states = read_states(connection, ctx.options.environment)
    with ctx.project() as project:
        graph = project.graph
        models = find_scope(project, ctx.options).wanted
        own = Audited() if ctx.transformed else audit_models(project, models)
        alone = audit_standalone(
            project,
            never_built=graph.names - states.keys(),
            scope=find_scope(project, ctx.options, ctx.run.failed_sources).touched,
        )
        ctx.run.audits += own.audits + alone.audits
        failed = own.failed | alone.failed
        held = graph.below(failed) - failed
        unaudited = set(alone.unaudited)
        for name, read in alone.left_out.items():
            ctx.run.warn(
                f"standalone audit {name} is left to the next whole run: it reads models that this "
                "run leaves as they were"
            )
            # A transformation of the same scope knows who need not wait for it.
            unaudited |= set[str]() if ctx.transformed else read
        waiting = unaudited | graph.below(unaudited)
        verdicts: dict[str, Verdict] = {}
        for model in graph.names & states.keys():
            if model in failed:
                verdicts[model] = "failed"
            elif model in held and states[model].verdict in ("passed", "unaudited"):
                verdicts[model] = "held_back"
            elif states[model].verdict == "unaudited" and model not in waiting:
                verdicts[model] = "passed"
        mark(project, ctx.run, verdicts)
        # A transformation has told them; here, models of theirs were not audited.
        broken = () if ctx.transformed else project.broken
    return [*broken, *own.failures, *alone.failures]


def _stale(ctx: RunContext) -> list[DataQualityError]:
    """Sources whose newest committed package is older than they allow."""
    found = []
    with connect(ctx.settings.warehouse) as connection:
        for name, source in ctx.sources.items():
            if source.freshness is None:
                continue
            row = None
            if exists(connection, dataset_name(name), "_dlt_loads"):
                row = connection.execute(
                    f"SELECT max(inserted_at) FROM {quoted(dataset_name(name), '_dlt_loads')} "  # noqa: S608
                    "WHERE status = 0"
                ).fetchone()
            newest = row[0] if row else None
            hours = (datetime.now(UTC) - newest).total_seconds() / 3600 if newest else None
            if hours is None or hours > source.freshness:
                age = "there is none" if hours is None else f"it is {hours:.1f} hours old"
                found.append(
                    DataQualityError(
                        f"{name}: the newest load package may be {source.freshness:g} hours old, "
                        f"{age}",
                        subject=name,
                        hint="etl run --stage extract, or raise sources.<name>.freshness",
                    )
                )
    return found
