"""Finds what a model's table does not take as its query returns it: types, keys, rows of a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import duckdb
from sqlglot import exp
from sqlmesh.core.model import (
    Model,
    SCDType2ByColumnKind,
    SCDType2ByTimeKind,
    SqlModel,
)
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot

from etl.project.listener import bare_name

# What `etl generate` writes into its models.
GENERATED_TAG = "generated"


@dataclass(frozen=True)
class Misfits:
    """Columns of another type, told; columns that are new; the key, rows without it or too many."""

    retyped: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    keyless: int = 0
    key: str = ""
    doubled: int = 0


def find_misfits(adapter: Any, snapshot: Snapshot, *, is_first: bool, **rendering: Any) -> Misfits:
    """Look at what SQLMesh has just evaluated, for the first time or again."""
    if not snapshot.is_model or not snapshot.is_materialized or snapshot.is_seed:
        return Misfits()
    model = snapshot.model
    index = rendering.get("deployability_index") or DeployabilityIndex.all_deployable()
    table = exp.to_table(snapshot.table_name(is_deployable=index.is_deployable(snapshot)))
    retyped, new = _compare_columns(adapter, model, table, rendering)
    keyless, doubled, keys = 0, 0, _keys(model)
    if keys and not _is_known_ahead(model):
        query = exp.select("COUNT(*)").from_(table).where(_is_empty(keys), _open(model))
        (keyless,) = adapter.fetchone(query, quote_identifiers=True) or (0,)
    if is_first and model.kind.is_incremental_by_unique_key:
        # SQLMesh merges what comes later, and takes any of the rows of one key.
        keys = model.unique_key
        query = exp.select(_too_many(keys)).from_(table)
        (doubled,) = adapter.fetchone(query, quote_identifiers=True) or (0,)
    return Misfits(retyped, new, keyless, _names(keys), doubled)


def find_stale_cast(adapter: Any, snapshot: Snapshot, snapshots: Mapping[str, Snapshot]) -> str:
    """A raw column that a generated model casts to the type that it had once; empty for none.

    It would make 2 of 1.5. A cast that somebody changed says what it means.
    """
    model = snapshot.model if snapshot.is_model else None
    if not isinstance(model, SqlModel) or GENERATED_TAG not in model.tags:
        return ""
    casts = {
        c.this.name: c.to.sql("duckdb")
        for c in model.query.find_all(exp.Cast)
        if isinstance(c.this, exp.Column)
    }
    for parent in (snapshots.get(p.name) for p in snapshot.parents):
        if parent is None or not parent.is_external:
            continue
        now = _describe(adapter, exp.to_table(parent.name))
        for column, kind in (parent.model.columns_to_types or {}).items():
            told, known = kind.sql("duckdb"), now.get(column)
            if known is None or casts.get(column) != told or known == told:
                continue
            if known != str(duckdb.type(told)):  # TEXT is VARCHAR
                return f"{bare_name(parent.name)}.{column} is {known}, was {told}"
    return ""


def find_strays(adapter: Any, snapshot: Snapshot, **rendering: Any) -> Misfits:
    """Rows that a history is about to get and that it does not find again by their key.

    They would stay when it is mended. Of several rows of one key SQLMesh takes any.
    """
    model = snapshot.model if snapshot.is_model else None
    if not _is_known_ahead(model):
        return Misfits()
    query = model.render_query_or_raise(engine_adapter=adapter, **rendering)
    rows = exp.select("*").distinct().from_(query.subquery()).subquery()
    keys = _keys(model)
    query = exp.select(exp.func("COUNT_IF", _is_empty(keys)), _too_many(keys)).from_(rows)
    empty, doubled = adapter.fetchone(query, quote_identifiers=True) or (0, 0)
    return Misfits(keyless=empty, key=_names(keys), doubled=doubled)


def find_fractions(frame: Any, types: Mapping[str, exp.DataType]) -> str:
    """Columns of a data frame that DuckDB would round to the whole numbers they are declared as."""
    return ", ".join(
        str(column)
        for column, values in getattr(frame, "items", dict)()
        if column in types
        and types[column].is_type(*exp.DataType.INTEGER_TYPES)
        and values.dtype.kind == "f"
        and (values.dropna() % 1 != 0).any()
    )


def _is_known_ahead(model: Model | None) -> TypeGuard[SqlModel]:
    """True for a history whose query can be asked for its keys by itself."""
    return isinstance(model, SqlModel) and model.kind.is_scd_type_2 and not model.pre_statements


def _is_empty(keys: list[exp.Expr]) -> exp.Expr:
    return exp.or_(*(key.copy().is_(exp.null()) for key in keys))


def _too_many(keys: list[exp.Expr]) -> exp.Expr:
    """Rows beyond the first of each key."""
    distinct = exp.Distinct(expressions=[exp.Tuple(expressions=[key.copy() for key in keys])])
    return exp.Count(this=exp.Star()) - exp.Count(this=distinct)


def _names(keys: list[exp.Expr]) -> str:
    return ", ".join(key.name or key.sql() for key in keys)


def _open(model: Model) -> exp.Expr | None:
    """Of a history, the rows that it would end when it found them by their key."""
    return (
        model.kind.valid_to_name.is_(exp.null())
        if isinstance(model.kind, SCDType2ByColumnKind | SCDType2ByTimeKind)
        else None
    )


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

    But for histories, it compares several columns as one text, in which a NULL is a value.
    """
    keys = model.partitioned_by if model.kind.is_incremental_by_partition else model.unique_key
    return keys if len(keys) == 1 or model.kind.is_scd_type_2 else []
