"""One transaction at a SQL Server, as a load needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from etl.targets.comparison import Changes
from etl.targets.mssql import tables
from etl.targets.mssql.columns import Column
from etl.targets.mssql.refusals import refused_row
from etl.targets.mssql.server import Connection, fetch_one, write
from etl.targets.mssql.staging import stage
from etl.targets.mssql.statements import Statements
from etl.targets.publication import Publication
from etl.targets.server.applying import apply, reconcile
from etl.targets.server.refusals import refuse_reference
from etl.targets.server.session import (
    ABOUT_MARKS,
    MARKS,
    Change,
    Delivery,
    Found,
    Mark,
    Session,
    Staged,
    Table,
    Versions,
)


class MssqlSession(Session[Column]):
    """See `Session`, also for what says nothing of itself here.

    A mark says which publication a table holds, and the number and the sum of its rows' versions at
    that time: whoever changes a row afterwards changes one of the two. No table is filled without
    staging: values get their final type there. Nothing is left for the commit.
    """

    _connection: Connection

    def __init__(self, connection: Connection, target: str) -> None:
        super().__init__(connection, target)
        self._columns: dict[Table, tuple[Column, ...]] = {}
        self._versions: dict[Table, str | None] = {}
        # Of each table that was found: the next row's stamp, and how many rows it had.
        self._stamps: dict[Table, int] = {}
        self._rows: dict[Table, int] = {}
        self._has_changed = False

    def find(self, table: Table, columns: tuple[Column, ...]) -> Found:
        """Look at the table; its writers wait from the first look at its versions on."""
        self._columns[table] = columns
        present = tables.find(self._connection, table, self._target)
        self._stamps[table] = tables.read_stamp(self._connection)
        if present is None:
            return Found(is_new=True, is_narrow=True)
        version = self._versions[table] = tables.version_column(present)
        lacking = tables.lacking(present, columns)
        numbers = tuple(present[c.name].number for c in columns if c not in lacking)
        is_narrow = version is None or bool(lacking)
        return Found(is_new=False, is_narrow=is_narrow, numbers=numbers)

    @contextmanager
    def counting(self, table: Table) -> Iterator[Callable[[], Versions]]:
        """Rows and the sum of their `rowversion`; the driver waits for the server's answer."""
        found = self._read_versions(table)
        self._rows[table] = found.rows
        yield lambda: found

    def stage(self, delivery: Delivery[Column]) -> Staged[Column]:
        return stage(self._connection, delivery)

    def prepare(self, table: Table, columns: tuple[Column, ...], about: dict[str, str]) -> None:
        tables.prepare(self._connection, table, columns, about, self._target)
        self._versions[table] = tables.version_column(self._present(table))

    def apply(self, change: Change[Column], *, is_new: bool) -> Changes:
        import pyodbc

        if not (change.publication.key or is_new):
            refuse_reference(
                change, tables.find_reference(self._connection, change.table), self._target
            )
        savepoint = "etl_change"
        present = self._present(change.table)
        self._connection.execute(f"SAVE TRANSACTION {savepoint}")
        try:
            changes = apply(Statements(change), self._write, self._fetch_one, is_new=is_new)
            self.add_indexes(change.table, change.publication)
        except pyodbc.Error as error:
            try:
                self._connection.execute(f"ROLLBACK TRANSACTION {savepoint}")
                is_open = True
            except pyodbc.Error:  # what fails in a trigger ends the whole transaction, for one
                is_open = False
            raise refused_row(
                self._connection, error, change, present, self._target, is_open=is_open
            ) from error
        self._has_changed |= changes != Changes()
        return changes

    def add_indexes(self, table: Table, publication: Publication) -> None:
        columns = self._columns[table]
        tables.add_indexes(self._connection, table, publication, columns, self._target)

    def did_more(self, table: Table, changes: Changes) -> bool:
        """By the rows that were stamped since the table was found, and their number."""
        if not self._has_changed:
            return False
        version = self._versions[table]
        rows, fresh = tables.count_fresh(self._connection, table, version, self._stamps[table])
        told = self._rows.get(table, 0) + changes.inserted - changes.deleted
        return (rows, fresh) != (told, changes.inserted + changes.updated)

    def reconcile(self, change: Change[Column], expected: int) -> Versions:
        """Compare table and staged rows; all of the table's rows are counted again."""
        after = self._read_versions(change.table)
        reconcile(Statements(change), self._fetch_one, expected, after.rows, self._target)
        return after

    def count(self, table: Table) -> int:
        if tables.find(self._connection, table, self._target) is None:
            return 0
        return int(self._fetch_one(f"SELECT COUNT_BIG(*) FROM {table.sql}")[0])

    def create_marks(self, schema: str) -> Table:
        marks = Table(schema, MARKS)
        if tables.find(self._connection, marks, self._target) is None:
            tables.create_schema(self._connection, schema)
            self._connection.execute(
                f"CREATE TABLE {marks.sql} (table_name nvarchar(300) NOT NULL PRIMARY KEY, model "
                'nvarchar(300) NOT NULL, publication_id nvarchar(32) NOT NULL, "rows" bigint NOT '
                "NULL, versions decimal(38,0) NOT NULL, published_at datetimeoffset(6) NOT NULL)"
            )
            tables.comment_on(self._connection, marks, None, ABOUT_MARKS)
        return marks

    def read_mark(self, marks: Table, table: Table) -> Mark | None:
        """A second job waits here for the first."""
        row = self._connection.execute(
            f'SELECT publication_id, "rows", versions FROM {marks.sql} WITH (UPDLOCK, HOLDLOCK) '
            "WHERE table_name = ?",
            table.plain,
        ).fetchone()
        return Mark(str(row[0]), Versions(int(row[1]), int(row[2]))) if row else None

    def write_mark(self, marks: Table, table: Table, model: str, mark: Mark) -> None:
        self._connection.execute(f"DELETE FROM {marks.sql} WHERE table_name = ?", table.plain)
        self._connection.execute(
            f'INSERT INTO {marks.sql} (table_name, model, publication_id, "rows", versions, '
            "published_at) VALUES (?, ?, ?, ?, CAST(? AS decimal(38,0)), SYSDATETIMEOFFSET())",
            table.plain, model, mark.publication_id, mark.versions.rows, str(mark.versions.total),
        )  # fmt: skip

    def _read_versions(self, table: Table) -> Versions:
        return tables.read_versions(self._connection, table, self._versions[table])

    def _present(self, table: Table) -> dict[str, tables.Present]:
        return tables.find(self._connection, table, self._target) or {}

    def _write(self, sql: str) -> int:
        return write(self._connection, sql)

    def _fetch_one(self, sql: str) -> tuple[Any, ...]:
        return fetch_one(self._connection, sql)
