"""Finds models that break the promise: they would lose what stands, double rows or miss some."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime
from itertools import islice, pairwise

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope
from sqlmesh.core.constants import SQLMESH
from sqlmesh.core.model import IncrementalUnmanagedKind, Model, PythonModel, SqlModel
from sqlmesh.utils.date import to_datetime

from etl.errors import TransformError
from etl.project.environment import Project
from etl.project.graph import Graph
from etl.project.listener import bare_name
from etl.project.windows import find_cut_window

# Settings of the one connection by which values, rows or names become others.
_SETTING = re.compile(
    r"USE\b|(SET|RESET|PRAGMA)\s+((GLOBAL|SESSION|LOCAL)\s+)?\W?(timezone|calendar|schema|search_path"
    r"|default_null_order|null_order|default_order|integer_division|ieee_floating_point_ops"
    r"|old_implicit_casting|scalar_subquery_error_on_multiple_rows)\b",
    re.IGNORECASE,
)

_DAYS = [date(2026, 1, 31), date(2026, 2, 1), date(2026, 10, 1), date(2027, 1, 2)]
_SECONDS = {"DAY": 86_400, "WEEK": 604_800, "MONTH": 2_419_200, "QUARTER": 7e6, "YEAR": 3e7}
_INSTANT = re.compile(r"@start_(ts|tstz|dt|dtntz|epoch|millis|hour)\b")


def find_unfit(
    project: Project, connection: duckdb.DuckDBPyConnection, now: datetime
) -> dict[str, TransformError]:
    """By name the models that must not be planned, each with what it would do."""
    tables = {
        f"{schema}.{table}".lower()
        for schema, table in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
        ).fetchall()
    }
    gone = project.gone_names()
    return {
        name: TransformError(f"{name}: {what}", subject=name, hint=hint)
        for name in sorted(project.graph.names)
        for what, hint in islice(_faults(project.graph, name, tables, gone, now), 1)
    }


def _faults(
    graph: Graph, name: str, tables: set[str], gone: set[str], now: datetime
) -> Iterator[tuple[str, str]]:
    """What is wrong with a model, each with what helps."""
    model = graph.models[name]
    if name != name.lower():
        # It would read others as they were, and what it is below or counted against is not found.
        yield (
            f"the dialect {model.dialect} writes names in capitals, and those of raw are not",
            f"write dialect '{model.dialect}, normalization_strategy=lowercase'",
        )
    if name.lower() in tables:
        # SQLMesh drops a table that stands where a view of its own belongs.
        yield (
            "a table of that name stands in the warehouse, and would be lost",
            "give the model another name",
        )
    for other in sorted(gone & graph.unmade(name)):
        # SQLMesh refuses the whole plan.
        yield (
            f"it reads {other}, which is in no file any more",
            f"bring {other} back, or read another",
        )
    if model.start and to_datetime(model.start) > now:
        # SQLMesh makes no table, and breaks when it shows it.
        yield (
            f"its start {model.start} is to come",
            "take it out until then, or let it start earlier",
        )
    if unseen := _reads_unseen(model, graph.names):
        yield (
            f"it reads {unseen} unseen by SQLMesh: as it was before this run, audited or not",
            "read a model by its name, and add it to `depends_on`",
        )
    for audit in model.audit_definitions.values():
        compared = {f"{t.db}.{t.name}" for t in audit.query.find_all(exp.Table)} & graph.names
        for other in sorted(compared - graph.with_upstream({name}) if compared else ()):
            yield (
                f"its audit {audit.name} reads {other}, which may be evaluated after it",
                f"add {other} to `depends_on`, or let the audit stand alone (`standalone TRUE`)",
            )
    yield from _own_faults(model, name)


def _own_faults(model: Model, name: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a model whatever stands around it."""
    if _doubles(model):
        yield (
            "it appends its rows again in each run of a day, and after each failure",
            "make it INCREMENTAL_BY_UNIQUE_KEY, or let it read itself and leave out what it has",
        )
    for statement in (*model.pre_statements, *model.post_statements, *model.on_virtual_update):
        if setting := _SETTING.match(statement.sql("duckdb")):
            yield (
                f"{setting[0]} in it holds for all models after it",
                "say it in the query: AT TIME ZONE, schema.name, NULLS FIRST",
            )
    if misplaced := _misplaced(model):
        yield (
            f"rows would go when another interval is evaluated: {misplaced}",
            "let its time column be the instant, as _loaded_at is; or make it FULL",
        )
    if function := find_cut_window(model):
        yield (
            f"the window of {function} sees the rows of one interval alone, not those before it",
            "read as far back as it needs and filter around it, or PARTITION BY the time as well",
        )
    if column := _misread(model):
        yield (
            f"SQLMesh takes {column}, in a subquery of itself, for a column of the query around it",
            f"name its table: {name.rpartition('.')[2]}.{column}",
        )


