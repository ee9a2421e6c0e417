"""Publishes marts from the warehouse to the places where people read: one module per kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from etl.checks import OWN_FILES
from etl.errors import ConfigError
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
    _check_path(settings, name, path)
    files = FILE_TARGETS[target.kind]
    return files(connection, name, path, publications, held_back, dry_run=dry_run)


def _check_path(settings: Settings, name: str, path: Path) -> None:
    """Raise ConfigError when a target would replace the job's own files, or another target's.

    By what the paths lead to: the check of the settings sees neither links nor where they start.
    """
    place = path.resolve()
    for own in OWN_FILES:
        if (settings.data / own).resolve() in (place, *place.parents):
            raise ConfigError(
                f"targets.{name}.path: {path} is the job's own `{own}`",
                subject=name,
                hint="name another file",
            )
    for other, target in settings.targets.items():
        theirs = settings.target_path(target)
        if other != name and theirs is not None and theirs.resolve() == place:
            raise ConfigError(
                f"targets.{name}.path: {path} is the path of target {other} too",
                subject=name,
                hint="each would drop the other's tables: name another path",
            )


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
