"""Makes a model's query one that sqlglot's lineage can follow, or says why it cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlmesh.core.dialect import Jinja, MacroFunc, normalize_mapping_schema
from sqlmesh.core.model import SqlModel

OPAQUE = (exp.Pivot, exp.Columns, exp.Summarize, exp.Describe)
_OF_A_RUN = re.compile(r"\b(start|end|execution)_\w+|\bruntime_stage\b", re.IGNORECASE)


def followable_query(model: SqlModel) -> exp.Expr:
    """The query, rendered and qualified, in words that sqlglot's lineage knows.

    Raises:
        SqlglotError: it cannot be followed, with the reason as its text.
        SQLMeshError: it cannot be rendered.
    """
    if any(statement.find(exp.Table) for statement in model.pre_statements):
        raise SqlglotError("statements before the query read or make tables")
    if _depends_on_the_run(model.query):
        raise SqlglotError("which SQL it is depends on the time or the stage of a run")
    query: exp.Expr = model.render_query_or_raise()
    for part in query.walk():
        if reason := _not_followed(part):
            raise SqlglotError(f"{reason} is not followed")
    if any(select.args.get("windows") for select in query.find_all(exp.Select)):
        query = query.copy()
        _spell_out_windows(query)
    if query.find(exp.Lambda, exp.Dot) is not None:
        query = _name_columns(query)
    # SQLMesh has qualified it, unless the columns of some table are not known.
    if any(not column.table for column in query.find_all(exp.Column)) or any(
        not isinstance(star.parent, exp.Count) for star in query.find_all(exp.Star)
    ):
        query = qualify(
            query.copy(),
            dialect=model.dialect,
            schema=normalize_mapping_schema(model.mapping_schema, dialect=model.dialect),
            validate_qualify_columns=False,
            infer_schema=True,
        )
    if any(part.args.get("by_name") for part in query.find_all(exp.SetOperation)):
        query = query.copy()
        _place_by_name(query)
    return query


def _depends_on_the_run(query: exp.Expr) -> bool:
    """True when an @IF or an if of Jinja looks at what only a run can tell."""
    conditions = [f.sql("duckdb") for f in query.find_all(MacroFunc) if f.name.upper() == "IF"]
    for jinja in query.find_all(Jinja):
        text = " ".join(str(part) for part in (jinja.name, *jinja.expressions))
        conditions += re.findall(r"{[{%][^{}]*\bif\b[^{}]*[%}]}", text)
    return any(_OF_A_RUN.search(condition) for condition in conditions)


def asks_by_text(part: exp.Expr) -> bool:
    """True for QUERY and QUERY_TABLE, which name tables in a text."""
    return isinstance(part, exp.Anonymous) and part.name.upper() in ("QUERY", "QUERY_TABLE")


def _not_followed(part: exp.Expr) -> str:
    """What is no use to follow, in words; empty for what can be."""
    if isinstance(part, OPAQUE):
        return part.key.upper()
    if isinstance(part, exp.Star) and not isinstance(
        part.parent, exp.Select | exp.Column | exp.Count
    ):
        return "a star in an expression"
    if isinstance(part, exp.Join) and part.method.upper() == "NATURAL":
        return "NATURAL JOIN"
    if asks_by_text(part):
        return part.name.upper()
    if isinstance(part, exp.Table) and part.name and part.alias_column_names:
        return "a table whose columns are named anew"
    if isinstance(part, exp.Table) and not part.name and part.find(exp.Select):
        return "a query in a table function"
    return ""


def _name_columns(query: exp.Expr) -> exp.Expr:
    """Write as columns what sqlglot takes for something else, in a copy.

    In `f(data -> 'a')` that is the parameter of a lambda, in `name.upper()` a bare name.
    """
    query = query.copy()
    for arrow in [part for part in query.find_all(exp.Lambda) if not _is_lambda(part)]:
        columns = [exp.column(name.copy()) for name in arrow.expressions]
        arrow.replace(exp.Tuple(expressions=[*columns, arrow.this]))
    for chain in [part for part in query.find_all(exp.Dot) if _is_chain(part)]:
        if isinstance(chain.expression, exp.Identifier):  # table.column.function()
            chain.replace(exp.column(chain.expression, table=chain.this))
        else:
            chain.set("this", exp.column(chain.this))
    return query


def _is_lambda(part: exp.Lambda) -> bool:
    """False for the arrow of JSON: what stands before it is not used after it."""
    names = {name.name for name in part.expressions}
    return bool(part.args.get("colon")) or any(
        found.name in names for found in part.this.find_all(exp.Identifier)
    )


def _is_chain(part: exp.Dot) -> bool:
    """True where a chain of names begins, but for one that begins with a lambda's parameter."""
    around = part.find_ancestor(exp.Lambda)
    while around is not None and part.this.name not in {n.name for n in around.expressions}:
        around = around.find_ancestor(exp.Lambda)
    return isinstance(part.this, exp.Identifier) and around is None


def _spell_out_windows(query: exp.Expr) -> None:
    """Write named windows (WINDOW w AS …) where they are used: their columns count there."""
    for select in query.find_all(exp.Select):
        named = {w.name.lower(): w for w in select.args.get("windows") or ()}
        for window in select.find_all(exp.Window) if named else ():
            meant = named.get(window.alias.lower()) if window.args.get("alias") else None
            if meant is not None and meant is not window:
                for part in ("partition_by", "order", "spec"):
                    if not window.args.get(part) and meant.args.get(part):
                        value = meant.args[part]
                        window.set(
                            part,
                            [v.copy() for v in value] if isinstance(value, list) else value.copy(),
                        )
                window.set("alias", None)


def _place_by_name(query: exp.Expr) -> None:
    """Write UNION BY NAME as a union by place, which is all that sqlglot follows.

    Raises:
        SqlglotError: a branch is a star or a union by place.
    """
    for union in list(query.find_all(exp.SetOperation)):
        if union.args.get("by_name") and not _branch_of(union):
            branches = list(_branches(union))
            names = dict.fromkeys(name for b in branches for name in b.named_selects)
            for branch in branches:
                own = {e.alias_or_name: e for e in branch.expressions}
                branch.set("expressions", [own.get(n) or exp.alias_(exp.null(), n) for n in names])


def _branch_of(query: exp.Expr) -> bool:
    parent = query.parent
    while isinstance(parent, exp.Subquery):
        parent = parent.parent
    return isinstance(parent, exp.SetOperation) and bool(parent.args.get("by_name"))


def _branches(query: exp.Expr) -> Iterator[exp.Select]:
    if isinstance(query, exp.SetOperation) and query.args.get("by_name"):
        yield from _branches(query.this)
        yield from _branches(query.expression)
    elif isinstance(query, exp.Subquery):
        yield from _branches(query.this)
    elif isinstance(query, exp.Select) and not query.is_star:
        yield query
    else:
        raise SqlglotError("BY NAME is not followed here")
