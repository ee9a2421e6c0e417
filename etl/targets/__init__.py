"""Publishes marts from the warehouse to the places where people read: one module per kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from etl.records import LoadRun
from etl.settings import Settings, Target
from etl.targets import duckdb_file, mssql, parquet_files, postgres
from etl.targets.publication import Publication, Publish

FILE_TARGETS: dict[str, Publish[Path]] = {
    "duckdb": duckdb_file.publish,
    "parquet": parquet_files.publish,
}
SERVER_TARGETS: dict[str, Publish[Target]] = {
    "postgres": postgres.publish,
    "mssql": mssql.publish,
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


__all__ = ["FILE_TARGETS", "SERVER_TARGETS", "Publication", "Publish", "publish"]
