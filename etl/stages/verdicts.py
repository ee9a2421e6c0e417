"""The verdict on each model that a transformation touched: may it be published, and why not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl.errors import EtlError
from etl.model_states import Verdict, write_states
from etl.packages import note_shown
from etl.runs import Run
from etl.settings import dataset_name
from etl.stages.reconcile import raw_tables, reconcile
from etl.warehouse import connect

if TYPE_CHECKING:
    from etl.project.environment import Project
    from etl.project.runner import Outcome


@dataclass(frozen=True)
class Judged:
    """What failed, by error and by model; what was built; and the pairs that were counted."""

    failures: list[EtlError]
    failed: set[str]
    built: set[str]
    pairs: tuple[tuple[str, str, str], ...]


def mark(project: Project, run: Run, states: Mapping[str, Verdict]) -> None:
    """Note the models' verdicts before and after: a run killed in between leaves `unfinished`.

    Not of what is embedded in others: it has nothing to publish.
    """
    states = {m: v for m, v in states.items() if project.graph.kind(m) != "EMBEDDED"}
    with connect(project.settings.warehouse) as connection:
        write_states(
            connection,
            project.environment,
            run.run_id,
            states,
            {m: project.graph.grain(m) for m in states},
        )


def verdicts(
    project: Project, models: set[str], failed: set[str], doubtful: set[str]
) -> dict[str, Verdict]:
    """Failed models, what is below them, what a standalone audit has yet to see, and the rest.

    A standalone audit that also reads what this run leaves as it was is not run in it. Models that
    were in doubt before (`doubtful`) are held back until it was; the others need not wait for it.
    """
    from etl.project.audits import standalone_readers

    unseen, waiting = set[str](), set[str]()
    for read in standalone_readers(project).values():
        if read <= models:
            waiting |= read
        else:
            unseen |= read & doubtful
    held = held_back(project, failed) | unseen | project.graph.below(unseen)
    waiting |= project.graph.below(waiting)

    def verdict(model: str) -> Verdict:
        if model in failed:
            return "failed"
        if model in held:
            return "held_back"
        return "unaudited" if model in waiting else "passed"

    return {m: verdict(m) for m in models}


def held_back(project: Project, failed: set[str]) -> set[str]:
    """What SQLMesh left out, and what is below that or below what failed."""
    skipped = set(project.listener.skipped)
    return skipped | project.graph.below(failed | skipped)


def shown_outside(project: Project, models: set[str]) -> set[str]:
    """Views that this run leaves out and that show what it builds: nobody audits what they show."""
    return {v for v, read in project.graph.live().items() if read & models} - models


def note_what_views_show(
    project: Project, models: Collection[str], packages: Mapping[str, list[str]]
) -> None:
    """Note what of raw the views among these models show as it is."""
    if project.environment != "prod":
        return  # no other is published
    shown = {
        view: {d: packages[d] for t in read if (d := t.partition(".")[0]) in packages}
        for view, read in project.graph.live().items()
        if view in models
    }
    with connect(project.settings.warehouse) as connection:
        note_shown(connection, project.environment, models, {v: p for v, p in shown.items() if p})


def judge(
    project: Project, run: Run, outcome: Outcome, touched: set[str], suspects: set[str]
) -> Judged:
    """Count and audit what was evaluated, and what views show of it."""
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
    found = _audit_suspects(project, run, (suspects | views) & built - failed)
    failures += found
    failed |= {e.subject for e in found}
    return Judged(failures, failed, built, pairs)


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
