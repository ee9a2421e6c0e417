"""Publishes marts as directories of Parquet files, each replaced as a whole.

`<path>/<table>` (for example `parquet/marts.followers_daily`) is a symbolic link to
`<path>/.versions/<table>/<id>/`, replaced by one rename, which is atomic on Linux and macOS alike.
The version before stays until the next change of the mart, so that whoever reads it can finish.
A reader that lists and opens through the link may meet the change in between: files are named
after their version, so it then misses a file and starts again, and never mixes two versions; one
that resolves the link first notices nothing.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
from loguru import logger

from etl.errors import ConfigError, LoadError
from etl.records import LoadRun
from etl.targets.choosing import choose
from etl.targets.claims import claim, claimed, warn_of_loss
from etl.targets.comparison import check_count, check_key, check_version, reading, record
from etl.targets.files import refuse_other_kind, sync, translating
from etl.targets.parquet_types import export
from etl.targets.publication import Order, Publication, fold
from etl.targets.relation import Version, describe, fingerprint, query
from etl.targets.succession import succeed
from etl.warehouse import literal

VERSIONS = ".versions"
FILE_SIZE = "256MB"
SMALL_ROW_GROUP = 2048


def publish(
    connection: duckdb.DuckDBPyConnection,
    order: Order,
    target_path: Path,
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Bring each mart to its directory; see `Publish`. All are checked before the first changes."""
    path = target_path.resolve()
    refuse_other_kind(path, order.target, folder=True)
    if not order.tables:
        return []
    _check_places(path, [p.table for p in (*order.publish, *order.hold)], order.target)
    identity = uuid.uuid4().hex[:12]
    with (
        connection.cursor() as cursor,
        _cleaning_up(path, identity, [p.table for p in order.publish]),
        translating(cursor, order.target, f"publishing {path}", path, f"{VERSIONS}/*/{identity}/*"),
    ):
        runs = [
            _prepare(cursor, path, p, identity, order.target, dry_run=dry_run)
            for p in order.publish
        ]
        held = {
            fold(p.table): _count(cursor, current)
            for p in order.hold
            if (current := _current(path, p.table)) is not None
        }
        if not dry_run:
            claim(cursor, order.target, order.tables)
            for run in runs:
                if run.status == "published":
                    _swap(path, run.table, identity)
            _drop_unnamed(cursor, path, order)
            runs = [_confirm(cursor, path, run) for run in runs]
        return runs + order.held_runs(held)


def _prepare(
    cursor: duckdb.DuckDBPyConnection,
    path: Path,
    publication: Publication,
    identity: str,
    target: str,
    *,
    dry_run: bool,
) -> LoadRun:
    """Compare a mart with its present files and, if it differs, write and check the new ones."""
    started = time.perf_counter()
    with reading(publication, target):
        publication, mart = choose(cursor, export(cursor, publication.model), publication, target)
        check_key(cursor, mart, publication, target)
        content = fingerprint(cursor, mart)
    before = _read_present(cursor, path, publication, target)
    version, changes = succeed(cursor, before, Version(mart, content), publication, target)
    if changes is not None and not dry_run:
        _write(cursor, path, publication.table, identity, version, target)
    present = before if dry_run else version
    rows = present.content.rows if present else 0
    seconds = time.perf_counter() - started
    return record(publication, target, changes, rows=rows, dry_run=dry_run, seconds=seconds)


def _files(directory: Path) -> str:
    """SQL that reads a version's files, and never takes `a=b` in a path for a column."""
    pattern = literal(glob.escape(str(directory)) + "/*.parquet")
    return f"read_parquet({pattern}, hive_partitioning = false)"


def _write(
    cursor: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    identity: str,
    version: Version,
    target: str,
) -> None:
    """Write a new version beside the present one and check what the disk then holds."""
    directory = path / VERSIONS / table / identity
    directory.parent.mkdir(parents=True, exist_ok=True)
    rows, place = version.relation.sql, literal(str(directory))
    copy = (
        f"COPY (SELECT * FROM {rows}) TO {place} (FORMAT parquet, "  # noqa: S608  quoted names
        f"FILE_SIZE_BYTES '{FILE_SIZE}', FILENAME_PATTERN '{identity}_{{i}}', COMPRESSION zstd"
    )
    try:
        cursor.execute(f"{copy})")
    except duckdb.OutOfMemoryException:
        # DuckDB holds groups of 122,880 rows, which readers like best, until they are whole.
        shutil.rmtree(directory, ignore_errors=True)
        cursor.execute(f"{copy}, ROW_GROUP_SIZE {SMALL_ROW_GROUP})")
    for file in directory.iterdir():
        sync(file)
    for entry in (directory, directory.parent, directory.parent.parent, path):
        sync(entry)
    written = describe(cursor, _files(directory))
    check_version(table, target, Version(written, fingerprint(cursor, written)), version)


