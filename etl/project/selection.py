"""Plans of a part of the project: what they have to build beside it, and which changes must wait.

SQLMesh plans the selected models in their new version. What reads them gets a new version as well,
is promoted with them, and has no table if it was not selected: the plan breaks half-way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import SnapshotId

from etl.project.changes import is_rebuilt
from etl.project.environment import Project
from etl.project.listener import bare_name


@dataclass(frozen=True)
class PlannedPart:
    """A plan of some models that leaves nothing unbuilt.

    `plan` is None when every change has to wait. `also` are models that it evaluates beside those
    that were asked for, `waiting` (changed model, what it would build anew and must not) pairs.
    """

    plan: Plan | None
    also: frozenset[str] = frozenset()
    waiting: frozenset[tuple[str, str]] = frozenset()


def plan_part(
    project: Project,
    select: Collection[str],
    held_back: Collection[str] = (),
    evaluate: Collection[str] | None = None,
) -> PlannedPart:
    """The plan of the changes of these models, and of what they build anew in the environment.

    A model that the project has no more goes when it would be built anew.

    Args:
        held_back: models that keep their version, and with them what would change it.
        evaluate: models to bring up to now; default: the selected ones.

    Raises:
        TransformError: the models cannot be planned.
    """
    wanted = set(select if evaluate is None else evaluate)
    # No other needs a table.
    standing, here = project.promoted_names(), project.local_names
    changed, waiting = set(select), set[tuple[str, str]]()
    while changed:
        plan = project.plan(select=changed, evaluate=wanted)
        anew = _built_anew(plan) & standing
        reaching = _find_reaching(plan, anew & set(held_back))
        stopped = {(name, below) for name, below in reaching if name in changed}
        gone = anew - here - changed
        if stopped:
            waiting |= stopped
            changed -= {name for name, _ in stopped}
        elif gone:
            changed |= gone
        else:
            beside = anew & here - wanted
            if beside:
                plan = project.plan(select=changed, evaluate=wanted | beside)
            also = _evaluated(plan) - wanted
            return PlannedPart(plan, frozenset(also), frozenset(waiting))
    return PlannedPart(None, waiting=frozenset(waiting))


def _evaluated(plan: Plan) -> set[str]:
    names = plan.models_to_backfill or set()
    return {
        bare_name(s.name)
        for s in plan.snapshots.values()
        if s.is_model and not s.is_external and s.name in names
    }


def _find_reaching(plan: Plan, models: Collection[str]) -> set[tuple[str, str]]:
    """(changed model, model among these that reads it at any distance).

    Not by SQLMesh's list of what a change modifies: a model whose column is gone from what it reads
    counts as changed itself.
    """
    modified = plan.context_diff.modified_snapshots
    found = set()
    for snapshot in plan.snapshots.values():
        below = bare_name(snapshot.name)
        if below not in models:
            continue
        waiting, seen = list(snapshot.parents), set[SnapshotId]()
        while waiting:
            parent = waiting.pop()
            if parent in seen or parent not in plan.snapshots:
                continue
            seen.add(parent)
            waiting += plan.snapshots[parent].parents
            if parent.name in modified and plan.context_diff.directly_modified(parent.name):
                found.add((bare_name(parent.name), below))
    return found


def _built_anew(plan: Plan) -> set[str]:
    """Models that have to be evaluated for the plan to be whole.

    Where what they read only grew, models keep their version and table until they are evaluated
    next; but an environment for development shows no new version of a model without that.
    """
    return {
        bare_name(name)
        for name, (current, _) in plan.context_diff.modified_snapshots.items()
        if current.is_model and not current.is_external and (plan.is_dev or is_rebuilt(current))
    }
