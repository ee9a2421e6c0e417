"""Audit: the audits that the transformation has not just run, and the age of the data."""

from __future__ import annotations

from datetime import UTC, datetime

from etl.errors import DataQualityError, EtlError, StageFailures
from etl.history import write_states
from etl.settings import dataset_name
from etl.stages.context import RunContext
from etl.stages.transform import verdicts, wanted_models
from etl.warehouse import connect, exists, quoted


def audit(ctx: RunContext) -> None:
    """Run all audits over all data, unless the transformation of this run has run its own.

    Raises:
        StageFailures: blocking audits that failed, sources whose data is too old.
    """
    if ctx.options.dry_run:
        ctx.run.plan.append("audit: every audit of the models above")
        return
    failures: list[EtlError] = list(_stale(ctx))
    if not ctx.transformed:
        with ctx.project() as project:
            select = wanted_models(ctx, project)
            outcome = project.audit(select)
            ctx.run.audits += outcome.audits
            failures += outcome.failures
            models = select if select is not None else set(project.models())
            with connect(ctx.settings.warehouse) as connection:
                write_states(
                    connection,
                    ctx.options.environment,
                    ctx.run.run_id,
                    verdicts(project, models, failures),
                    {m: project.grain(m) for m in models},
                )
    if failures:
        raise StageFailures(failures)


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