def _read_present(
    cursor: duckdb.DuckDBPyConnection, path: Path, publication: Publication, target: str
) -> Version | None:
    """The present files of a table; None when there are none, or they are damaged.

    Raises LoadError when they are damaged and the strategy keeps rows of them.
    """
    table = publication.table
    current = _current(path, table)
    try:
        if current is None and (path / table).is_symlink():
            raise duckdb.IOException("the link's directory is gone")
        if current is None:
            if fold(table) in claimed(cursor, target):
                warn_of_loss(publication, target)
            return None
        old = describe(cursor, _files(current))
        return Version(old, fingerprint(cursor, old))
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        if publication.strategy != "replace":
            raise LoadError(
                f"{path / table} of target {target} is damaged: strategy {publication.strategy} "
                "cannot keep its rows",
                subject=target,
                hint="put back a copy of the files, then run again",
            ) from error
        logger.bind(target=target, table=table, cause=str(error)).warning(
            "the target's files are damaged and are built anew"
        )
        return None


def _current(path: Path, table: str) -> Path | None:
    """The directory of the present version."""
    link = path / table
    return link.resolve() if link.is_symlink() and link.exists() else None


def _check_places(path: Path, tables: Sequence[str], target: str) -> None:
    if wrong := next((table for table in tables if table.startswith(".")), None):
        raise ConfigError(f"`{wrong}` is not a table name", subject=target)
    places = (path / table for table in tables)
    if blocked := [str(p) for p in places if os.path.lexists(p) and not p.is_symlink()]:
        raise LoadError(
            f"{', '.join(blocked)}: in the way of target {target}, for its tables are links",
            subject=target,
            hint="move them away, then run again; was the folder copied by what follows links? "
            "`cp -a` and `rsync -a` keep them",
        )


def _swap(path: Path, table: str, identity: str) -> None:
    """Point the link at the new version; remove the versions before the one it pointed at."""
    before = _current(path, table)
    versions = path / VERSIONS / table
    link = versions / f"{identity}.link"
    # The link is relative to where it will stand, so that the whole target can be moved or mounted.
    link.symlink_to(Path(VERSIONS) / table / identity)
    os.replace(link, path / table)  # noqa: PTH105  named, so that tests can stand in its way
    sync(path)
    for entry in versions.iterdir():
        if entry.is_symlink():
            entry.unlink()
        elif entry.name != identity and entry != before:
            shutil.rmtree(entry)


def _drop_unnamed(cursor: duckdb.DuckDBPyConnection, path: Path, order: Order) -> None:
    """Remove what no load names any more; only what this job published."""
    versions, made = path / VERSIONS, claimed(cursor, order.target)
    named = {fold(p.table): versions / p.table for p in (*order.publish, *order.hold)}
    for directory in versions.iterdir() if versions.is_dir() else ():
        now = named.get(fold(directory.name))
        # A table that only changed its case has a directory beside the earlier one, on most disks.
        gone = now is None or (now.is_dir() and not now.samefile(directory))
        if gone and fold(directory.name) in made:
            logger.bind(target=order.target, table=directory.name).warning(
                "dropped a table that no load names any more"
            )
            link = path / directory.name
            if link.is_symlink():
                link.unlink()
            shutil.rmtree(directory)


def _count(cursor: duckdb.DuckDBPyConnection, directory: Path) -> int:
    return query(cursor, f"SELECT count(*) FROM {_files(directory)}")[0]  # noqa: S608


def _confirm(cursor: duckdb.DuckDBPyConnection, path: Path, run: LoadRun) -> LoadRun:
    """Count the rows behind the link, as a reader would."""
    rows = _count(cursor, path / run.table)
    check_count(run.table, run.target, rows, run.rows_at_target)
    return run.model_copy(update={"reconciled": True})


@contextmanager
def _cleaning_up(path: Path, identity: str, tables: list[str]) -> Iterator[None]:
    """Remove what this call wrote when it does not come to be published."""
    try:
        yield
    except BaseException:
        for table in tables:
            if _current(path, table) != path / VERSIONS / table / identity:
                shutil.rmtree(path / VERSIONS / table / identity, ignore_errors=True)
        raise
