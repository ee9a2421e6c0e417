"""Finds what a model's table does not take as its query returns it: other types, keys of NULL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
from sqlglot import exp
from sqlmesh.core.model import Model, SqlModel
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot


@dataclass(frozen=True)
class Misfits:
    """Columns of another type, told; columns that are new; rows without a key, and their key."""

    retyped: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    keyless: int = 0
    key: str = ""


def find_misfits(adapter: Any, snapshot: Snapshot, **rendering: Any) -> Misfits:
    """Look at what SQLMesh has just evaluated."""
    if not snapshot.is_model or not snapshot.is_materialized or snapshot.is_seed:
        return Misfits()
    model = snapshot.model
    index = rendering.get("deployability_index") or DeployabilityIndex.all_deployable()
    table = exp.to_table(snapshot.table_name(is_deployable=index.is_deployable(snapshot)))
    retyped, new = _compare_columns(adapter, model, table, rendering)
    keys, keyless = _keys(model), 0
    if keys:
        empty = exp.or_(*(key.copy().is_(exp.null()) for key in keys))
        (keyless,) = adapter.fetchone(exp.select("COUNT(*)").from_(table).where(empty)) or (0,)
    return Misfits(retyped, new, keyless, ", ".join(key.name or key.sql() for key in keys))


def _compare_columns(
    adapter: Any, model: Model, table: exp.Table, rendering: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that SQLMesh does not know, from files or a `*`: other types, told, and new ones.

    It casts their values to the types that the table began with, 1.5 to 2, and leaves new ones out.
    """
    if not isinstance(model, SqlModel) or model.annotated:
        return (), ()
    query = model.render_query_or_raise(engine_adapter=adapter, **rendering)
    try:
        now, then = _describe(adapter, query), _describe(adapter, table)
    except duckdb.Error:  # a table that is there while the model is evaluated only
        return (), ()
    return (
        tuple(f"{c} is {t}, was {then[c]}" for c, t in now.items() if then.get(c, t) != t),
        tuple(c for c in now if c not in then),
    )


def _describe(adapter: Any, what: exp.Query | exp.Table) -> dict[str, str]:
    rows = adapter.fetchall(f"DESCRIBE {what.sql(adapter.dialect, identify=True)}")
    return {str(name): str(kind) for name, kind, *_ in rows}


def _keys(model: Model) -> list[exp.Expr]:
    """By what SQLMesh finds the rows that it replaces, where it does not find those of a NULL.

    Several columns it compares as one text, in which a NULL is a value. Histories are left out:
    they keep their table, and with it such rows, when the model is mended.
    """
    if model.kind.is_scd_type_2:
        return []
    keys = model.partitioned_by if model.kind.is_incremental_by_partition else model.unique_key
    return keys if len(keys) == 1 else []
