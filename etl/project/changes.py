"""What a plan would change, in words, and whether the policy lets it through unattended."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from sqlglot import exp
from sqlmesh.core.model import Model, SeedModel, SqlModel
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory

from etl.errors import ApprovalError
from etl.project.listener import bare_name

# Under `additive` a run applies these by itself: nothing that stands is taken away or rewritten.
ADDITIVE = frozenset({"added", "metadata", "non-breaking"})


@dataclass(frozen=True)
class Change:
    """One difference between the project and the environment."""

    model: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.model}" + (f": {self.detail}" if self.detail else "")


def list_changes(plan: Plan) -> list[Change]:
    """Every direct change, and the removals; models that only follow from one are its detail."""
    return sorted(_changes(plan), key=lambda c: (c.kind, c.model))


def _changes(plan: Plan) -> Iterator[Change]:
    difference = plan.context_diff
    added = {s.name for s in difference.added}
    for snapshot_id in sorted(difference.added):
        snapshot = difference.snapshots[snapshot_id]
        if snapshot.is_model and not snapshot.is_external:
            yield Change(bare_name(snapshot.name), "added")
    for snapshot_id in difference.removed_snapshots:
        yield Change(bare_name(snapshot_id.name), "removed")
    for name, (current, previous) in difference.modified_snapshots.items():
        if name in added or not difference.directly_modified(name):
            if difference.metadata_updated(name) and _told(current) != _told(previous):
                yield Change(bare_name(name), "metadata")
            continue
        yield Change(bare_name(name), _kind(current), _detail(plan, current, previous))


def _told(snapshot: Snapshot) -> str:
    """A digest of what is said of a model, without what SQLMesh adds: the columns that it reads."""
    node = snapshot.node
    if snapshot.is_model:
        node = snapshot.model.copy(update={"mapping_schema": {}})
    return node.metadata_hash


def _kind(snapshot: Any) -> str:
    category = snapshot.change_category
    if snapshot.is_forward_only:
        return "forward-only"
    if category is not None and category.is_non_breaking:
        return "non-breaking"
    if category == SnapshotChangeCategory.METADATA:
        return "metadata"
    return "breaking"


def _detail(plan: Plan, current: Any, previous: Any) -> str:
    parts = []
    if current.is_model and previous.is_model:
        now = set(current.model.columns_to_types or {})
        before = set(previous.model.columns_to_types or {})
        parts += [f"+{c}" for c in sorted(now - before)] + [f"-{c}" for c in sorted(before - now)]
        parts += _seed_detail(current.model, previous.model)
    below = sorted(
        bare_name(i.name)
        for i in plan.indirectly_modified.get(current.snapshot_id, set())
        if is_rebuilt(plan.snapshots[i])
    )
    if below:
        parts.append(f"rebuilds {', '.join(below)}")
    return " ".join(parts)


def _seed_detail(now: Model, before: Model) -> Iterator[str]:
    """In which columns a seed's CSV differs; SQLMesh's state has no more of the earlier one."""
    if not isinstance(now, SeedModel) or not isinstance(before, SeedModel):
        return
    old = before.column_hashes
    if differing := [c for c, new in now.column_hashes.items() if old.get(c, new) != new]:
        read = now.seed.reader(dialect=now.dialect, settings=now.kind.csv_settings).read()
        rows = sum(map(len, read))
        s = "s" if rows != 1 else ""
        yield f"CSV differs in {', '.join(differing)} ({rows} row{s} now)"


def find_rebuilt(plan: Plan) -> dict[str, Snapshot]:
    """What is built anew, for a change of its own or above, by fully qualified name."""
    difference = plan.context_diff
    changed = {n: s for n, (s, _) in difference.modified_snapshots.items() if is_rebuilt(s)}
    return changed | {i.name: difference.snapshots[i] for i in difference.added}


def is_rebuilt(snapshot: Snapshot) -> bool:
    """True when this version needs a table of its own, with all that was ever in it."""
    return snapshot.change_category not in (
        SnapshotChangeCategory.INDIRECT_NON_BREAKING,
        SnapshotChangeCategory.METADATA,
    )


def find_misjudged(plan: Plan) -> list[Snapshot]:
    """Models whose new columns change which rows there are; SQLMesh calls each of them harmless.

    What reads them would keep the rows that it made of the earlier ones.
    """
    return [
        now
        for now, _ in plan.context_diff.modified_snapshots.values()
        if now.snapshot_id in plan.context_diff.new_snapshots
        and now.change_category == SnapshotChangeCategory.NON_BREAKING
        and isinstance(now.model, SqlModel)
        and any(
            node.args.get("distinct") or node.args.get("all") or isinstance(node, exp.Pivot)
            for node in now.model.query.find_all(exp.Query, exp.Group, exp.Pivot)
        )
    ]


def find_audited_anew(plan: Plan) -> set[str]:
    """Models whose audits changed and whose table stays: what it holds never passed the new ones.

    SQLMesh runs them over the intervals that it evaluates anyway.
    """

    def told(model: Model) -> tuple[str, list[str]]:
        # Macros that audits alone use are in the second.
        return model.audit_metadata_hash(), model._additional_metadata

    return {
        bare_name(name)
        for name, (now, before) in plan.context_diff.modified_snapshots.items()
        if now.is_model
        and before.is_model
        and not is_rebuilt(now)
        and told(now.model) != told(before.model)
    }


def find_refused(changes: Collection[Change], policy: str) -> ApprovalError | None:
    """The refusal that names every change a person has to approve; None when there is none."""
    if policy == "auto":
        return None
    held = [c for c in changes if policy == "manual" or c.kind not in ADDITIVE]
    if not held:
        return None
    return ApprovalError(
        f"{len(held)} change{'s need' if len(held) > 1 else ' needs'} approval "
        f"(transform.approve: {policy}): " + "; ".join(str(c) for c in held),
        subject=held[0].model,
        hint="look at `etl plan`, then approve with `etl plan --apply`",
    )


def describe_plan(plan: Plan) -> list[str]:
    """What a transformation would do, a line for each change and each model with new intervals."""
    changes = [f"transform: {change}" for change in list_changes(plan)]
    return [*changes, *_missing(plan, {s.name for s in plan.snapshots.values()})]


def describe_changes(plan: Plan, total: int) -> list[str]:
    """What differs from the environment: each change with its difference, each model built for it.

    Args:
        total: how many models there are; those that stay as they are, are told by their number.
    """
    rebuilt = find_rebuilt(plan)
    rest = total - sum(s.is_model and not s.is_external for s in rebuilt.values())
    changes = [_told_whole(plan, change) for change in list_changes(plan)]
    return [*changes, *_missing(plan, rebuilt.keys()), *([unchanged(rest)] if rest else [])]


def _told_whole(plan: Plan, change: Change) -> str:
    """A change, and below it the lines of the model that differ; of external ones all is said."""
    lines = [f"transform: {change}"]
    for name, (now, before) in plan.context_diff.modified_snapshots.items():
        if bare_name(name) == change.model and not now.is_external:
            # The first two lines name files.
            lines += list(unified_diff(_text(before), _text(now), lineterm=""))[2:]
    return "\n    ".join(lines)


def _text(snapshot: Snapshot) -> list[str]:
    """The definition of a model or an audit; SQLMesh's own difference is without descriptions."""
    node = snapshot.node
    parts = node.render_definition()
    return [line for part in parts for line in part.sql(node.dialect, pretty=True).splitlines()]


def unchanged(models: int) -> str:
    """The line for models that a plan leaves as they are."""
    s = "s" if models != 1 else ""
    return f"transform: {models} model{s} as before: a run evaluates what is new in raw"


def _missing(plan: Plan, names: Collection[str]) -> Iterator[str]:
    """What these models lack, a line for each."""
    for missing in plan.missing_intervals:
        if missing.snapshot_id.name in names:
            n = len(missing.intervals)
            s = "s" if n != 1 else ""
            name = bare_name(missing.snapshot_id.name)
            yield f"transform: evaluate {name} ({n} interval{s})"
