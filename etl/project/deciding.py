"""Finds the parts of a query that decide which rows it has."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.optimizer import Scope, find_all_in_scope


def deciding_parts(scope: Scope) -> Iterator[exp.Expr]:
    """The parts of a scope that decide which rows it has."""
    query = scope.expression
    if not isinstance(query, exp.Query):
        return
    distinct, group = query.args.get("distinct"), query.args.get("group")
    # An ORDER BY that cuts nothing off may matter to what reads it: LIST, FIRST, ROW_NUMBER.
    is_ordered = query.parent is not None or query.args.get("limit") or query.args.get("offset")
    if isinstance(query, exp.Select):
        if distinct is not None and distinct.args.get("on"):
            yield distinct
            is_ordered = True
        elif distinct is not None or _is_compared(query):
            yield from query.expressions
        else:
            yield from (e for e in query.expressions if e.find(exp.Explode, exp.Unnest))
        if group is not None and group.args.get("all"):
            yield from (e for e in query.expressions if not any(find_all_in_scope(e, exp.AggFunc)))
        for name in ("where", "group", "having", "qualify", "joins", "laterals"):
            part = query.args.get(name)
            yield from part if isinstance(part, list) else [part] if part is not None else []
    yield from (query.args[name] for name in ("limit", "offset") if query.args.get(name))
    if is_ordered and query.args.get("order") is not None:
        yield from _sort_keys(query)


def names_of(query: exp.Expr) -> list[str]:
    """The names of what a query selects; none of what is no query."""
    return query.named_selects if isinstance(query, exp.Query) else []


def _sort_keys(query: exp.Query) -> Iterator[exp.Expr]:
    """What ORDER BY sorts by; a place in the select list, or ALL of it, by the columns' names."""
    names = names_of(query)
    for ordered in query.args["order"].expressions:
        key = ordered.this
        if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.name) <= len(names):
            yield exp.column(names[int(key.name) - 1])
        elif key.name.upper() == "ALL" and not key.args.get("table"):
            yield from (exp.column(name) for name in names)
        else:
            yield ordered


def _is_compared(query: exp.Select) -> bool:
    """True for a branch of UNION, EXCEPT or INTERSECT: rows that are equal fall together."""
    parent = query.parent
    while isinstance(parent, exp.Subquery | exp.SetOperation):
        if isinstance(parent, exp.SetOperation) and (
            not isinstance(parent, exp.Union) or parent.args.get("distinct")
        ):
            return True
        parent = parent.parent
    return False
