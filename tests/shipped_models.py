"""Loads a model that ships by itself, without the project around it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlmesh.core.audit import ModelAudit, load_audit
from sqlmesh.core.dialect import parse
from sqlmesh.core.macros import MacroRegistry, macro
from sqlmesh.core.model import SqlModel, load_sql_based_model
from sqlmesh.utils import sys_path
from sqlmesh.utils.metaprogramming import import_python_file

SQLMESH = Path(__file__).parents[1] / "sqlmesh"


@cache
def shipped_model(name: str) -> SqlModel:
    """The model of the file `<name>.sql`."""
    text = (SQLMESH / "models" / f"{name}.sql").read_text(encoding="utf-8")
    loaded = load_sql_based_model(
        parse(text, default_dialect="duckdb"),
        dialect="duckdb", module_path=SQLMESH, macros=_macros(), audit_definitions=_audits(),
    )  # fmt: skip
    assert isinstance(loaded, SqlModel)
    return loaded


@cache
def _audits() -> dict[str, ModelAudit]:
    """The project's own audits."""
    texts = (path.read_text(encoding="utf-8") for path in (SQLMESH / "audits").glob("*.sql"))
    audits = (load_audit(parse(text, default_dialect="duckdb"), dialect="duckdb") for text in texts)
    return {audit.name: audit for audit in audits if isinstance(audit, ModelAudit)}


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