def _doubles(model: Model) -> bool:
    """True for a model that only appends, and does nothing about what it has."""
    return (
        isinstance(model, SqlModel)
        and isinstance(model.kind, IncrementalUnmanagedKind)
        and not model.kind.insert_overwrite
        and not model.depends_on_self
        and not model.pre_statements
    )


def _reads_unseen(model: Model, names: set[str]) -> str:
    """A model that this one reads without depending on it, or its table; empty for none."""
    known = {bare_name(d) for d in model.depends_on} | {bare_name(model.fqn)}
    tables = [t for s in model.pre_statements for t in s.find_all(exp.Table)]
    read = {f"{t.db}.{t.name}" for t in tables}
    if isinstance(model, PythonModel):
        # The code of the model and of what it calls, without comments.
        code = "\n".join(e.payload for e in model.python_env.values())
        read |= {n for n in names if re.search(rf"(?<![\w.]){re.escape(n)}(?![\w.])", code)}
    physical = {n for n in known | read if n.startswith(f"{SQLMESH}__")}
    return min((read & names - known) | physical, default="")


def _misplaced(model: Model) -> str:
    """What is wrong with a time column: SQLMesh replaces, and keeps, the rows between two values.

    Empty when they are those of the interval.
    """
    if not isinstance(model, SqlModel) or (time := model.time_column) is None:
        return ""
    name, query, form = time.column.name, model.query, time.format or "%Y-%m-%d"
    kind = (model.columns_to_types or {}).get(name) or exp.DataType.build("unknown")
    is_text = kind.is_type(*exp.DataType.TEXT_TYPES)
    for day, later in pairwise(d.strftime(form) for d in _DAYS) if is_text else ():
        if later < day:
            return f"as text, {later} is before {day}"
    is_day = kind.is_type("date") or (is_text and "%H" not in form)
    if is_day and model.interval_unit.seconds < 86_400 and _INSTANT.search(query.sql()):
        return f"{name} is a day, and its query asks for the hours of one"
    for column in query.selects if isinstance(query, exp.Query) else ():
        cut = column.unalias()
        cut = cut.this if isinstance(cut, exp.Cast) else cut
        if column.alias_or_name == name and isinstance(cut, exp.TimestampTrunc | exp.DateTrunc):
            unit = cut.args["unit"].name.upper()
            if model.interval_unit.seconds < _SECONDS.get(unit, 0):
                return f"{name} is the first of a {unit.lower()}, and its intervals are shorter"
    return ""


def _misread(model: Model) -> str:
    """A column of the model that SQLMesh would read from elsewhere; empty when there is none.

    It does not know what a model that reads itself has, and names the table of each column.
    """
    if not isinstance(model, SqlModel) or not model.depends_on_self:
        return ""
    own, itself = model.columns_to_types or {}, bare_name(model.fqn)
    with suppress(SqlglotError):  # SQLMesh leaves such a query as it is
        for scope in traverse_scope(model.query):
            tables = [s for s in scope.sources.values() if isinstance(s, exp.Table)]
            if scope.is_subquery and any(f"{t.db}.{t.name}" == itself for t in tables):
                for column in scope.columns:
                    if not column.table and column.name in own:
                        return str(column.name)
    return ""
