"""Publishes marts from the warehouse to the places where people read: one module per kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from etl.records import LoadRun
from etl.settings import Settings, Target
from etl.targets import dlt_destination, duckdb_file, mssql, parquet_files, postgres
from etl.targets.publication import Publication, Publish
from etl.targets.server import PublishTo

FILE_TARGETS: dict[str, Publish[Path]] = {
    "duckdb": duckdb_file.publish,
    "parquet": parquet_files.publish,
}
SERVER_TARGETS: dict[str, Publish[Target]] = {
    "postgres": postgres.publish,
    "mssql": mssql.publish,
    "dlt": dlt_destination.publish,
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
    """Bring the marts to one target of the configuration; see `Publish`."""
    target = settings.targets[name]
    path = settings.target_path(target)
    if path is None:
        server = SERVER_TARGETS[target.kind]
        return server(connection, name, target, publications, held_back, dry_run=dry_run)
    files = FILE_TARGETS[target.kind]
    return files(connection, name, path, publications, held_back, dry_run=dry_run)


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
