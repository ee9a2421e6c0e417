"""Publishes marts as one DuckDB file, replaced as a whole and always readable."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import duckdb
from loguru import logger

from etl.errors import ConfigError
from etl.records import LoadRun
from etl.targets.catalog import PresentFile, attached, open_published, read_comments, read_version
from etl.targets.choosing import choose
from etl.targets.claims import claim, claimed, warn_of_loss
from etl.targets.comparison import check_count, check_key, check_version, reading, record
from etl.targets.files import refuse_other_kind, refuse_writer, sync, translating
from etl.targets.publication import Order, Publication, fold, qualify, split_name
from etl.targets.relation import Version, describe, fingerprint, query, warehouse_name
from etl.targets.succession import succeed
from etl.warehouse import literal, quoted

PART = ".*.part"


def publish(
    connection: duckdb.DuckDBPyConnection,
    order: Order,
    target_path: Path,
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Bring the marts to the file; see `Publish`. All tables change in one rename."""
    path = target_path.resolve()  # a link stays a link: the file behind it is replaced
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    refuse_other_kind(path, order.target, folder=False)
    if not order.tables:
        return []
    with connection.cursor() as cursor:
        try:
            with translating(cursor, order.target, f"publishing {path}", path.parent, PART):
                refuse_writer(path, order.target)
                if not dry_run:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _remove_parts(path)
                    _remove_wal(path, order.target)
                return _publish(cursor, path, part, order, dry_run=dry_run)
        finally:
            if not dry_run:
                _remove_parts(path)


def _publish(
    cursor: duckdb.DuckDBPyConnection, path: Path, part: Path, order: Order, *, dry_run: bool
) -> list[LoadRun]:
    marts: dict[str, Version] = {}
    runs: list[LoadRun] = []
    with open_published(cursor, path, order) as old:
        _refuse_foreign(cursor, path, old, order.target)
        for publication in order.publish:
            run, mart = _compare(cursor, publication, old, order.target, dry_run=dry_run)
            runs.append(run)
            marts[publication.table] = mart
        held = order.held_runs({table: v.content.rows for table, v in old.tables.items()})
        same = old.readable and not old.unnamed and all(r.status == "unchanged" for r in runs)
        if dry_run:
            return runs + held
        claim(cursor, order.target, order.tables)
        if same:
            return [r.model_copy(update={"reconciled": True}) for r in runs] + held
        _warn_of_ambiguity(path, order)
        kept = {p.table: v for p in order.hold if (v := old.tables.get(fold(p.table)))}
        seconds = _build(cursor, part, {**marts, **kept}, order.target)
    _swap(part, path)
    for table in old.unnamed:
        logger.bind(target=order.target, table=table).warning(
            "dropped a table that no load names any more"
        )
    rows = _count_rows(cursor, path, {**marts, **kept}, order.target)
    return [
        run.model_copy(
            update={
                "rows_at_target": rows[run.table],
                "reconciled": True,
                "seconds": run.seconds + seconds[run.table],
            }
        )
        for run in runs
    ] + held


def _refuse_foreign(
    cursor: duckdb.DuckDBPyConnection, path: Path, old: PresentFile, target: str
) -> None:
    """Raise ConfigError when the file has anything that this job has not made."""
    made = claimed(cursor, target) if old.unnamed else set()
    if foreign := [*old.others, *(f"table {t}" for t in old.unnamed if fold(t) not in made)]:
        raise ConfigError(
            f"{path} of target {target} is replaced as a whole, and has what this job did not "
            f"make: {', '.join(foreign)}",
            subject=target,
            hint="give the target a path of its own; or drop it, if nobody needs it",
        )


def _compare(
    cursor: duckdb.DuckDBPyConnection,
    publication: Publication,
    old: PresentFile,
    target: str,
    *,
    dry_run: bool,
) -> tuple[LoadRun, Version]:
    """Read a mart through, check its key and count what its table's next version changes."""
    started = time.perf_counter()
    before = old.tables.get(fold(publication.table))
    with reading(publication, target):
        name = warehouse_name(cursor)
        whole = describe(cursor, qualify(name, publication.model))
        publication, relation = choose(cursor, whole, publication, target)
        check_key(cursor, relation, publication, target)
        comments = read_comments(cursor, name, publication.model)
        mart = Version(relation, fingerprint(cursor, relation), comments)
    if before is None and fold(publication.table) in claimed(cursor, target):
        warn_of_loss(publication, target)
    version, changes = succeed(cursor, before, mart, publication, target)
    rows = before.content.rows if before else 0
    seconds = time.perf_counter() - started
    run = record(publication, target, changes, rows=rows, dry_run=dry_run, seconds=seconds)
    return run, version


