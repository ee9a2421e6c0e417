"""Finds what a name means, and follows it up to the fields of the API or down to the targets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from etl.api_fields import ApiFields
from etl.errors import ConfigError
from etl.project.engine import read_models
from etl.project.lineage import ColumnLineage
from etl.project.origins import ROWS, UNKNOWN
from etl.settings import Settings

Kind = Literal["api", "raw", "model", "target"]
Direction = Literal["upstream", "downstream"]


@dataclass(frozen=True)
class Node:
    """A column of a table, or a field of an API: then the endpoint is the table, the path the
    column. The column `*` are the table's rows, `?` is one that cannot be told.
    """

    table: str
    column: str
    kind: Kind
    type: str = field(default="", compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Unique in an answer."""
        return f"{self.kind}:{self.table}:{self.column}"


@dataclass(frozen=True)
class Answer:
    """What was asked for, and every node and edge from there in one direction.

    Edges point as data flows: from the API to the targets.
    """

    name: str
    direction: Direction
    asked: tuple[Node, ...]
    edges: tuple[tuple[Node, Node], ...]
    hint: str = ""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, those that were asked for first."""
        return tuple(dict.fromkeys([*self.asked, *(n for edge in self.edges for n in edge)]))

    def next_to(self, node: Node) -> tuple[Node, ...]:
        """One step from the node, in the direction that was asked for."""
        return tuple(self._steps.get(node, ()))

    @cached_property
    def _steps(self) -> dict[Node, list[Node]]:
        steps: dict[Node, list[Node]] = {}
        for source, target in self.edges:
            start, end = (target, source) if self.direction == "upstream" else (source, target)
            steps.setdefault(start, []).append(end)
        return steps


def find_lineage(settings: Settings, name: str, direction: Direction | None = None) -> Answer:
    """The lineage of a table or column; by default upstream of models, downstream of raw tables.

    Raises:
        ConfigError: there is no such model, raw table or column; the nearest name is in the hint.
        TransformError: a model does not parse.
    """
    with read_models(settings) as models:
        return Finder(settings, ColumnLineage(models), ApiFields(settings)).answer(name, direction)


class Finder:
    """Follows columns through API, raw, models and targets."""

    def __init__(self, settings: Settings, lineage: ColumnLineage, fields: ApiFields) -> None:
        self._settings = settings
        self._lineage = lineage
        self._fields = fields
        self._types: dict[str, dict[str, str]] = {}

    def answer(self, name: str, direction: Direction | None = None) -> Answer:
        """See `find_lineage`."""
        table, column = self._resolve(name)
        is_model = self._lineage.is_model(table)
        direction = direction or ("upstream" if is_model else "downstream")
        up = direction == "upstream"
        columns = [column] if column else [*self._columns(table)] or [UNKNOWN]
        asked = tuple(self._node(table, c) for c in columns)
        edges: dict[tuple[Node, Node], None] = {}
        todo, seen = list(asked), set(asked)
        while todo:
            node = todo.pop(0)
            for other in self._parents(node, node in asked) if up else self._children(node):
                edges[(other, node) if up else (node, other)] = None
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        hint = "" if column else f"which rows it has, and why: etl lineage '{table}.*'"
        return Answer(name, direction, asked, tuple(edges), hint)

    # -- names -----------------------------------------------------------------------------

    def _resolve(self, name: str) -> tuple[str, str]:
        """(table, column); no column when a whole table is meant."""
        tables = {t: t for t in (*self._lineage.tables, *self._fields.tables)}
        table = _pick(name, tables)
        if table:
            return table, ""
        head, dot, last = name.rpartition(".")
        table = _pick(head, tables) if dot else ""
        if not table:
            raise ConfigError(
                f"no such model, raw table or column: {name}{_nearest([name, head], tables)}",
                hint="a model or raw table by its name, then perhaps .column: marts.orders.amount",
            )
        columns = self._columns(table)
        column = last if last == ROWS else _pick(last, columns)
        if not column:
            near = _nearest([last], columns)
            raise ConfigError(
                f"{table} has no column {last}{near}", hint=f"its columns: {', '.join(columns)}"
            )
        return table, column

    def _columns(self, table: str) -> dict[str, str]:
        """Columns with types; of a raw table also those that no model declares."""
        if table not in self._types:
            recorded = dict.fromkeys(self._fields.tables.get(table, ()), "")
            self._types[table] = self._lineage.columns(table) | {
                c: t for c, t in recorded.items() if c not in self._lineage.columns(table)
            }
        return self._types[table]

    # -- steps -----------------------------------------------------------------------------

    def _node(self, table: str, column: str) -> Node:
        kind: Kind = "model" if self._lineage.is_model(table) else "raw"
        note = self._lineage.origin(table, column).note if kind == "model" else ""
        if kind == "raw" and column != UNKNOWN:
            found = self._fields.find(table, column)
            note = "; ".join(f.note for f in found if f.note)
            if not found:
                ours = table.partition(".")[0] in self._fields.datasets
                note = "no API field recorded yet" if ours else "loaded by no source of this job"
        return Node(table, column, kind, self._columns(table).get(column, ""), note)

    def _parents(self, node: Node, is_asked: bool) -> Iterable[Node]:
        """One step up. Rows that were not asked for are followed to rows alone."""
        if node.kind == "model":
            for table, column in self._lineage.origin(node.table, node.column).columns:
                if node.column != ROWS or is_asked or column == ROWS:
                    yield self._node(table, column)
        elif node.kind == "raw":
            for found in self._fields.find(node.table, node.column):
                if found.path:
                    yield Node(found.endpoint, found.path, "api")

    def _children(self, node: Node) -> Iterable[Node]:
        if node.kind not in ("raw", "model"):
            return
        for table, column in self._lineage.readers(node.table, node.column):
            yield self._node(table, column)
        for load in self._settings.loads:
            if load.model == node.table:
                yield Node(f"{load.target}: {load.target_table}", node.column, "target", node.type)


def _pick(name: str, known: Iterable[str]) -> str:
    """The known name that is meant, whatever its case; empty when there is none."""
    names = list(known)
    if name in names:
        return name
    return next((n for n in names if n.casefold() == name.casefold()), "")


def _nearest(names: Iterable[str], known: Iterable[str]) -> str:
    everything = list(known)
    for name in names:
        if near := difflib.get_close_matches(name, everything, 1):
            return f"; did you mean {near[0]}?"
    return ""
