"""Transform: plan and run the models, then count every load package in raw against staging."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from etl.errors import EtlError, ReconciliationError, StageFailures
from etl.history import Verdict, write_states
from etl.logs import adopt_library_loggers
from etl.records import Reconciliation
from etl.settings import Settings, dataset_name
from etl.stages.context import RunContext
from etl.warehouse import connect, ensure_tables, expected_tables, quoted

if TYPE_CHECKING:
    from etl.project.runner import Outcome, Project


def transform(ctx: RunContext) -> None:
    """Bring the environment up to date with the project and with raw.

    Raises:
        StageFailures: models, audits or counts that failed; everything else is up to date.
        ApprovalError, TransformError: nothing could be transformed.
    """
    if ctx.options.dry_run:
        ctx.run.plan += plan_lines(
            ctx.settings, ctx.options.environment, lambda p: wanted_models(ctx, p)
        )
        return
    settings, options = ctx.settings, ctx.options
    with connect(settings.warehouse) as connection:
        created = ensure_tables(connection, expected_tables(settings.sqlmesh_dir))
    if created:
        logger.bind(tables=created).info("raw tables without data were created empty")
    with ctx.project() as project:
        adopt_library_loggers()
        select = wanted_models(ctx, project)
        held = project.downstream_of_sources(ctx.run.failed_sources)
        touched = (select if select is not None else set(project.models())) - held
        _mark(ctx, project, dict.fromkeys(touched, "unfinished"))
        outcome = project.transform(
            approve=settings.transform.approve,
            select=select,
            hold_back=held,
            restate=_to_restate(ctx, project, touched),
            start=options.start,
            end=options.end,
        )
        ctx.run.models += outcome.models
        ctx.run.audits += outcome.audits
        ctx.transformed = True
        failures = list(outcome.failures)
        if options.environment == "prod":
            failures += _reconcile(ctx, project, touched, outcome)
        _mark(ctx, project, verdicts(project, touched, failures))
    if failures:
        raise StageFailures(failures)


def wanted_models(ctx: RunContext, project: Project) -> set[str] | None:
    """The models that the options name, with all that they read; None for every model."""
    options = ctx.options
    chosen: set[str] | None = None
    if options.select:
        chosen = project.with_upstream(project.select(options.select))
    if options.sources:
        below = project.downstream_of_sources(options.sources)
        chosen = below if chosen is None else chosen & below
    return chosen


def _to_restate(ctx: RunContext, project: Project, touched: set[str]) -> set[str] | None:
    options = ctx.options
    if not options.full_refresh and not options.start and not options.end:
        return None
    return (project.select(options.select) if options.select else set(touched)) & touched


def _mark(ctx: RunContext, project: Project, states: dict[str, Verdict]) -> None:
    """Note the models' verdicts before and after: a run killed in between leaves `unfinished`."""
    with connect(ctx.settings.warehouse) as connection:
        write_states(
            connection,
            ctx.options.environment,
            ctx.run.run_id,
            states,
            {m: project.grain(m) for m in states},
        )


def verdicts(
    project: Project, models: set[str], failures: list[EtlError]
) -> dict[str, Verdict]:
    """Failed models, what is below them, and the rest."""
    known = project.models()
    failed = {f.subject for f in failures} & models
    held = (
        project.downstream_of_names(known[m] for m in failed) | project.listener.skipped
    ) & models
    return {
        m: "failed" if m in failed else "held_back" if m in held else "passed" for m in models
    }


def _reconcile(
    ctx: RunContext, project: Project, touched: set[str], outcome: Outcome
) -> list[EtlError]:
    """Count each committed load package of append tables in raw and in its staging model."""
    failed = {m.name for m in outcome.models if m.status != "ok"}
    errors: list[EtlError] = []
    with connect(ctx.settings.warehouse) as connection:
        for source in ctx.settings.active_sources:
            dataset = dataset_name(source)
            for (table,) in connection.execute(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = ? "
                "AND column_name = '_dlt_load_id' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\' "
                "ORDER BY 1",
                [dataset],
            ).fetchall():
                for model in project.staging_of(f"{dataset}.{table}"):
                    if not model.endswith(f"__{table}") or model not in touched - failed:
                        continue
                    rows = connection.execute(
                        f"""
                        SELECT load_id, coalesce(r.n, 0), coalesce(s.n, 0)
                        FROM (SELECT DISTINCT load_id FROM {quoted(dataset, "_dlt_loads")}
                              WHERE status = 0) l
                        LEFT JOIN (SELECT _dlt_load_id AS load_id, count(*) AS n
                                   FROM {quoted(dataset, table)} GROUP BY 1) r USING (load_id)
                        LEFT JOIN (SELECT _dlt_load_id AS load_id, count(*) AS n
                                   FROM {quoted(*model.split("."))} GROUP BY 1) s USING (load_id)
                        WHERE coalesce(r.n, 0) > 0 OR coalesce(s.n, 0) > 0
                        ORDER BY load_id
                        """  # noqa: S608
                    ).fetchall()
                    errors += _compare(ctx, f"{dataset}.{table}", model, rows)
    return errors


def _compare(
    ctx: RunContext, table: str, model: str, rows: list[tuple[str, int, int]]
) -> list[EtlError]:
    now = {i for s in ctx.run.sources for i in s.load_ids}
    wrong = []
    for load_id, expected, found in rows:
        result = Reconciliation(
            between="raw-staging", subject=model, load_id=load_id, expected=expected, found=found
        )
        # The record lists this run's packages and whatever does not agree.
        if load_id in now or not result.agrees:
            ctx.run.reconciliations.append(result)
        if not result.agrees:
            wrong.append(result)
    if not wrong:
        return []
    first = wrong[0]
    return [
        ReconciliationError(
            f"{model}: {len(wrong)} load package{'s' if len(wrong) > 1 else ''} differ from "
            f"{table}: {first.load_id} has {first.expected} rows in raw and {first.found} in staging",
            subject=model,
            hint=f"etl run --stage transform --select {model}+ --full-refresh builds it anew "
            "from raw; run.json → reconciliations lists all",
        )
    ]


def plan_lines(
    settings: Settings,
    environment: str,
    choose: Callable[[Project], set[str] | None] = lambda project: None,
) -> list[str]:
    """What SQLMesh would do, found on a copy of its state: nothing in data/ is written to."""
    from etl.project.runner import Project, describe_plan

    with tempfile.TemporaryDirectory(prefix="etl-plan-") as folder:
        if settings.state.exists():
            shutil.copy2(settings.state, Path(folder) / settings.state.name)
        copied = settings.model_copy(update={"data_dir": Path(folder)})
        project = Project(copied, environment)
        try:
            return describe_plan(project, choose(project))
        finally:
            project.close()