def _build(
    cursor: duckdb.DuckDBPyConnection, part: Path, versions: dict[str, Version], target: str
) -> dict[str, float]:
    """Write the new file beside the target and check what the disk holds; seconds by table."""
    seconds: dict[str, float] = {}
    with attached(cursor, part, target, read_only=False) as catalog:
        for table, version in versions.items():
            started = time.perf_counter()
            _create(cursor, catalog, table, version)
            seconds[table] = time.perf_counter() - started
        cursor.execute(f"CHECKPOINT {quoted(catalog)}")
    sync(part)
    # Attached anew: what was written is in memory, what readers will get is on the disk.
    with attached(cursor, part, target) as catalog:
        for table, version in versions.items():
            started = time.perf_counter()
            check_version(table, target, read_version(cursor, catalog, table), version)
            seconds[table] += time.perf_counter() - started
    return seconds


def _create(cursor: duckdb.DuckDBPyConnection, catalog: str, table: str, version: Version) -> None:
    name = qualify(catalog, table)
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(catalog, split_name(table)[0])}")
    cursor.execute(f"CREATE TABLE {name} AS SELECT * FROM {version.relation.sql}")  # noqa: S608
    for column, comment in version.comments.items():
        what = f"COLUMN {name}.{quoted(column)}" if column else f"TABLE {name}"
        cursor.execute(f"COMMENT ON {what} IS {literal(comment)}")


def _swap(part: Path, path: Path) -> None:
    if path.exists():
        group = path.stat().st_gid
        try:
            if group != part.stat().st_gid:
                os.chown(part, -1, group)
        except OSError:  # who is no member cannot give a file to a group
            logger.bind(path=str(path)).warning(
                f"the file's group could not stay {group}: its members may be unable to read it"
            )
        shutil.copymode(path, part)
    os.replace(part, path)  # noqa: PTH105  by this name, so that tests can stand in its way
    sync(path.parent)


def _count_rows(
    cursor: duckdb.DuckDBPyConnection, path: Path, expected: dict[str, Version], target: str
) -> dict[str, int]:
    """Rows of each table in the published file, read again under its own name."""
    with attached(cursor, path, target) as catalog:
        rows = {
            table: query(cursor, f"SELECT count(*) FROM {qualify(catalog, table)}")[0]  # noqa: S608
            for table in expected
        }
    for table, version in expected.items():
        check_count(table, target, rows[table], version.content.rows)
    return rows


def _warn_of_ambiguity(path: Path, order: Order) -> None:
    """`marts.x` does not resolve for who opens marts.duckdb: catalog and schema have one name."""
    if any(table.startswith(path.stem.casefold() + ".") for table in order.tables):
        logger.bind(target=order.target, path=str(path)).warning(
            f"DuckDB calls the file's catalog `{path.stem}` like a schema in it: readers have to "
            f"write {path.stem}.{path.stem}.<table>; give the file or the tables another name"
        )


def _remove_parts(path: Path) -> None:
    """Clear away what a killed run left; the job's lock says that no other is at work."""
    ours = re.compile(re.escape(f".{path.name}.") + r"\d+\.part(\.wal)?")
    if path.parent.is_dir():
        for file in path.parent.iterdir():
            if ours.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _remove_wal(path: Path, target: str) -> None:
    """Remove a write-ahead log beside the target.

    It is never ours: we write elsewhere and checkpoint before the rename. Somebody wrote into the
    published file and died (a living writer is refused before). DuckDB 1.5 replays those rows
    into whatever file has the name, so into our next version too.
    """
    wal = path.with_name(path.name + ".wal")
    if wal.exists():
        logger.bind(target=target, path=str(wal)).warning(
            "removed a write-ahead log that a foreign writer left beside the target"
        )
        wal.unlink()
