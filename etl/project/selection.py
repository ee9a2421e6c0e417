"""Plans of a part of the project: what they have to build beside it, and which changes must wait.

SQLMesh plans the selected models in their new version. What reads them gets a new version as well,
is promoted with them, and has no table if it was not selected: the plan breaks half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import SnapshotId

from etl.project.changes import is_rebuilt
from etl.project.listener import bare_name

# (models in their new version, models to evaluate) → plan
MakePlan = Callable[[Collection[str], Collection[str]], Plan]


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
    make: MakePlan,
    select: Collection[str],
    evaluate: Collection[str],
    *,
    held: Collection[str],
    standing: Collection[str],
    here: Collection[str],
) -> PlannedPart:
    """Plan the changes of the selection, and what they build anew in the environment.

    Args:
        evaluate: models to bring up to now.
        held: models that keep their version, and with them whatever would change it.
        standing: models that have a view in the environment; no other needs a table.
        here: models that the project has. One that it has no more goes when it would be built anew.

    Raises:
        TransformError: the models cannot be planned.
    """
    changed, waiting = set(select), set[tuple[str, str]]()
    while changed:
        plan = make(changed, evaluate)
        anew = _built_anew(plan) & set(standing)
        reaching = _find_reaching(plan, anew & set(held))
        stopped = {(name, below) for name, below in reaching if name in changed}
        gone = anew - set(here) - changed
        if stopped:
            waiting |= stopped
            changed -= {name for name, _ in stopped}
        elif gone:
            changed |= gone
        else:
            beside = anew & set(here) - set(evaluate)
            if beside:
                plan = make(changed, {*evaluate, *beside})
            also = _evaluated(plan) - set(evaluate)
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
