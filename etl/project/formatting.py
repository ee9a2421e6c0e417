"""SQL files in SQLMesh's own format, as `sqlmesh format` leaves them."""

from __future__ import annotations

from sqlglot.errors import SqlglotError
from sqlmesh.core.dialect import format_model_expressions, parse
from sqlmesh.utils.errors import SQLMeshError


def format_sql(text: str, dialect: str) -> str | None:
    """A model's or audit's text formatted; None when it does not parse.

    What is formatted once does not change when it is formatted again.
    """
    try:
        return format_model_expressions(parse(text, default_dialect=dialect), dialect)
    except (SqlglotError, SQLMeshError):
        return None
