"""Reads DuckDB files attached to the warehouse's connection: tables, comments, versions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from loguru import logger

from etl.errors import LoadError
from etl.targets.files import refuse_writer
from etl.targets.publication import Order, fold, qualify, split_name
from etl.targets.relation import Version, describe, fingerprint
from etl.warehouse import literal, quoted

# What a file can have beside schemas, and where it is listed without DuckDB's own.
_KINDS = {
    "table": "duckdb_tables() WHERE NOT internal",
    "view": "duckdb_views() WHERE NOT internal",
    "function": "duckdb_functions() WHERE NOT internal",
    "type": "duckdb_types() WHERE NOT internal",
    "sequence": "duckdb_sequences() WHERE true",
    "index": "duckdb_indexes() WHERE true",
}


@dataclass(frozen=True)
class PresentFile:
    """The target's file as it stands.

    `tables` holds those that some load names and `unnamed` the others, `others` what is no table:
    a job makes nothing else. `readable` is false when there is no file, or a damaged one.
    """

    readable: bool = False
    tables: dict[str, Version] = field(default_factory=dict)
    unnamed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@contextmanager
def attached(
    cursor: duckdb.DuckDBPyConnection, path: Path, target: str, *, read_only: bool = True
) -> Iterator[str]:
    """The name of a catalog that stands for the file. Raises UnreachableError, duckdb.Error."""
    # By ATTACH, not duckdb.connect, whose cache of instances goes by path: it could hand out the
    # replaced file. A fresh name each time, because all cursors of the process share the names.
    catalog = f"etl_{uuid.uuid4().hex[:12]}"
    mode = "READ_ONLY" if read_only else "READ_WRITE"
    if read_only:
        with path.open("rb"):
            pass  # fails with an errno, which DuckDB's IOException lacks
    try:
        # TYPE, or DuckDB would fetch an extension for what looks like another database.
        cursor.execute(f"ATTACH {literal(str(path))} AS {quoted(catalog)} (TYPE duckdb, {mode})")
    except duckdb.Error:
        refuse_writer(path, target)
        raise
    try:
        yield catalog
    except RuntimeError:
        # A signal interrupted a query. Until interrupt() is called, the next statement of this
        # cursor waits for the interrupted one to end (DuckDB 1.5).
        cursor.interrupt()
        raise
    finally:
        cursor.execute(f"DETACH {quoted(catalog)}")


def read_version(cursor: duckdb.DuckDBPyConnection, catalog: str, name: str) -> Version:
    """Read a table or view through: columns, checksum, comments."""
    relation = describe(cursor, qualify(catalog, name))
    return Version(relation, fingerprint(cursor, relation), read_comments(cursor, catalog, name))


def read_comments(cursor: duckdb.DuckDBPyConnection, catalog: str, name: str) -> dict[str, str]:
    """What is said about a table or view and its columns; see `Version`."""
    where = "database_name = $1 AND lower(schema_name) = lower($2) AND comment IS NOT NULL"
    rows = cursor.execute(
        f"SELECT column_name, comment FROM duckdb_columns() WHERE {where} "  # noqa: S608
        "AND lower(table_name) = lower($3) "
        f"UNION ALL SELECT '', comment FROM duckdb_views() WHERE {where} "
        "AND lower(view_name) = lower($3) "
        f"UNION ALL SELECT '', comment FROM duckdb_tables() WHERE {where} "
        "AND lower(table_name) = lower($3)",
        [catalog, *split_name(name)],
    ).fetchall()
    return {str(column): str(comment) for column, comment in rows}


@contextmanager
def open_published(
    cursor: duckdb.DuckDBPyConnection, path: Path, order: Order
) -> Iterator[PresentFile]:
    """The present file; an empty one when it is missing, or damaged and nobody needs it.

    Raises UnreachableError when a writer has it open, LoadError when it is damaged but a table
    has to be kept.
    """
    if not path.exists():
        yield PresentFile()
        return
    with ExitStack() as stack:
        try:
            catalog = stack.enter_context(attached(cursor, path, order.target))
            published = _read_published(cursor, catalog, order)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            _accept_damage(path, order, error)
            published = PresentFile()
        yield published


def _read_published(cursor: duckdb.DuckDBPyConnection, catalog: str, order: Order) -> PresentFile:
    names: dict[str, list[str]] = {}
    for kind, listed in _KINDS.items():
        found = cursor.execute(
            f"SELECT DISTINCT schema_name, {kind}_name FROM {listed} "  # noqa: S608 - both of _KINDS
            "AND database_name = $1 ORDER BY ALL",
            [catalog],
        ).fetchall()
        names[kind] = [f"{schema}.{name}" for schema, name in found]
    tables = names.pop("table")
    return PresentFile(
        readable=True,
        tables={
            fold(name): read_version(cursor, catalog, name)
            for name in tables
            if fold(name) in order.tables
        },
        unnamed=tuple(n for n in tables if fold(n) not in order.tables),
        others=tuple(f"{kind} {n}" for kind, found in names.items() for n in found),
    )


def _accept_damage(path: Path, order: Order, error: duckdb.Error) -> None:
    if needed := order.needed:
        raise LoadError(
            f"{path} of target {order.target} is damaged: the present version of "
            f"{', '.join(p.table for p in needed)} cannot be kept",
            subject=order.target,
            hint="put back a copy of the file; of a table that an audit holds back, mend what "
            "fails; then run again",
        ) from error
    logger.bind(target=order.target, path=str(path), cause=str(error)).warning(
        "the target's file is damaged and is built anew"
    )
