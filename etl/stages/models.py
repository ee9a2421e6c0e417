"""Models brought up to date: planned, evaluated, counted against raw, and judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from etl.errors import EtlError, TransformError
from etl.history import evaluated_models
from etl.model_states import Verdict, read_verdicts
from etl.packages import Package, active_packages, fingerprint_packages, note_processed
from etl.records import Options
from etl.runs import Run
from etl.settings import dataset_name
from etl.stages.idle import note_transformation
from etl.stages.scope import find_scope
from etl.stages.verdicts import judge, mark, note_what_views_show, shown_outside, verdicts
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.changes import Change
    from etl.project.environment import Project
    from etl.project.proposal import Proposal


@dataclass(frozen=True)
class _Before:
    """What stands when a transformation begins; `unfit` grows by changes that SQLMesh refuses."""

    at: datetime
    unfit: dict[str, TransformError]
    packages: dict[str, list[str]]
    waiting: list[Package]
    verdicts: dict[str, Verdict]


def transform_models(
    project: Project,
    run: Run,
    options: Options,
    approve: str,
    tell: Callable[[Collection[Change]], None] | None = None,
) -> list[EtlError]:
    """Plan, evaluate, count, and note which models may be published; returns what failed.

    `tell` is told what changes, before it does.

    Raises:
        ApprovalError, TransformError: nothing could be transformed.
    """
    from etl.project.runner import evaluate

    before = _look(project)
    project.listener.forget()  # the stage may be tried again
    _rewind(project, run, before)
    proposal = _propose(project, run, options, approve, before.unfit)
    if tell is not None:
        tell(proposal.changes)
    # When it is refused, the graph is now the environment's: what stands there goes on.
    scope = find_scope(project, options, run.failed_sources, before.unfit)
    _warn_of_kept(project, run, scope.anew)
    with connect(project.settings.warehouse) as connection:
        refuse_lost(project, connection, options, scope.anew, before.verdicts)
    suspects, doubtful = _mark_unfinished(project, run, scope.touched, before.verdicts, proposal)
    outcome = evaluate(
        project,
        proposal.plan,
        scope.wanted,
        held_back=scope.held,
        restate=scope.anew,
        start=options.start,
        end=options.end,
    )
    _warn_of_left_out(project, run, proposal.waiting | outcome.waiting)
    _warn_of_nulled(project, run)
    judged = judge(project, run, outcome, scope.touched, suspects)
    _warn_of_waiting(project, run, judged.built, before.at)
    states = verdicts(project, scope.touched, judged.failed, doubtful)
    note_what_views_show(project, states, before.packages)
    mark(project, run, states)
    _note_packages(project, run, before.waiting, judged.built - judged.failed)
    asked = find_scope(project, options).wanted
    failures = [*judged.failures, *project.broken]
    failures += [e for name, e in before.unfit.items() if name in asked]
    if proposal.refusal is not None:
        failures.append(proposal.refusal)
    if not scope.is_part and not failures and not project.differs():
        project.note_built()
        with connect(project.settings.warehouse) as connection:
            note_transformation(
                connection, project, run.run_id, before.packages, judged.pairs, before.at
            )
    return failures


def _look(project: Project) -> _Before:
    from etl.project.refusals import find_unfit

    now = datetime.now(UTC)
    with connect(project.settings.warehouse) as connection:
        return _Before(
            now,
            find_unfit(project, connection, now),
            fingerprint_packages(connection),
            active_packages(connection, project.environment),
            read_verdicts(connection, project.environment),
        )


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
        scope = find_scope(project, options, run.failed_sources, unfit)
        try:
            select = scope.wanted if scope.is_part else None
            return propose(project, approve, select, scope.held)
        except TransformError as e:
            if e.subject not in scope.wanted:
                raise
            unfit[e.subject] = e


def _rewind(project: Project, run: Run, before: _Before) -> None:
    """Evaluate again, as if for the first time, what was evaluated while the clock was ahead."""
    from etl.project.listener import bare_name
    from etl.project.rewinding import find_early, rewind

    early = find_early(project, before.at)
    if not early:
        return
    names = sorted({bare_name(s.name) for s in early})
    read = [p.committed_at for p in before.waiting if project.graph.readers(p.dataset)]
    since = min([before.at, *read])
    run.warn(
        f"the clock was ahead in an earlier run: {len(names)} models are evaluated again from "
        f"{since:%Y-%m-%d %H:%M:%S} UTC on",
        models=names,
    )
    mark(project, run, {m: "unfinished" for m in names if before.verdicts.get(m) == "passed"})
    rewind(project, early, since, before.at)


def refuse_lost(
    project: Project,
    connection: DuckDBPyConnection,
    options: Options,
    restate: set[str],
    verdicts: Mapping[str, Verdict],
) -> None:
    """Refuse to go on from tables that somebody dropped; what is built anew needs none.

    Raises:
        TransformError: warehouse and SQLMesh's state do not fit each other.
    """
    from etl.project.standing import refuse_lost_tables, refuse_unknown_histories

    whole = not options.start and not options.end
    refuse_lost_tables(project, connection, restate if whole else ())
    begun = {m for m, verdict in verdicts.items() if verdict == "unfinished"}
    begun -= evaluated_models(connection, project.environment)
    refuse_unknown_histories(project, connection, begun)


def _mark_unfinished(
    project: Project,
    run: Run,
    touched: set[str],
    before: Mapping[str, Verdict],
    proposal: Proposal,
) -> tuple[set[str], set[str]]:
    """Mark what is about to be touched; killed meanwhile, what was in doubt stays in doubt.

    Returns:
        Models to be audited over all data, and those that were not known to be right.
    """
    from etl.project.changes import find_audited_anew

    suspects = {m for m in touched if before.get(m) in ("failed", "held_back")}
    doubtful = suspects | {m for m in touched if before.get(m) == "unaudited"}
    audited_anew = find_audited_anew(proposal.plan) & touched if proposal.plan else set[str]()
    shown = shown_outside(project, touched) & before.keys()
    mark(project, run, dict.fromkeys(touched - doubtful, "unfinished"))
    mark(project, run, dict.fromkeys((audited_anew - doubtful) | shown, "held_back"))
    return suspects | audited_anew, doubtful


def _note_packages(project: Project, run: Run, waiting: list[Package], models: set[str]) -> None:
    """Note packages as transformed that are read, and by none but these models."""
    readers = {d: project.graph.readers(d) for d in {p.dataset for p in waiting}}
    done = {d for d, read_by in readers.items() if read_by and read_by <= models}
    packages = [p for p in waiting if p.dataset in done]
    with connect(project.settings.warehouse) as connection:
        note_processed(connection, project.environment, run.run_id, packages)


def _warn_of_left_out(project: Project, run: Run, waiting: Collection[tuple[str, str]]) -> None:
    """Warn of changes and rows that the models of this run are without.

    `waiting`: changed models, and what each would build anew and is held back.
    """
    for model in sorted({changed for changed, _ in waiting}):
        below = ", ".join(sorted(name for changed, name in waiting if changed == model))
        run.warn(f"{model} keeps its earlier version: its change builds {below} anew", model=model)
    # The settings alone were renamed, say.
    for source in sorted({s.source for s in run.sources if s.load_ids}):
        if not project.graph.readers(dataset_name(source)):
            run.warn(
                f"no model reads {dataset_name(source)}, so what {source} brought is in no mart: "
                "`etl generate` writes models; a renamed source has a new schema in raw",
                source=source,
            )
    for model, new in sorted(project.listener.narrow.items()):
        run.warn(
            f"{model} is without what is new in its query: {', '.join(new)}; name the columns in "
            "the model: what is changed has a new table",
            model=model,
        )


def _warn_of_nulled(project: Project, run: Run) -> None:
    """New seeds in which words were read as NULL that may have been meant as texts."""
    for model, columns in sorted(project.listener.nulled.items()):
        told = (f"{c} {word} ({n})" for c, words in columns.items() for word, n in words.items())
        run.warn(
            f"{model}: words in its CSV were read as NULL: {', '.join(told)}; `csv_settings "
            "(keep_default_na = FALSE, na_values = (''))` in its kind keeps all but empty cells, "
            "`keep_default_na = TRUE` says that they are meant so",
            model=model,
        )


def _warn_of_waiting(project: Project, run: Run, built: set[str], now: datetime) -> None:
    """Models that SQLMesh passes over: nothing is wrong with them, and they lack what is new."""
    over = built - project.listener.evaluated.keys()
    for model, why in project.graph.waiting(over, now).items():
        run.warn(f"{model} was not evaluated, and is without what is new: {why}", model=model)


def _warn_of_kept(project: Project, run: Run, anew: set[str]) -> None:
    """Models that stay as they are: no file of theirs, or above, loads, or they keep a history."""
    for model in sorted(project.kept):
        run.warn(f"{model} stays as it was: it is in no file that loads", model=model)
    for model, tables in sorted(project.orphans.items()):
        read = ", ".join(tables)
        run.warn(
            f"{model} is held back: it reads {read}, which is in no file that loads", model=model
        )
    kept = project.graph.unrepeatable(anew | project.graph.below(anew))
    if kept and (kept := kept & project.built_names()):
        run.warn(
            f"not built anew, for they keep their history: {', '.join(sorted(kept))} "
            "(`disable_restatement FALSE` in the model's kind lets them)",
            models=sorted(kept),
        )
