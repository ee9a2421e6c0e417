"""Loads a model that ships by itself, without the project around it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlmesh.core.dialect import parse
from sqlmesh.core.model import SqlModel, load_sql_based_model

MODELS = Path(__file__).parents[1] / "sqlmesh" / "models"


@cache
def shipped_model(name: str) -> SqlModel:
    """The model of the file `<name>.sql`, without its audits: the project's own are not loaded."""
    text = (MODELS / f"{name}.sql").read_text(encoding="utf-8")
    head, *rest = parse(text, default_dialect="duckdb")
    head.set("expressions", [e for e in head.expressions if e.name != "audits"])
    loaded = load_sql_based_model([head, *rest], dialect="duckdb")
    assert isinstance(loaded, SqlModel)
    return loaded


def columns_of(model: SqlModel) -> str:
    """SQL: its columns and their types, as a new table lists them."""
    assert model.columns_to_types is not None
    return ", ".join(f"{c} {kind.sql('duckdb')}" for c, kind in model.columns_to_types.items())
