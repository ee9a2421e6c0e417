"""Transform: plan and run the models, then count every load package in raw against staging."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from loguru import logger

from etl.errors import EtlError, StageError, TransformError
from etl.logs import adopt_library_loggers
from etl.model_states import Verdict, read_states
from etl.packages import Package, active_packages, fingerprint_packages, note_processed
from etl.records import Options
from etl.runs import Run
from etl.settings import dataset_name
from etl.stages.context import RunContext
from etl.stages.forecast import say_plan
from etl.stages.generation import generate_models
from etl.stages.idle import find_idle, note_transformation
from etl.stages.reconcile import raw_tables, reconcile
from etl.stages.scope import find_scope, models_in_scope, models_to_restate, unknown_loads
from etl.stages.tables import ensure_raw_tables
from etl.stages.unfinished import hold_back_unfinished
from etl.stages.verdicts import held_back, mark, note_what_views_show, shown_outside, verdicts
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.environment import Project
    from etl.project.proposal import Proposal
    from etl.project.runner import Outcome


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
    for name in ("config.yaml", "config.yml"):
        if (settings.sqlmesh_dir / name).exists():
            run.warn(f"{settings.sqlmesh_dir / name} is not read: the job's settings say it all")
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


def transform_models(project: Project, run: Run, options: Options, approve: str) -> list[EtlError]:
    """Plan, evaluate, count, and note which models may be published; returns what failed.

    Raises:
        ApprovalError, TransformError: nothing could be transformed.
    """
    from etl.project.changes import find_audited_anew
    from etl.project.refusals import find_unfit
    from etl.project.runner import evaluate
    from etl.project.standing import refuse_lost_tables

    settings, environment = project.settings, project.environment
    begun_at = datetime.now(UTC)
    with connect(settings.warehouse) as connection:
        unfit = find_unfit(project, connection, begun_at)
        packages = fingerprint_packages(connection)
        waiting = active_packages(connection, environment)
        before = {m: s.verdict for m, s in read_states(connection, environment).items()}
    project.listener.forget()  # the stage may be tried again
    _rewind(project, run, begun_at, waiting, before)
    for model in sorted(project.kept):
        run.warn(f"{model} stays as it was: it is in no file that loads", model=model)
    proposal = _propose(project, run, options, approve, unfit)
    # When it is refused, the graph is now the environment's: what stands there goes on.
    wanted, held, partly = find_scope(project, options, run.failed_sources, unfit)
    restate = models_to_restate(project, options, wanted)
    touched = models_in_scope(project, options, run.failed_sources, unfit)
    _warn_of_kept(project, run, restate)
    whole = not options.start and not options.end
    with connect(settings.warehouse) as connection:
        refuse_lost_tables(project, connection, restate if whole else ())
    suspects = {m for m in touched if before.get(m) in ("failed", "held_back")}
    doubtful = suspects | {m for m in touched if before.get(m) == "unaudited"}
    audited_anew = find_audited_anew(proposal.plan) & touched if proposal.plan else set[str]()
    shown = shown_outside(project, touched) & before.keys()
    # Killed in between, what was in doubt stays in doubt.
    mark(project, run, dict.fromkeys(touched - doubtful, "unfinished"))
    mark(project, run, dict.fromkeys((audited_anew - doubtful) | shown, "held_back"))
    outcome = evaluate(
        project,
        proposal.plan,
        wanted,
        held_back=held,
        restate=restate,
        start=options.start,
        end=options.end,
    )
    _warn_of_waiting(run, proposal.waiting | outcome.waiting)
    _warn_of_unread(project, run)
    for model, new in sorted(project.listener.narrow.items()):
        run.warn(
            f"{model} is without what is new in its query: {', '.join(new)}; name the columns in "
            "the model: what is changed has a new table",
            model=model,
        )
    failures, failed, built, pairs = _examine(
        project, run, outcome, touched, suspects | audited_anew
    )
    states = verdicts(project, touched, failed, doubtful)
    note_what_views_show(project, states, packages)
    mark(project, run, states)
    _note_packages(project, run, waiting, built - failed)
    asked = find_scope(project, options).wanted
    failures += [*project.broken, *(e for name, e in unfit.items() if name in asked)]
    if proposal.refusal is not None:
        failures.append(proposal.refusal)
    if not partly and not failures and not project.differs():
        project.note_built()
        with connect(settings.warehouse) as connection:
            note_transformation(connection, project, run.run_id, packages, pairs, begun_at)
    return failures


def _propose(
    project: Project,
    run: Run,
    options: Options,
    approve: str,
    unfit: dict[str, TransformError],
) -> Proposal:
    """What may be planned; a model whose change SQLMesh refuses becomes unfit, and is left out."""
    from etl.project.proposal import propose

    while True:
        wanted, held, partly = find_scope(project, options, run.failed_sources, unfit)
        try:
            return propose(project, approve, wanted if partly else None, held)
        except TransformError as e:
            if e.subject not in wanted:
                raise
            unfit[e.subject] = e


def _tidy(project: Project, run: Run) -> None:
    """What cannot be dropped harms nothing that is published."""
    from etl.project.janitor import tidy

    try:
        tidy(project)
    except EtlError as e:
        run.warn(str(e))


def _rewind(
    project: Project,
    run: Run,
    now: datetime,
    waiting: Collection[Package],
    before: Mapping[str, Verdict],
) -> None:
    """Evaluate again, as if for the first time, what was evaluated while the clock was ahead."""
    from etl.project.listener import bare_name
    from etl.project.rewinding import find_early, rewind

    early = find_early(project, now)
    if not early:
        return
    names = sorted({bare_name(s.name) for s in early})
    since = min([now, *(p.committed_at for p in waiting if project.graph.readers(p.dataset))])
    run.warn(
        f"the clock was ahead in an earlier run: {len(names)} models are evaluated again from "
        f"{since:%Y-%m-%d %H:%M:%S} UTC on",
        models=names,
    )
    mark(project, run, {m: "unfinished" for m in names if before.get(m) == "passed"})
    rewind(project, early, since, now)


def _examine(
    project: Project, run: Run, outcome: Outcome, touched: set[str], suspects: set[str]
) -> tuple[list[EtlError], set[str], set[str], tuple[tuple[str, str, str], ...]]:
    """What failed, by error and by model; what was built; and the pairs that were counted."""
    from etl.project.standing import refuse_strange_views

    run.models += outcome.models
    run.audits += outcome.audits
    failures = list(outcome.failures)
    failed = set(outcome.failed)
    # What was held back lacks what raw has of late.
    built = touched - failed - held_back(project, failed)
    with connect(project.settings.warehouse) as connection:
        refuse_strange_views(project, connection, built)
    found, pairs = _reconcile(project, run, built)
    failures += found
    failed |= {e.subject for e in found}
    # A view that was not evaluated shows what is new all the same.
    views = (project.graph.live().keys() & built) - project.listener.evaluated.keys()
    found = _audit_suspects(project, run, (suspects | views) - failed)
    failures += found
    failed |= {e.subject for e in found}
    return failures, failed, built, pairs


def _note_packages(project: Project, run: Run, waiting: list[Package], models: set[str]) -> None:
    """Note the packages of which every reader is among these models as transformed."""
    with connect(project.settings.warehouse) as connection:
        done = {d for d in {p.dataset for p in waiting} if _is_read(project, d, models)}
        packages = [p for p in waiting if p.dataset in done]
        note_processed(connection, project.environment, run.run_id, packages)


def _warn_of_waiting(run: Run, waiting: Collection[tuple[str, str]]) -> None:
    """Changes that were left out, because what they would build anew is held back."""
    for model in sorted({changed for changed, _ in waiting}):
        below = ", ".join(sorted(name for changed, name in waiting if changed == model))
        run.warn(f"{model} keeps its earlier version: its change builds {below} anew", model=model)


def _warn_of_unread(project: Project, run: Run) -> None:
    """Sources that brought rows which no model reads: the settings alone were renamed, say."""
    for source in sorted({s.source for s in run.sources if s.load_ids}):
        if not project.graph.readers(dataset_name(source)):
            run.warn(
                f"no model reads {dataset_name(source)}, so what {source} brought is in no mart: "
                "`etl generate` writes models; a renamed source has a new schema in raw",
                source=source,
            )


def _warn_of_kept(project: Project, run: Run, anew: set[str]) -> None:
    """Models that SQLMesh does not build anew: they have what cannot be had again."""
    kept = project.graph.unrepeatable(anew | project.graph.below(anew))
    if kept and (kept := kept & project.built_names()):
        run.warn(
            f"not built anew, for they keep their history: {', '.join(sorted(kept))} "
            "(`disable_restatement FALSE` in the model's kind lets them)",
            models=sorted(kept),
        )


def _is_read(project: Project, dataset: str, models: set[str]) -> bool:
    """True when all that read the raw tables are among the models; False when nothing does."""
    readers = project.graph.readers(dataset)
    return bool(readers) and readers <= models


def _reconcile(
    project: Project, run: Run, models: set[str]
) -> tuple[list[EtlError], tuple[tuple[str, str, str], ...]]:
    """Count staging against raw; also returns what was compared."""
    if project.environment != "prod":
        return [], ()
    datasets = [dataset_name(s) for s in project.settings.active_sources]
    with connect(project.settings.warehouse) as connection:
        found = project.graph.pairs(raw_tables(connection, datasets))
        pairs = tuple(p for p in found if p.model in models)
        return list(reconcile(connection, run, pairs)), pairs


def _audit_suspects(project: Project, run: Run, models: set[str]) -> list[EtlError]:
    """Audit over all data what had failed: the run's own audits see only the new intervals."""
    from etl.project.audits import audit_models

    if not models:
        return []
    audited = audit_models(project, models)
    seen = {(a.model, a.name, a.sql) for a in run.audits}
    run.audits += [a for a in audited.audits if (a.model, a.name, a.sql) not in seen]
    return audited.failures
