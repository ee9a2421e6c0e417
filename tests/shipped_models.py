"""Loads a model that ships by itself, without the project around it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlmesh.core.dialect import parse
from sqlmesh.core.macros import MacroRegistry, macro
from sqlmesh.core.model import SqlModel, load_sql_based_model
from sqlmesh.utils import sys_path
from sqlmesh.utils.metaprogramming import import_python_file

SQLMESH = Path(__file__).parents[1] / "sqlmesh"


@cache
def shipped_model(name: str) -> SqlModel:
    """The model of the file `<name>.sql`, without its audits: the project's own are not loaded."""
    text = (SQLMESH / "models" / f"{name}.sql").read_text(encoding="utf-8")
    head, *rest = parse(text, default_dialect="duckdb")
    head.set("expressions", [e for e in head.expressions if e.name != "audits"])
    loaded = load_sql_based_model(
        [head, *rest], dialect="duckdb", module_path=SQLMESH, macros=_macros()
    )
    assert isinstance(loaded, SqlModel)
    return loaded


@cache
def _macros() -> MacroRegistry:
    """SQLMesh's macros and the project's, read as SQLMesh's loader does: for these models alone."""
    standard = macro.get_registry()
    with sys_path(SQLMESH):
        for path in sorted((SQLMESH / "macros").glob("*.py")):
            import_python_file(path, SQLMESH)
    found = macro.get_registry()
    macro.set_registry(standard)
    return found


def columns_of(model: SqlModel) -> str:
    """SQL: its columns and their types, as a new table lists them."""
    assert model.columns_to_types is not None
    return ", ".join(f"{c} {kind.sql('duckdb')}" for c, kind in model.columns_to_types.items())
