"""SQL files in SQLMesh's own format, as `sqlmesh format` leaves them."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlmesh.core.dialect import format_model_expressions, parse
from sqlmesh.utils.errors import SQLMeshError


def format_sql(text: str, dialect: str) -> str | None:
    """A model's or audit's text formatted; None when it does not parse or names a column twice.

    What is formatted once does not change when it is formatted again.
    """
    try:
        expressions = parse(text, default_dialect=dialect)
        for expression in expressions:
            for node in expression.walk():
                # Where its word stands in the text. Nothing is made of it here, and copying it is a
                # quarter of the work.
                node._meta = None
        # Its queries are copied once already, to write casts as `::`.
        formatted = format_model_expressions(expressions, dialect, copy=False)
    except (SqlglotError, SQLMeshError):
        return None
    for query in expressions:
        if isinstance(query, exp.Query) and len(set(query.named_selects)) < len(query.selects):
            return None
    return formatted
