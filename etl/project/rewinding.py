"""Takes back what SQLMesh notes as done for times that are still to come: the clock was ahead."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlglot import exp
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.utils.date import to_timestamp

from etl.project.environment import Project
from etl.project.failures import classify


def find_early(project: Project, now: datetime) -> list[Snapshot]:
    """Models of the environment and of the project that were evaluated beyond now."""
    stored = [*project.context.snapshots.values(), *(project.built() or {}).values()]
    return [
        s
        for s in {s.snapshot_id: s for s in stored}.values()
        if s.is_model and s.intervals and s.intervals[-1][1] > to_timestamp(now)
    ]


def rewind(project: Project, early: Collection[Snapshot], since: datetime, now: datetime) -> None:
    """Let SQLMesh evaluate these again from `since` on; rows of times beyond now go.

    Else what comes until then would pass for transformed.

    Raises:
        TransformError, ResourcesError: the rows cannot be deleted, or the state not be written.
    """
    state, adapter = project.context.state_sync, project.context.engine_adapter
    try:
        for snapshot in early:
            model = snapshot.model
            table = exp.to_table(snapshot.table_name())
            if model.time_column is not None and adapter.table_exists(table):
                end = model.convert_to_time_column(now)
                adapter.delete_from(table, model.time_column.column.copy() > end)
        since_then = [
            # Never all of it: SQLMesh begins the history of SCD_TYPE_2 anew that has none.
            (s, (max(to_timestamp(since), s.intervals[0][0] + 1), s.intervals[-1][1]))
            for s in early
        ]
        # A removal counts for what was noted before it, as the clock went then. The first one lets
        # SQLMesh join its notes, which notes them as of now; the second one counts.
        state.remove_intervals(since_then, remove_shared_versions=True)
        state.compact_intervals()
        state.remove_intervals(since_then, remove_shared_versions=True)
    except Exception as e:
        raise classify(e, project.settings, "the time since cannot be evaluated again") from e
