"""What a run may change in the environment: the plan that the policy allows, or its refusal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlmesh.core.plan import Plan

from etl.errors import ApprovalError
from etl.project.changes import Change, find_refused, list_changes
from etl.project.environment import Project
from etl.project.selection import PlannedPart, plan_part


@dataclass(frozen=True)
class Proposal:
    """A plan that is needed, its changes, and the refusal of a policy that holds it back.

    `waiting` are (changed model, what it would build anew and is held back) pairs: the model keeps
    its earlier version.
    """

    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    refusal: ApprovalError | None = None
    waiting: frozenset[tuple[str, str]] = frozenset()


def find_refusal(
    project: Project, changes: Collection[Change], approve: str
) -> ApprovalError | None:
    """The refusal of changes that wait for a person; those of `prod` alone do."""
    return find_refused(changes, approve) if project.environment == "prod" else None


def propose(
    project: Project,
    approve: str,
    select: Collection[str] | None,
    held_back: Collection[str] = (),
) -> Proposal:
    """What the project changes in the environment, and whether the policy lets it.

    When it does not, the environment's own models take the place of the project's: they go on.

    Args:
        select: only the changes of these, and what they build anew; None: all.
        held_back: models that keep their version, and with them what would change it.

    Raises:
        ApprovalError: held back, and there is no environment that could go on.
        TransformError: the project cannot be planned.
    """
    if not project.differs() or (select is not None and not select):
        return Proposal()
    part = PlannedPart(project.plan()) if select is None else plan_part(project, select, held_back)
    if part.plan is None:
        return Proposal(waiting=part.waiting)
    changes = tuple(list_changes(part.plan))
    refusal = find_refusal(project, changes, approve)
    if refusal is None:
        project.also = part.also
        return Proposal(part.plan, changes, waiting=part.waiting)
    if not project.fall_back():
        raise refusal
    return Proposal(None, changes, refusal, part.waiting)
