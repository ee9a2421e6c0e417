"""Publishes marts from the warehouse to the places where people read: one module per kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from etl.records import LoadRun
from etl.settings import Settings, Target
from etl.targets import duckdb_file, mssql, parquet_files, postgres
from etl.targets.publication import Order, Publication, Publish, take_order
from etl.targets.server import PublishTo


def _publish_by_dlt(
    connection: duckdb.DuckDBPyConnection, order: Order, target: Target, /, *, dry_run: bool = False
) -> list[LoadRun]:
    """Imported where it is used: dlt takes long to import."""
    from etl.targets import dlt_destination

    return dlt_destination.publish(connection, order, target, dry_run=dry_run)


FILE_TARGETS: dict[str, Publish[Path]] = {
    "duckdb": duckdb_file.publish,
    "parquet": parquet_files.publish,
}
SERVER_TARGETS: dict[str, Publish[Target]] = {
    "postgres": postgres.publish,
    "mssql": mssql.publish,
    "dlt": _publish_by_dlt,
}


def publish(
    settings: Settings,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    publications: Iterable[Publication],
    held_back: Iterable[Publication] = (),
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Bring the marts to one target of the configuration; see `Publish`.

    The tables of those that are `held_back` keep their present version.
    """
    target = settings.targets[name]
    order = take_order(name, publications, held_back, target.schema_name)
    path = settings.target_path(target)
    if path is None:
        return SERVER_TARGETS[target.kind](connection, order, target, dry_run=dry_run)
    return FILE_TARGETS[target.kind](connection, order, path, dry_run=dry_run)


def log_in(settings: Settings, name: str) -> str:
    """Open a session at a server and close it; what was found, in words.

    Raises ConfigError, UnreachableError, AuthError, as `publish` would.
    """
    target = settings.targets[name]
    publisher = SERVER_TARGETS.get(target.kind)
    if not isinstance(publisher, PublishTo):
        return f"kind {target.kind} is not tried before a run"
    with publisher.server.connected(target, name):
        return f"logged in, kind {target.kind}"


__all__ = ["FILE_TARGETS", "SERVER_TARGETS", "Publication", "Publish", "log_in", "publish"]
