"""What each column of one model is made of, read from the model's SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node as Step
from sqlglot.lineage import to_node
from sqlglot.optimizer import Scope, build_scope, find_all_in_scope
from sqlmesh.core.model import Model, PythonModel, SqlModel
from sqlmesh.utils.errors import SQLMeshError

from etl.project.deciding import deciding_parts, names_of
from etl.project.following import OPAQUE, asks_by_text, followable_query
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


def read_origins(model: Model, names: Iterable[str] = ()) -> dict[str, Origin]:
    """The origin of each column of the model and of its rows (`*`).

    Of a model whose SQL cannot be followed every column comes from `?` of every table that the
    model reads, with the reason as its note.

    Args:
        names: see `tables_read`.
    """
    columns = list(model.columns_to_types or {})
    tables = tables_read(model, names)
    if isinstance(model, PythonModel):
        return _untold(tables, columns, "the model is Python")
    if not isinstance(model, SqlModel):
        return dict.fromkeys(columns, Origin(note="seed file")) if model.kind.is_seed else {}
    try:
        return _Query(model).origins(columns)
    except (SQLMeshError, SqlglotError, ValueError, RecursionError) as e:
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        return _untold(tables, columns, reason)


def tables_read(model: Model, names: Iterable[str] = ()) -> set[str]:
    """Every table that the model reads, as `schema.name`.

    SQLMesh looks at queries alone, and finds nothing in the statements PIVOT and SUMMARIZE.
    What statements before and after a query read is among them.

    Args:
        names: tables that Python code, and the text of QUERY and QUERY_TABLE, may mention.
    """
    found = {bare_name(table) for table in model.depends_on}
    text = ""
    if isinstance(model, PythonModel):
        text = "\n".join(e.payload for e in model.python_env.values())
    elif isinstance(model, SqlModel):
        unseen = [*model.query.find_all(*OPAQUE), *model.pre_statements, *model.post_statements]
        tables = [table for part in unseen for table in part.find_all(exp.Table) if table.db]
        found |= {_table_name(table).lower() for table in tables}
        text = "\n".join(
            f.sql("duckdb") for f in model.query.find_all(exp.Anonymous) if asks_by_text(f)
        )
    if text:
        found |= {n for n in names if re.search(rf"(?<![\w.]){re.escape(n)}(?![\w.])", text)}
    return found


def _untold(tables: Iterable[str], columns: list[str], reason: str) -> dict[str, Origin]:
    tables = sorted(tables)
    origin = Origin(tuple((t, UNKNOWN) for t in tables), f"cannot be told: {reason}")
    rows = Origin(tuple((t, c) for t in tables for c in (ROWS, UNKNOWN)), origin.note)
    return dict.fromkeys(columns or [UNKNOWN], origin) | {ROWS: rows}


class _Query:
    """The query of one model, rendered and qualified, with what was found out about it so far."""

    def __init__(self, model: SqlModel) -> None:
        self._dialect = model.dialect
        query = followable_query(model)
        scope = build_scope(query)
        if scope is None:
            raise SqlglotError("the query is no SELECT")
        self._scope = scope
        self._scopes = {id(s.expression): s for s in scope.traverse()}
        self._managed = set(model.managed_columns)
        self._keys = set(_keys(model))
        self._after = set(_read_after(model))
        self._steps: dict[tuple[Any, ...], Step] = {}
        self._selects: dict[int, tuple[bool, dict[str, exp.Expr]]] = {}

    def origins(self, columns: list[str]) -> dict[str, Origin]:
        """The origin of each output column and of the rows."""
        query = self._scope.expression
        selected = names_of(query)
        found = {}
        # A star that no schema spells out: what it brings beside the known columns is not known.
        for name in dict.fromkeys([*selected, *columns]):
            if name in selected or name not in self._managed:
                found[UNKNOWN if name == "*" else name] = self._origin(name)
        wanted = found if ROWS in self._keys else self._keys & {*found}
        keys = {column for name in wanted for column in found[name].columns}
        written = Origin(tuple(sorted(keys)), "written by SQLMesh")
        found |= dict.fromkeys(sorted(self._managed - {*found}), written)
        return found | {ROWS: Origin(tuple(sorted(self._rows() | keys | self._after)))}

    def _origin(self, column: str) -> Origin:
        sources, constants = self._follow(column, self._scope)
        note = f"constant {', '.join(sorted(constants))}" if constants else ""
        if any(c == UNKNOWN for _, c in sources):
            note = "cannot be told: the columns of a table or a function are not known"
        return Origin(tuple(sorted(sources)), note)

    def _rows(self) -> set[Column]:
        """Rows come from the rows of the tables and from the columns that decide about them."""
        found: set[Column] = set(self._tables(self._scope))
        for scope in self._scopes.values():
            for part in deciding_parts(scope):
                found |= self._columns_in(part, scope)
            found |= self._tables(scope)
        return found

    def _columns_in(self, part: exp.Expr, scope: Scope) -> set[Column]:
        found: set[Column] = set()
        for column in find_all_in_scope(part, exp.Column):
            source = _source_of(column, scope)
            if isinstance(source, exp.Table) and not _is_made_up(source):
                found.add((_table_name(source), column.name))
            elif isinstance(source, Scope):
                found |= self._follow(column.name, source)[0]
            elif not column.table and column.name in names_of(scope.expression):
                found |= self._follow(column.name, scope)[0]
            elif not column.table:
                found |= {(table, UNKNOWN) for table, _ in self._tables(scope)}
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
            counted = self._counted(step) | self._asked(step)
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

    def _asked(self, step: Step) -> set[Column]:
        """What decides about the rows of a subquery decides about the value that it gives."""
        found: set[Column] = set()
        for query in find_all_in_scope(step.expression, *exp.UNWRAPPED_QUERIES):
            scope = self._scopes.get(id(query))
            for inner in scope.traverse() if scope is not None else ():
                for part in deciding_parts(inner):
                    found |= self._columns_in(part, inner)
            if scope is not None and isinstance(query.parent, exp.Exists):
                found |= self._tables(scope)
        return found

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


def _shorten(expression: exp.Expr, dialect: str) -> str:
    text = " ".join(expression.unalias().sql(dialect=dialect, comments=False).split())
    return text if len(text) <= 60 else text[:59] + "…"


def _keys(model: SqlModel) -> Iterator[str]:
    """The columns by which SQLMesh itself merges rows, leaves them out or dates them; or `*`."""
    kind = model.kind
    parts: list[Any] = [*model.unique_key, model.time_column.column if model.time_column else None]
    parts += [getattr(kind, n, None) for n in ("updated_at_name", "when_matched", "merge_filter")]
    compared = getattr(kind, "columns", None) or ()
    parts += compared if isinstance(compared, list) else [compared]
    if kind.is_incremental_by_partition:
        parts += model.partitioned_by
    for part in parts:
        for found in part.find_all(exp.Column, exp.Star) if isinstance(part, exp.Expr) else ():
            yield found.name or ROWS


def _read_after(model: SqlModel) -> Iterator[Column]:
    """What the statements after the query read: they may delete rows.

    They are not qualified, so a column may be any of their tables'.
    """
    for statement in model.post_statements:
        names = {UNKNOWN if c.is_star else c.name for c in statement.find_all(exp.Column, exp.Star)}
        for table in statement.find_all(exp.Table):
            if table.db:
                yield from ((_table_name(table).lower(), name) for name in {ROWS, *names})


def _table_name(table: exp.Table) -> str:
    if table.name:
        return f"{table.db}.{table.name}" if table.db else table.name
    return str(table.this.sql(dialect="duckdb"))[:80]
