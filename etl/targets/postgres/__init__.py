"""Publishes marts to PostgreSQL: one transaction for all tables, and only what differs travels.

Order of things (docs/adr/0011): stage, apply, compare and mark at the target, commit, then remember
in the warehouse what was published. Killed anywhere, the next run finds a mark that is not the one
it remembers, and sends the table whole.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from etl.records import LoadRun
from etl.settings import Target
from etl.targets.files import translating, warehouse_folder
from etl.targets.postgres.loading import load, read_mart
from etl.targets.postgres.server import connected
from etl.targets.postgres.tables import count, create_marks, locate
from etl.targets.publication import Publication, fold, take_order


def publish(
    connection: duckdb.DuckDBPyConnection,
    target_name: str,
    target: Target,
    publications: Iterable[Publication],
    held_back: Iterable[Publication] = (),
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Bring the marts to the server; see `Publish`.

    A dry run does all of it, to the comparison, and rolls it back.
    """
    order = take_order(target_name, publications, held_back)
    if not order.tables:
        return []
    dsn = target.dsn.get_secret_value() if target.dsn else ""
    with (
        connection.cursor() as cursor,
        translating(cursor, target_name, "publishing marts", warehouse_folder(cursor), "*.wal"),
    ):
        marts = [read_mart(cursor, p, target, target_name) for p in order.publish]
        # Always in one order: two jobs must not wait for each other's tables.
        marts.sort(key=lambda m: m.table.plain)
        with connected(dsn, target_name) as server:
            marks = create_marks(server, target.default_schema, target_name)
            done = [load(server, cursor, mart, marks, target_name) for mart in marts]
            held = {
                fold(p.table): count(server, locate(p, target.default_schema), target_name)
                for p in order.hold
            }
            if dry_run:
                server.rollback()
                runs = [
                    d.run.model_copy(update={"status": "dry_run", "reconciled": False})
                    for d in done
                ]
                return runs + order.held_runs(held)
            server.commit()
        for mart, loaded in zip(marts, done, strict=True):
            loaded.remember(cursor, mart)
    return [d.run for d in done] + order.held_runs(held)
