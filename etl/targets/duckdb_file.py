"""Publishes marts as one DuckDB file, replaced as a whole and always readable."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from loguru import logger

from etl.errors import ConfigError, LoadError, ReconciliationError
from etl.records import LoadRun
from etl.targets.files import refuse_writer, sync, translating
from etl.targets.publication import (
    Order,
    Publication,
    fold,
    literal,
    order,
    qualify,
    quote,
    split_name,
)
from etl.targets.relation import (
    Changes,
    Fingerprint,
    Relation,
    check_key,
    count_changes,
    describe,
    fingerprint,
    query,
)

Comments = dict[str, str]


@dataclass(frozen=True)
class Version:
    """One version of a table: what it holds and what is said about it.

    `comments` by column name; the table's own under the empty name.
    """

    relation: Relation
    content: Fingerprint
    comments: Comments

    def equals(self, other: Version | None) -> bool:
        """True when a reader could not tell the two apart."""
        return other is not None and (self.relation.columns, self.content, self.comments) == (
            other.relation.columns,
            other.content,
            other.comments,
        )


@dataclass(frozen=True)
class Published:
    """The target's file as it stands; `catalog` is empty when there is none that can be read."""

    catalog: str = ""
    tables: dict[str, Version] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def publish(
    connection: duckdb.DuckDBPyConnection,
    target_name: str,
    target_path: Path,
    publications: Iterable[Publication],
    held_back: Iterable[Publication] = (),
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Bring the marts to the file; see `Publish`. All tables change in one rename."""
    todo = order(target_name, publications, held_back)
    path = target_path.resolve()  # a link stays a link: the file behind it is replaced
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.is_dir():
        raise ConfigError(f"{path} of target {target_name} is a directory", subject=target_name)
    with connection.cursor() as cursor:
        try:
            with translating(cursor, target_name, f"writing {path}", part):
                return _publish(cursor, path, part, todo, dry_run=dry_run)
        finally:
            if not dry_run:
                _remove_parts(path)


def _publish(
    cursor: duckdb.DuckDBPyConnection, path: Path, part: Path, todo: Order, *, dry_run: bool
) -> list[LoadRun]:
    refuse_writer(path, todo.target)
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(path)
        _remove_wal(path, todo.target)
    warehouse = str(cursor.execute("SELECT current_database()").fetchall()[0][0])
    runs: list[LoadRun] = []
    with _open_published(cursor, path, todo) as old:
        marts: dict[str, Version] = {}
        for p in todo.publish:
            started = time.perf_counter()
            mart = _read_mart(cursor, warehouse, p, todo.target)
            marts[p.table] = mart
            before = old.tables.get(fold(p.table))
            same = mart.equals(before)
            changes = (
                Changes()
                if same
                else count_changes(cursor, before and before.relation, mart.relation, p.key)
            )
            runs.append(
                LoadRun(
                    model=p.model,
                    target=todo.target,
                    table=p.table,
                    strategy="replace",
                    status="dry_run" if dry_run else "unchanged" if same else "published",
                    inserted=changes.inserted,
                    updated=changes.updated,
                    deleted=changes.deleted,
                    rows_at_target=before.content.rows if before and (same or dry_run) else 0,
                    reconciled=same and not dry_run,
                    seconds=time.perf_counter() - started,
                )
            )
        held = todo.held_runs({t: v.content.rows for t, v in old.tables.items()})
        gone = sorted(name for key, name in old.names.items() if key not in todo.tables)
        idle = bool(old.catalog) and not gone and all(r.status == "unchanged" for r in runs)
        if dry_run or idle:
            return runs + held
        keep = {p.table: v for p in todo.hold if (v := old.tables.get(fold(p.table)))}
        _build(cursor, part, {**marts, **keep}, todo.target)
    for name in gone:
        logger.bind(target=todo.target, table=name).warning(
            "dropped a table that no load names any more"
        )
    if path.exists():
        shutil.copymode(path, part)
    os.replace(part, path)  # noqa: PTH105  named, so that tests can stand in its way
    sync(path.parent)
    rows = _count_rows(cursor, path, {t: v.content.rows for t, v in {**marts, **keep}.items()})
    return [
        r.model_copy(update={"rows_at_target": rows[r.table], "reconciled": True}) for r in runs
    ] + held


def _read_mart(
    cursor: duckdb.DuckDBPyConnection, warehouse: str, publication: Publication, target: str
) -> Version:
    try:
        mart = _read_version(cursor, warehouse, publication.model)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise LoadError(
            f"{publication.model} cannot be read from the warehouse: {error}",
            subject=target,
            hint="run the transform stage, or correct the load's `model`",
        ) from error
    check_key(cursor, mart.relation, publication, target)
    return mart


def _read_version(cursor: duckdb.DuckDBPyConnection, catalog: str, name: str) -> Version:
    relation = describe(cursor, qualify(catalog, name))
    return Version(
        relation, fingerprint(cursor, relation), _read_comments(cursor, catalog, name)
    )


def _read_comments(cursor: duckdb.DuckDBPyConnection, catalog: str, name: str) -> Comments:
    place = [catalog, *split_name(name)]
    where = "database_name = ? AND lower(schema_name) = lower(?) AND comment IS NOT NULL AND "
    rows = cursor.execute(
        f"SELECT column_name, comment FROM duckdb_columns() WHERE {where}"  # noqa: S608
        "lower(table_name) = lower(?) "
        f"UNION ALL SELECT '', comment FROM duckdb_views() WHERE {where}"
        "lower(view_name) = lower(?) "
        f"UNION ALL SELECT '', comment FROM duckdb_tables() WHERE {where}"
        "lower(table_name) = lower(?)",
        place * 3,
    ).fetchall()
    return {str(column): str(comment) for column, comment in rows}


@contextmanager
def _attached(cursor: duckdb.DuckDBPyConnection, path: Path, mode: str) -> Iterator[str]:
    # By ATTACH, not duckdb.connect: that would hand out a cached instance of the replaced file.
    # A fresh name each time, because others may have attached theirs to the same instance.
    catalog = f"etl_{uuid.uuid4().hex[:12]}"
    cursor.execute(f"ATTACH {literal(str(path))} AS {quote(catalog)} ({mode})")
    try:
        yield catalog
    finally:
        cursor.execute(f"DETACH {quote(catalog)}")


@contextmanager
def _open_published(
    cursor: duckdb.DuckDBPyConnection, path: Path, todo: Order
) -> Iterator[Published]:
    """The present file, or nothing when it is missing or damaged and nobody needs its tables."""
    if not path.exists():
        yield Published()
        return
    with path.open("rb"):
        pass  # not readable: an OSError with its errno, which DuckDB would not give
    opened = _attached(cursor, path, "READ_ONLY")
    try:
        catalog = opened.__enter__()
    except duckdb.Error as error:
        _accept_damage(path, todo, error)
        yield Published()
        return
    try:
        try:
            published = _read_published(cursor, catalog)
        except duckdb.Error as error:
            _accept_damage(path, todo, error)
            published = Published()
        yield published
    finally:
        opened.__exit__(None, None, None)


def _accept_damage(path: Path, todo: Order, error: duckdb.Error) -> None:
    refuse_writer(path, todo.target)  # opened between our first look and ATTACH
    if todo.hold:
        raise LoadError(
            f"{path} of target {todo.target} is damaged, and "
            f"{', '.join(p.table for p in todo.hold)} cannot be kept at its present version",
            subject=todo.target,
            hint="mend what fails the audit, or put back a copy of the file, then run again",
        ) from error
    logger.bind(target=todo.target, path=str(path), cause=str(error)).warning(
        "the target's file is damaged and is built anew"
    )


def _read_published(cursor: duckdb.DuckDBPyConnection, catalog: str) -> Published:
    rows = cursor.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 "
        "UNION ALL SELECT schema_name, view_name FROM duckdb_views() "
        "WHERE database_name = $1 AND NOT internal",
        [catalog],
    ).fetchall()
    names = {fold(f"{s}.{t}"): f"{s}.{t}" for s, t in rows}
    return Published(
        catalog, {k: _read_version(cursor, catalog, name) for k, name in names.items()}, names
    )


def _build(
    cursor: duckdb.DuckDBPyConnection, part: Path, versions: dict[str, Version], target: str
) -> None:
    """Write the new file beside the target and check what the disk then holds."""
    with _attached(cursor, part, "READ_WRITE") as catalog:
        for table, version in versions.items():
            schema = f"{quote(catalog)}.{quote(split_name(table)[0])}"
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            name = qualify(catalog, table)
            cursor.execute(f"CREATE TABLE {name} AS SELECT * FROM {version.relation.sql}")  # noqa: S608
            for column, comment in version.comments.items():
                what = f"COLUMN {name}.{quote(column)}" if column else f"TABLE {name}"
                cursor.execute(f"COMMENT ON {what} IS {literal(comment)}")
        cursor.execute(f"CHECKPOINT {quote(catalog)}")
    sync(part)
    with _attached(cursor, part, "READ_ONLY") as catalog:
        for table, version in versions.items():
            found = _read_version(cursor, catalog, table)
            if not version.equals(found):
                raise ReconciliationError(
                    f"{table} at target {target}: {found.content} written, "
                    f"{version.content} in the warehouse",
                    subject=target,
                    hint="the target keeps its old version; a model that is not deterministic "
                    "(random(), now() in a VIEW) gives other rows each time",
                )


def _count_rows(
    cursor: duckdb.DuckDBPyConnection, path: Path, expected: dict[str, int]
) -> dict[str, int]:
    """Rows of each table in the published file, read again by its own name."""
    with _attached(cursor, path, "READ_ONLY") as catalog:
        rows = {
            table: query(cursor, f"SELECT count(*) FROM {qualify(catalog, table)}")[0]  # noqa: S608
            for table in expected
        }
    for table, count in rows.items():
        if count != expected[table]:
            raise ReconciliationError(
                f"{table} in {path}: {count} rows at the target, {expected[table]} expected"
            )
    return rows


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
    published file and died (a living writer was refused before). DuckDB 1.5 would replay those
    rows into whatever file then has the name, so into our next version too.
    """
    wal = path.with_name(path.name + ".wal")
    if wal.exists():
        logger.bind(target=target, path=str(wal)).warning(
            "removed a write-ahead log that a foreign writer left beside the target"
        )
        wal.unlink()
