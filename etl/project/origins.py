"""What each column of one model is made of, read from the model's SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node as Step
from sqlglot.lineage import to_node
from sqlglot.optimizer import Scope, build_scope, find_all_in_scope
from sqlglot.optimizer.qualify import qualify
from sqlmesh.core.dialect import normalize_mapping_schema
from sqlmesh.core.model import Model, PythonModel, SqlModel
from sqlmesh.utils.errors import SQLMeshError

from etl.project.listener import bare_name

# In place of a column's name: the rows of the table (which there are, how many), and "some columns
# of it, and it cannot be told which".
ROWS = "*"
UNKNOWN = "?"

Column = tuple[str, str]  # (table, column), the table as `schema.name`


@dataclass(frozen=True)
class Origin:
    """What a column is made of: columns of other tables, and a note on what is none of them."""

    columns: tuple[Column, ...] = ()
    note: str = ""


def read_origins(model: Model) -> dict[str, Origin]:
    """The origin of each column of the model and of its rows (`*`).

    Of a model whose SQL cannot be followed every column comes from `?` of every table that the
    model reads, with the reason as its note.
    """
    columns = list(model.columns_to_types or {})
    if isinstance(model, PythonModel):
        return _untold(model, columns, "the model is Python")
    if not isinstance(model, SqlModel):
        return dict.fromkeys(columns, Origin(note="seed file")) if model.kind.is_seed else {}
    try:
        return _Query(model).origins(columns)
    except (SQLMeshError, SqlglotError, ValueError, RecursionError) as e:
        return _untold(model, columns, (str(e).strip() or type(e).__name__).splitlines()[0][:200])


def _untold(model: Model, columns: list[str], reason: str) -> dict[str, Origin]:
    tables = sorted(bare_name(table) for table in model.depends_on)
    origin = Origin(tuple((t, UNKNOWN) for t in tables), f"cannot be told: {reason}")
    rows = Origin(tuple((t, c) for t in tables for c in (ROWS, UNKNOWN)), origin.note)
    return dict.fromkeys(columns or [UNKNOWN], origin) | {ROWS: rows}


class _Query:
    """The query of one model, rendered and qualified, with what was found out about it so far."""

    def __init__(self, model: SqlModel) -> None:
        self._dialect = model.dialect
        query: exp.Expr = model.render_query_or_raise()
        if (found := query.find(exp.Pivot, exp.Columns)) is not None:
            raise SqlglotError(f"{found.key.upper()} is not followed")
        if any(select.args.get("windows") for select in query.find_all(exp.Select)):
            query = query.copy()
            _spell_out_windows(query)
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
        scope = build_scope(query)
        if scope is None:
            raise SqlglotError("the query is no SELECT")
        self._scope = scope
        self._scopes = {id(s.expression): s for s in scope.traverse()}
        self._managed = set(model.managed_columns)
        self._steps: dict[tuple[Any, ...], Step] = {}
        self._selects: dict[int, tuple[bool, dict[str, exp.Expr]]] = {}

    def origins(self, columns: list[str]) -> dict[str, Origin]:
        """The origin of each output column and of the rows."""
        query = self._scope.expression
        selected = query.named_selects if isinstance(query, exp.Query) else []
        found = {}
        # A star that no schema spells out: what it brings beside the known columns is not known.
        for name in dict.fromkeys([*selected, *columns]):
            if name not in selected and name in self._managed:
                found[name] = Origin(note="written by SQLMesh")
            else:
                found[UNKNOWN if name == "*" else name] = self._origin(name)
        return found | {ROWS: self._rows()}

    def _origin(self, column: str) -> Origin:
        sources, constants = self._follow(column, self._scope)
        note = f"constant {', '.join(sorted(constants))}" if constants else ""
        if any(c == UNKNOWN for _, c in sources):
            note = "cannot be told: the columns of a table or a function are not known"
        return Origin(tuple(sorted(sources)), note)

    def _rows(self) -> Origin:
        """Rows come from the rows of the tables and from the columns that decide about them."""
        found: set[Column] = set(self._tables(self._scope))
        for scope in self._scopes.values():
            for part in _deciding(scope):
                found |= self._columns_in(part, scope)
            found |= self._tables(scope)
        return Origin(tuple(sorted(found)))

    def _columns_in(self, part: exp.Expr, scope: Scope) -> set[Column]:
        found: set[Column] = set()
        for column in find_all_in_scope(part, exp.Column):
            source = _source_of(column, scope)
            if isinstance(source, exp.Table) and not _is_made_up(source):
                found.add((_table_name(source), column.name))
            elif isinstance(source, Scope):
                found |= self._follow(column.name, source)[0]
        for query in find_all_in_scope(part, *exp.UNWRAPPED_QUERIES):
            if (inner := self._scopes.get(id(query))) is not None:
                for name in query.named_selects:
                    found |= self._follow(name, inner)[0]
        return found

    def _follow(self, column: str, scope: Scope) -> tuple[set[Column], set[str]]:
        """The columns of tables that a column of a scope is made of, and the constants in it."""
        sources: set[Column] = set()
        constants: set[str] = set()
        first = to_node(
            column, scope, self._dialect, trim_selects=False,
            _cache=self._steps, _scope_meta=self._selects,
        )  # fmt: skip
        for step in first.walk():
            counted = self._counted(step)
            sources |= counted
            if not step.downstream:
                found = self._leaf(step)
                sources |= found
                if not found and not counted:
                    # A column of VALUES has no expression of its own.
                    is_named = isinstance(step.expression, exp.Column | exp.Identifier)
                    shown = step.source if is_named else step.expression
                    constants.add(_shorten(shown, self._dialect))
        return sources, constants

    def _leaf(self, step: Step) -> set[Column]:
        if isinstance(step.expression, exp.Table):
            if _is_made_up(step.expression):
                return set()
            table = _table_name(step.expression)
            if step.name == "*":
                return {(table, UNKNOWN)}
            return {(table, exp.to_column(step.name, dialect=self._dialect).name)}
        if isinstance(step.expression, exp.Placeholder | exp.Star) or step.name == "*":
            return {(table, UNKNOWN) for table, _ in self._tables(self._scope)}
        return set()

    def _counted(self, step: Step) -> set[Column]:
        """The rows that a step counts: COUNT(*), ROW_NUMBER() and what else takes no column."""
        if not any(
            not function.find(exp.Column)
            for function in find_all_in_scope(step.expression, exp.AggFunc, exp.RowNumber)
        ):
            return set()
        scope = self._scopes.get(id(step.source))
        return self._tables(scope) if scope is not None else set()

    def _tables(self, scope: Scope) -> set[Column]:
        """The rows of the tables below a scope."""
        found: set[Column] = set()
        todo, seen = [scope], set()
        while todo:
            here = todo.pop()
            if id(here) in seen:
                continue
            seen.add(id(here))
            todo += [*here.union_scopes, *here.subquery_scopes]
            for source in here.sources.values():
                if isinstance(source, Scope):
                    todo.append(source)
                elif not _is_made_up(source):
                    found.add((_table_name(source), ROWS))
        return found


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


def _deciding(scope: Scope) -> Iterator[exp.Expr]:
    """The parts of a scope that decide which rows it has."""
    query = scope.expression
    if not isinstance(query, exp.Select):
        return
    if query.args.get("distinct") is not None or _is_compared(query):
        yield from query.expressions
    else:
        yield from (e for e in query.expressions if e.find(exp.Explode, exp.Unnest))
    names = ["where", "group", "having", "qualify", "joins", "laterals"]
    if query.args.get("limit") is not None:
        names += ["order", "limit"]
    for name in names:
        part = query.args.get(name)
        yield from part if isinstance(part, list) else [part] if part is not None else []


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


def _source_of(column: exp.Column, scope: Scope | None) -> Scope | exp.Expr | None:
    """Where a column comes from: in this scope, or around it for a correlated subquery."""
    while scope is not None:
        if column.table in scope.sources:
            return scope.sources[column.table]
        scope = scope.parent
    return None


def _is_made_up(table: exp.Expr) -> bool:
    """True for rows that the SQL counts up by itself, a calendar's days: they are no table's."""
    made = table.this
    return isinstance(made, exp.GenerateSeries) and made.find(exp.Column, exp.Select) is None


def _table_name(table: exp.Table) -> str:
    if table.name:
        return f"{table.db}.{table.name}" if table.db else table.name
    return str(table.this.sql(dialect="duckdb"))[:80]


def _shorten(expression: exp.Expr, dialect: str) -> str:
    text = " ".join(expression.unalias().sql(dialect=dialect, comments=False).split())
    return text if len(text) <= 60 else text[:59] + "…"
