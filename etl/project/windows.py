"""Finds windows that see no rows but those of the interval that is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlmesh.core.dialect import MacroVar
from sqlmesh.core.model import Model, SqlModel

# They choose among versions of a row, and mean those of the interval.
_CHOOSING = (exp.RowNumber, exp.Rank, exp.DenseRank)
# A bound of nothing else is the interval's own; another one may let the rows before it in.
_PLAIN = (
    exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Cast, exp.DataType, exp.AtTimeZone,
    exp.Date, exp.DateTrunc, exp.TimestampTrunc, exp.Var, MacroVar,
)  # fmt: skip


def find_cut_window(model: Model) -> str:
    """A window function whose values depend on which days are evaluated together.

    Empty when there is none. A window that is partitioned by what the interval is of has all of its
    rows, and a model that reads itself may go on from where it was. Models in Python or Jinja are
    not looked into.
    """
    if not isinstance(model, SqlModel) or not model.kind.is_incremental or model.depends_on_self:
        return ""
    times = {model.time_column.column.name.lower()} if model.time_column else set[str]()
    cut: set[int] = set()
    with suppress(SqlglotError):  # SQLMesh leaves such a query as it is
        for scope in traverse_scope(model.query):
            bounds = list(_lower_bounds(scope))
            times |= _columns(bounds)
            sources = {id(s) for s in (*scope.union_scopes, *scope.sources.values())}
            if not bounds and cut.isdisjoint(sources):
                continue
            for function, partition in _windows(scope):
                if not isinstance(function, _CHOOSING) and not times & _columns(partition):
                    return str(function.sql("duckdb"))
            # Keys of what changed are no rows of the interval, and others may be found by them.
            shown = [s for s in _selects(scope) if s.is_star or times & _columns([s])]
            times |= {s.alias_or_name.lower() for s in shown}
            if any(s.is_star or not s.find(exp.AggFunc) for s in shown):
                cut.add(id(scope))
    return ""


def _lower_bounds(scope: Scope) -> Iterator[exp.Expr]:
    """The conditions by which a query reads nothing from before the interval."""
    where = scope.expression.args.get("where")
    conditions = [where.this] if where is not None else []
    while conditions:
        condition = conditions.pop().unnest()
        if isinstance(condition, exp.And):
            conditions += condition.left, condition.right
            continue
        low = (
            condition.args["low"] if isinstance(condition, exp.Between)
            else condition.expression if isinstance(condition, exp.GT | exp.GTE | exp.EQ)
            else condition.this if isinstance(condition, exp.LT | exp.LTE)
            else None
        )  # fmt: skip
        begins = low is not None and any(
            str(variable.this).startswith("start_") for variable in low.find_all(MacroVar)
        )
        if begins and all(isinstance(n, _PLAIN) or n is condition for n in condition.walk()):
            yield condition


def _windows(scope: Scope) -> Iterator[tuple[exp.Expr, list[exp.Expr]]]:
    """The functions of a query's windows, and what each is partitioned by."""
    named = {w.name.lower(): w for w in scope.expression.args.get("windows") or ()}
    for window in scope.find_all(exp.Window):
        function = window.this
        while isinstance(function, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
            function = function.this
        if isinstance(function, exp.Func):  # else it is the definition of a window with a name
            definition = named.get(window.alias.lower(), window)
            yield function, definition.args.get("partition_by", [])


def _selects(scope: Scope) -> list[exp.Expr]:
    query = scope.expression
    return list(query.selects) if isinstance(query, exp.Query) else []


def _columns(expressions: list[exp.Expr]) -> set[str]:
    """Names as DuckDB compares them, whatever their case."""
    return {c.name.lower() for e in expressions for c in e.find_all(exp.Column)}
