"""One transaction at a PostgreSQL server, as a load needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from etl.errors import ReconciliationError
from etl.targets.comparison import Changes
from etl.targets.postgres import tables, versions
from etl.targets.postgres.columns import Column
from etl.targets.postgres.narrowing import changed_by_types, refuse_lost_digits
from etl.targets.postgres.refusals import refused_row, refused_table
from etl.targets.postgres.server import Connection, classify, execute, fetch_one
from etl.targets.postgres.staging import fill, stage
from etl.targets.postgres.statements import Statements
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
from etl.warehouse import literal


class PostgresSession(Session[Column]):
    """See `Session`, also for what says nothing of itself here.

    A mark says which publication a table holds, and a sum of its rows' versions (xmin) at that
    time: whoever changes a row afterwards changes that sum or the number of rows.
    """

    _connection: Connection

    def __init__(self, connection: Connection, target: str) -> None:
        super().__init__(connection, target)
        self._columns: dict[Table, dict[str, int] | None] = {}
        # Of each table: all rows as they were found, and without those that a change is about.
        self._found: dict[Table, Versions] = {}
        self._untouched: dict[Table, Versions] = {}

    def find(self, table: Table, columns: tuple[Column, ...]) -> Found:
        """Look at the table; it is locked against writers."""
        present = tables.find(self._connection, table, self._target, locked=True)
        self._columns[table] = present
        if present is None:
            return Found(is_new=True, is_narrow=True)
        tables.refuse_hidden_rows(self._connection, table, self._target)
        numbers = tuple(present.get(c.name, 0) for c in columns)
        return Found(is_new=False, is_narrow=0 in numbers, numbers=numbers)

    @contextmanager
    def counting(self, table: Table) -> Iterator[Callable[[], Versions]]:
        """Rows and the sum of their xmin; the answer is not waited for before it is asked for."""
        with versions.counting(self._connection, table) as counted:

            def found() -> Versions:
                self._found[table] = counted()
                return self._found[table]

            yield found

    def fill(
        self, delivery: Delivery[Column], publication: Publication, about: dict[str, str]
    ) -> Versions | None:
        """COPY into a new table, unless a column has another type while it is staged."""
        table = delivery.table
        if any(c.staged_type != c.type for c in delivery.columns):
            return None
        self.prepare(table, delivery.columns, about)
        filled = fill(self._connection, delivery)
        try:
            self.add_indexes(table, publication)
        except psycopg.Error as error:
            raise refused_table(error, table.plain, self._target) from error
        return filled

    def stage(self, delivery: Delivery[Column]) -> Staged[Column]:
        return stage(self._connection, delivery)

    def prepare(self, table: Table, columns: tuple[Column, ...], about: dict[str, str]) -> None:
        try:
            # Not looked for again: what somebody else has made meanwhile is not to be filled.
            tables.prepare(self._connection, table, columns, about, self._columns[table])
        except psycopg.Error as error:
            raise classify(error, self._target, f"publishing {table.plain}") from error

    def apply(self, change: Change[Column], *, is_new: bool) -> Changes:
        if not (change.publication.key or is_new):
            refuse_reference(
                change, tables.find_reference(self._connection, change.table), self._target
            )
        try:
            with self._connection.transaction():
                tables.plan_with_pages_at_hand(self._connection, change.table)
                statements = Statements(change)
                if change.difference is not None:
                    touched = Versions()
                    if change.publication.strategy != "append_once":
                        touched = versions.read_staged_versions(self._connection, statements)
                    self._untouched[change.table] = self._found[change.table] - touched
                changes = apply(statements, self._write, self._fetch_one, is_new=is_new)
                self.add_indexes(change.table, change.publication)
                return changes
        except psycopg.Error as error:
            raise refused_row(self._connection, error, change, self._target) from error

    def add_indexes(self, table: Table, publication: Publication) -> None:
        tables.add_indexes(self._connection, table, publication)

    def end_changes(self) -> None:
        """Run the constraints and triggers that were deferred."""
        self._write("SET CONSTRAINTS ALL IMMEDIATE")

    def did_more(self, table: Table, changes: Changes) -> bool:
        """As the server counts what the transaction did."""
        told = changes.inserted + changes.updated + changes.deleted
        is_rebuilt = self._columns[table] is not None and versions.is_rebuilt(
            self._connection, table
        )
        return is_rebuilt or versions.count_writes(self._connection, table) != told

    def reconcile(self, change: Change[Column], expected: int) -> Versions:
        """Compare table and staged rows.

        The table is not read from end to end for the second time where it is known what it had:
        writers waited since then, and the server has counted no writes but those of the change.
        """
        statements = Statements(change)
        if change.difference is not None:
            staged = versions.read_staged_versions(self._connection, statements)
            after = self._untouched[change.table] + staged
        else:
            with versions.counting(self._connection, change.table) as counted:
                after = counted()
        try:
            reconcile(statements, self._fetch_one, expected, after.rows, self._target)
        except ReconciliationError as error:
            raise changed_by_types(self._connection, change, error) from None
        refuse_lost_digits(self._connection, change, self._target)
        return after

    def count(self, table: Table) -> int:
        if tables.find(self._connection, table, self._target) is None:
            return 0
        return int(self._fetch_one(f"SELECT count(*) FROM {table.sql}")[0])

    def create_marks(self, schema: str) -> Table:
        marks = Table(schema, MARKS)
        if tables.find(self._connection, marks, self._target) is None:
            tables.create_schema(self._connection, schema)
            self._write(
                f"CREATE TABLE {marks.sql} (table_name text PRIMARY KEY, model text NOT NULL, "
                "publication_id text NOT NULL, rows bigint NOT NULL, versions numeric NOT NULL, "
                "published_at timestamptz NOT NULL)"
            )
            self._write(f"COMMENT ON TABLE {marks.sql} IS {literal(ABOUT_MARKS)}")
        return marks

    def read_mark(self, marks: Table, table: Table) -> Mark | None:
        row = execute(
            self._connection,
            f"SELECT publication_id, rows, versions FROM {marks.sql} WHERE table_name = %s",
            table.plain,
        ).fetchone()
        return Mark(str(row[0]), Versions(int(row[1]), int(row[2]))) if row else None

    def write_mark(self, marks: Table, table: Table, model: str, mark: Mark) -> None:
        execute(
            self._connection,
            f"INSERT INTO {marks.sql} "
            "(table_name, model, publication_id, rows, versions, published_at) "
            "VALUES (%s, %s, %s, %s, %s, now()) "
            "ON CONFLICT (table_name) DO UPDATE SET model = excluded.model, "
            "publication_id = excluded.publication_id, rows = excluded.rows, "
            "versions = excluded.versions, published_at = excluded.published_at",
            table.plain, model, mark.publication_id, mark.versions.rows, mark.versions.total,
        )  # fmt: skip

    def _write(self, sql: str) -> int:
        return execute(self._connection, sql).rowcount

    def _fetch_one(self, sql: str) -> tuple[Any, ...]:
        return fetch_one(self._connection, sql)
