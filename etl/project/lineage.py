"""Column-level lineage: which columns feed which, over all models, found when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp
from sqlmesh.core.model import Model

from etl.project.listener import bare_name
from etl.project.origins import ROWS, UNKNOWN, Column, Origin, read_origins, tables_read


class ColumnLineage:
    """The lineage between the columns of models and of the tables that they read.

    A model's SQL is looked into once, and only when an answer needs it. Every table has a column
    `*` beside its own: its rows. They come from the rows of the tables that are read, and from the
    columns that decide which rows there are (WHERE, JOIN, GROUP BY, QUALIFY and so on). What counts
    rows reads `*`.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self._models: dict[str, Model] = {bare_name(m.fqn): m for m in models}
        self._readers: dict[str, set[str]] = {}
        for name, model in self._models.items():
            for table in tables_read(model, self._models):
                self._readers.setdefault(table, set()).add(name)
        self._origins: dict[str, dict[str, Origin]] = {}
        self._fed: dict[str, dict[Column, set[Column]]] = {}

    @property
    def tables(self) -> set[str]:
        """Every model, and every table that models read."""
        return {*self._models, *self._readers}

    def is_model(self, table: str) -> bool:
        """True for what SQLMesh builds, false for what it finds."""
        model = self._models.get(table)
        return model is not None and not model.kind.is_external

    def columns(self, table: str) -> dict[str, str]:
        """The table's columns with their types, in its own order; an unknown type is empty.

        Of a table that is described nowhere: what models read of it.
        """
        model = self._models.get(table)
        known = {
            name: "" if t.is_type(exp.DataType.Type.UNKNOWN) else t.sql(dialect="duckdb")
            for name, t in ((model.columns_to_types if model is not None else None) or {}).items()
        }
        if known or self.is_model(table):
            return known
        return dict.fromkeys(sorted(self._columns_read(table) - {ROWS, UNKNOWN}), "")

    def origin(self, table: str, column: str) -> Origin:
        """What the column is made of, one step up; nothing for a table that no model builds."""
        found = self._look_into(table)
        # Of a `SELECT *` that cannot be spelled out, any column may be one that it brings.
        return found.get(column) or found.get(UNKNOWN, Origin())

    def readers(self, table: str, column: str) -> tuple[Column, ...]:
        """The columns of models that are made of this one, one step down.

        Those of which it can only be told that they read the table are among them.
        """
        found: set[Column] = set()
        for reader in self._readers.get(table, ()):
            fed = self._fed_by(reader)
            found |= fed.get((table, column), set())
            if column == UNKNOWN:
                found |= {c for t, name in fed if t == table for c in fed[t, name] if name != ROWS}
            elif column != ROWS:
                found |= fed.get((table, UNKNOWN), set())
        return tuple(sorted(found))

    def downstream(self, table: str, column: str | None = None) -> tuple[Column, ...]:
        """(model, column) of all that this column feeds, at any distance; sorted.

        Without a column: all that the table feeds. (model, "*") says that the column decides about
        rows of the model; a value that is made of it stands there by its own name.
        """
        todo = [(table, column)] if column is not None else []
        if column is None:
            todo = [(table, c) for c in {*self.columns(table), *self._columns_read(table), ROWS}]
        found: set[Column] = set()
        while todo:
            new = set(self.readers(*todo.pop())) - found
            found |= new
            todo += new
        return tuple(sorted(found))

    def _columns_read(self, table: str) -> set[str]:
        readers = self._readers.get(table, ())
        return {c for r in readers for t, c in self._fed_by(r) if t == table}

    def _fed_by(self, reader: str) -> dict[Column, set[Column]]:
        """What a model reads, each with the columns of the model that it feeds."""
        if reader not in self._fed:
            fed = self._fed[reader] = {}
            for column, origin in self._look_into(reader).items():
                for source in origin.columns:
                    fed.setdefault(source, set()).add((reader, column))
        return self._fed[reader]

    def _look_into(self, table: str) -> dict[str, Origin]:
        if table not in self._origins:
            model = self._models.get(table)
            self._origins[table] = read_origins(model, self._models) if model is not None else {}
        return self._origins[table]
