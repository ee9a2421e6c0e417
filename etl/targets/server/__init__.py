"""Publishes marts to a server: one transaction for all tables, and only what differs travels.

Order of things (docs/adr/0011): stage, apply, compare and mark at the target, commit, then remember
in the warehouse what was published. Killed anywhere, the next run finds a mark that is not the one
it remembers, and sends the table whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic

import duckdb

from etl.memory import MEGABYTES_PER_THREAD, in_little_memory
from etl.records import LoadRun
from etl.settings import Target
from etl.targets.files import translating, warehouse_folder
from etl.targets.publication import Order, fold
from etl.targets.server.loading import Loading, read_mart
from etl.targets.server.session import C, Server, locate


@dataclass(frozen=True)
class PublishTo(Generic[C]):
    """Brings marts to servers of one kind; see `Publish`."""

    server: Server[C]

    def __call__(
        self,
        connection: duckdb.DuckDBPyConnection,
        order: Order,
        target: Target,
        /,
        *,
        dry_run: bool = False,
    ) -> list[LoadRun]:
        """A dry run does all of it, to the comparison, and rolls it back."""
        if not order.tables:
            return []
        with (
            connection.cursor() as cursor,
            translating(
                cursor, order.target, "publishing marts", warehouse_folder(cursor), "*.wal"
            ),
        ):

            def attempt() -> list[LoadRun]:
                with _at_one_moment(cursor):
                    return self._publish(cursor, order, target, dry_run=dry_run)

            # What was committed is not sent again.
            return in_little_memory(cursor, attempt, *MEGABYTES_PER_THREAD)

    def _publish(
        self,
        cursor: duckdb.DuckDBPyConnection,
        order: Order,
        target: Target,
        *,
        dry_run: bool,
    ) -> list[LoadRun]:
        marts = [read_mart(self.server, cursor, p, target, order.target) for p in order.publish]
        # Always in one order: two jobs must not wait for each other's tables.
        marts.sort(key=lambda m: m.table.plain)
        with self.server.connected(target, order.target) as session:
            loading = Loading(session, cursor, session.create_marks(target.schema_name))
            # All are staged before the first changes: who reads a table may have to wait then.
            staged = [loading.stage(mart) for mart in marts]
            applied = [loading.apply(s) for s in staged]
            session.end_changes()
            # Not before: what changes one table may have an effect on another.
            done = [loading.settle(a, dry_run=dry_run) for a in applied]
            runs = [run for run, _ in done]
            held = {fold(p.table): session.count(locate(p, target.schema_name)) for p in order.hold}
            if dry_run:
                session.rollback()
                return runs + order.held_runs(held)
            session.commit()
        for _, remember in done:
            remember()
        return runs + order.held_runs(held)


@contextmanager
def _at_one_moment(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction, in which now() and current_date stay the same.

    A mart is read several times. What is remembered of it must be what was sent.
    """
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # ended by what failed
            cursor.execute("ROLLBACK")
        raise
