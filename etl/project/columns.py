"""Finds where a model's query has other columns than its table, which keeps those it began with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
from sqlglot import exp
from sqlmesh.core.model import SqlModel
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot


@dataclass(frozen=True)
class Columns:
    """How a query's columns differ from its table's: other types, told, and those that are new."""

    retyped: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def compare_columns(adapter: Any, snapshot: Snapshot, **rendering: Any) -> Columns:
    """Compare the columns of a model that SQLMesh does not know, from files or a `*`.

    It casts their values to the types of the first time, 1.5 to 2, and leaves new columns out.
    """
    model = snapshot.node
    if not isinstance(model, SqlModel) or model.annotated or not snapshot.is_materialized:
        return Columns()
    query = model.render_query_or_raise(engine_adapter=adapter, **rendering)
    index = rendering.get("deployability_index") or DeployabilityIndex.all_deployable()
    table = snapshot.table_name(is_deployable=index.is_deployable(snapshot))
    try:
        now, then = _describe(adapter, query), _describe(adapter, exp.to_table(table))
    except duckdb.Error:  # a table that is there while the model is evaluated only
        return Columns()
    return Columns(
        tuple(f"{c} is {t}, was {then[c]}" for c, t in now.items() if then.get(c, t) != t),
        tuple(c for c in now if c not in then),
    )


def _describe(adapter: Any, what: exp.Query | exp.Table) -> dict[str, str]:
    rows = adapter.fetchall(f"DESCRIBE {what.sql(adapter.dialect, identify=True)}")
    return {str(name): str(kind) for name, kind, *_ in rows}
