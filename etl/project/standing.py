"""Whether the warehouse holds what SQLMesh's state says was built there: the two are two files."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
from sqlglot import exp, parse_one
from sqlmesh.core.snapshot import Snapshot

from etl.errors import TransformError
from etl.project.environment import Project
from etl.project.listener import bare_name
from etl.warehouse import exists


def refuse_lost_tables(
    project: Project, connection: duckdb.DuckDBPyConnection, anew: Collection[str]
) -> None:
    """Refuse to go on without a table that intervals were built into.

    SQLMesh would make it again, empty, and evaluate only what came since.

    Args:
        anew: models that are built from their beginning in this run.

    Raises:
        TransformError: tables that are gone, or a warehouse that is older than the state.
    """
    here = project.context.snapshots
    lost = [
        name
        for name, snapshot in _tables(project)
        if name not in anew
        and snapshot.intervals
        # What has changed gets a table of its own.
        and snapshot.name in here
        and here[snapshot.name].fingerprint == snapshot.fingerprint
        and not exists(connection, *_place(exp.to_table(snapshot.table_name())))
    ]
    if lost:
        raise _refusal(project, "the tables are gone, or the warehouse is older", lost)


def refuse_unknown_histories(
    project: Project, connection: duckdb.DuckDBPyConnection, begun: Collection[str]
) -> None:
    """Refuse to begin anew, over what stands, what cannot be had again.

    SQLMesh empties the table of a history that its state does not know.

    Args:
        begun: models of which there is only what a run left that was killed in their first build.

    Raises:
        TransformError: models whose views stand, and no state says what they show.
    """
    if project.environment != "prod":
        return
    new = project.graph.unrepeatable(project.graph.names) - project.built_names()
    standing = sorted(m for m in new - {*begun} if exists(connection, *m.split(".", 1)))
    if standing:
        raise _refusal(
            project,
            "it does not know these histories, and would begin them anew",
            standing,
            "without a backup: copy the tables, drop the views, and they begin anew",
        )


def refuse_strange_views(
    project: Project, connection: duckdb.DuckDBPyConnection, models: Collection[str]
) -> None:
    """Refuse to publish models whose view shows another version than the one that was evaluated.

    Raises:
        TransformError: views that are gone, or of a warehouse that is older than the state.
    """
    found = {
        f"{schema}.{view}": sql
        for schema, view, sql in connection.execute(
            "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    }
    strange = [
        name
        for name, snapshot in _tables(project)
        if name in models
        and _shown(found.get(name, "")) != _place(exp.to_table(snapshot.table_name()))
    ]
    if strange:
        raise _refusal(project, "their views are gone or show another version", strange)


def _tables(project: Project) -> list[tuple[str, Snapshot]]:
    """Models of `prod` that have a table, or a view in its place; people read no other."""
    built = (project.built() or {}) if project.environment == "prod" else {}
    return [
        (bare_name(s.name), s) for _, s in sorted(built.items()) if s.is_model and not s.is_symbolic
    ]


def _shown(sql: str) -> tuple[str, str] | None:
    """Schema and name of what a view of SQLMesh's selects from."""
    if not sql:
        return None
    query = parse_one(sql, read="duckdb").expression
    table = query.find(exp.Table) if query is not None else None
    return _place(table) if table is not None else None


def _place(table: exp.Table) -> tuple[str, str]:
    return table.db, table.name


def _refusal(
    project: Project,
    what: str,
    models: Collection[str],
    otherwise: str = "",
) -> TransformError:
    state = project.settings.state.name
    otherwise = otherwise or (
        f"or move {state} away: the next run then builds every model anew from raw"
    )
    return TransformError(
        f"the warehouse does not fit {state}, SQLMesh's state: {what}: {', '.join(sorted(models))}",
        subject=min(models),
        hint=f"restore the warehouse and {state} from one backup; {otherwise}",
    )
