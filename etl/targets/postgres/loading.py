"""One mart and its table: whether the difference is known, what is sent, what is recorded."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from etl.records import LoadRun
from etl.settings import Target
from etl.targets.catalog import read_comments
from etl.targets.choosing import choose
from etl.targets.comparison import Changes, check_key, reading
from etl.targets.postgres.applying import Change, apply, check_rows, reconcile
from etl.targets.postgres.columns import Column, map_columns
from etl.targets.postgres.published import HASH, Published
from etl.targets.postgres.refusals import refused_row, refused_table
from etl.targets.postgres.staging import fill, stage
from etl.targets.postgres.tables import (
    Mark,
    Table,
    Versions,
    add_indexes,
    locate,
    prepare,
    read_mark,
    read_versions,
    write_mark,
)
from etl.targets.publication import Publication, qualify, quote
from etl.targets.relation import Relation, describe, query

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Mart:
    """One mart on its way to its table."""

    publication: Publication
    table: Table
    relation: Relation
    columns: tuple[Column, ...]
    comments: dict[str, str]
    rows: int
    memory: Published
    shape: str
    is_remembered: bool

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns of the key."""
        by_name = {c.name: c for c in self.columns}
        return tuple(by_name[k] for k in self.publication.key)


@dataclass(frozen=True)
class Loaded:
    """What was done to one table, to be remembered after the commit."""

    run: LoadRun
    publication_id: str | None = None
    whole: bool = False

    def remember(self, cursor: duckdb.DuckDBPyConnection, mart: Mart) -> None:
        """Note in the warehouse what the target has now."""
        if self.publication_id is not None:
            mart.memory.write(
                cursor, mart.relation, mart.publication.key, mart.shape, self.publication_id,
                whole=self.whole,
            )  # fmt: skip


def read_mart(
    cursor: duckdb.DuckDBPyConnection, publication: Publication, target: Target, name: str
) -> Mart:
    """Look at a mart and check its key. Raises ConfigError, LoadError."""
    table = locate(publication, target.default_schema)
    with reading(publication, name):
        (warehouse,) = cursor.execute("SELECT current_database()").fetchall()[0]
        whole = describe(cursor, qualify(str(warehouse), publication.model))
        publication, relation = choose(cursor, whole, publication, name)
        (rows,) = query(cursor, f"SELECT count(*) FROM {relation.sql}")  # noqa: S608
        memory, shape = Published(name, table.plain), _shape(publication, relation)
        is_remembered = memory.holds(cursor, relation, publication.key, shape, rows)
        if not is_remembered:  # else its key is as good as it was then
            check_key(cursor, relation, publication, name)
        comments = read_comments(cursor, str(warehouse), publication.model)
    columns = map_columns(cursor, relation, name)
    return Mart(publication, table, relation, columns, comments, rows, memory, shape, is_remembered)


def _shape(publication: Publication, relation: Relation) -> str:
    """Of what the remembered hashes are made; DuckDB's hash may change with its version."""
    columns = [(c.name, c.type) for c in relation.columns]
    return json.dumps([duckdb.__version__, publication.key, columns])


def load(
    server: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    mart: Mart,
    marks: Table,
    target: str,
) -> Loaded:
    """Bring one table to its mart inside the open transaction. Raises EtlError, psycopg.Error."""
    started = time.perf_counter()
    publication, table = mart.publication, mart.table
    found = prepare(server, table, mart.columns, mart.comments, target)
    before = read_versions(server, table)
    known = not found.is_widened and _is_known(server, cursor, mart, marks, before)
    if known and mart.is_remembered:
        add_indexes(server, table, publication)
        return Loaded(_record(mart, target, Changes(), before.rows, started))
    whole = not (known and publication.key)
    if found.is_new and all(c.staged_type == c.type for c in mart.columns):
        # As long as its rows are the only ones, there is nothing to be compared with.
        after = fill(
            server, cursor, table, mart.columns, mart.relation.sql, target, publication.key
        )
        check_rows(table, mart.rows, after.rows, target)
        _index(server, mart, target)
        changes = Changes(inserted=after.rows)
    else:
        change = _stage(server, cursor, mart, target, whole=whole)
        changes = _apply(server, change, target, is_new=found.is_new)
        after = read_versions(server, table)
        reconcile(server, change, mart.rows, after.rows, target)
    publication_id = uuid.uuid4().hex
    write_mark(server, marks, table, publication.model, Mark(publication_id, after))
    run = _record(mart, target, changes, after.rows, started)
    return Loaded(run, publication_id, whole)


def _is_known(
    server: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    mart: Mart,
    marks: Table,
    present: Versions,
) -> bool:
    """True when the table is, row by row, what this job remembers of its last publication."""
    mark = read_mark(server, marks, mart.table)
    remembered = mart.memory.read_id(cursor, mart.shape)
    return mark is not None and mark == Mark(remembered or "", present)


def _stage(
    server: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    mart: Mart,
    target: str,
    *,
    whole: bool,
) -> Change:
    name, key, table = uuid.uuid4().hex[:12], mart.publication.key, mart.table
    rows, gone = mart.relation.sql, None
    if not whole:
        same = " AND ".join(f"m.{quote(k)} = d.{quote(k)}" for k in key)
        rows = (
            f"(SELECT m.* FROM {mart.relation.sql} AS m SEMI JOIN {mart.memory.difference} AS d "  # noqa: S608
            f"ON {same})"
        )
        if mart.publication.strategy == "replace":
            keys = f"(SELECT * FROM {mart.memory.difference} WHERE {HASH} IS NULL)"  # noqa: S608
            gone = stage(
                server, cursor, f"etl gone {name}", mart.keys, keys, target, table.plain, key
            )
    staged = stage(
        server, cursor, f"etl staged {name}", mart.columns, rows, target, table.plain, key
    )
    return Change(table, mart.publication, staged, gone)


def _index(server: psycopg.Connection[Any], mart: Mart, target: str) -> None:
    import psycopg

    try:
        add_indexes(server, mart.table, mart.publication)
    except psycopg.Error as error:
        raise refused_table(error, mart.table.plain, target) from error


def _apply(
    server: psycopg.Connection[Any], change: Change, target: str, *, is_new: bool
) -> Changes:
    import psycopg

    try:
        with server.transaction():
            changes = apply(server, change, is_new=is_new)
            add_indexes(server, change.table, change.publication)
            return changes
    except psycopg.Error as error:
        raise refused_row(server, error, change, target) from error


def _record(mart: Mart, target: str, changes: Changes, rows: int, started: float) -> LoadRun:
    return LoadRun(
        model=mart.publication.model,
        target=target,
        table=mart.publication.table,
        strategy=mart.publication.strategy,
        status="unchanged" if changes == Changes() else "published",
        inserted=changes.inserted,
        updated=changes.updated,
        deleted=changes.deleted,
        rows_at_target=rows,
        reconciled=True,
        seconds=time.perf_counter() - started,
    )
