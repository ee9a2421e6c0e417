"""One mart and its table: whether the difference is known, what is sent, what is recorded."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Generic

import duckdb
from loguru import logger

from etl.records import LoadRun
from etl.settings import Target
from etl.targets.catalog import read_comments
from etl.targets.choosing import choose
from etl.targets.claims import warn_of_loss
from etl.targets.comparison import Changes, check_key, reading, record
from etl.targets.publication import Publication, qualify
from etl.targets.relation import Relation, describe, query, warehouse_name
from etl.targets.server.applying import check_rows
from etl.targets.server.published import HASH, Published
from etl.targets.server.session import (
    C,
    Change,
    Delivery,
    Found,
    Mark,
    Server,
    Session,
    Table,
    Versions,
    locate,
)
from etl.warehouse import quoted


@dataclass(frozen=True)
class Mart(Generic[C]):
    """One mart on its way to its table."""

    publication: Publication
    table: Table
    relation: Relation
    columns: tuple[C, ...]
    rows: int
    memory: Published
    seconds: float

    @property
    def keys(self) -> tuple[C, ...]:
        """The columns of the key."""
        by_name = {c.name: c for c in self.columns}
        return tuple(by_name[k] for k in self.publication.key)

    def deliver(
        self, cursor: duckdb.DuckDBPyConnection, columns: tuple[C, ...], rows: str
    ) -> Delivery[C]:
        """What brings some of its columns and rows to the target."""
        key = self.publication.key
        return Delivery(cursor, rows, columns, self.table, self.memory.target, key)


@dataclass(frozen=True)
class Loaded:
    """What was done to one table, to be remembered after the commit."""

    run: LoadRun
    publication_id: str | None
    shape: str
    whole: bool

    def remember(self, cursor: duckdb.DuckDBPyConnection, mart: Mart[C]) -> None:
        """Note in the warehouse what the target has now."""
        if self.publication_id is not None:
            mart.memory.write(
                cursor, mart.relation, mart.publication.key, self.shape, self.publication_id,
                whole=self.whole,
            )  # fmt: skip


def read_mart(
    server: Server[C],
    cursor: duckdb.DuckDBPyConnection,
    publication: Publication,
    target: Target,
    name: str,
) -> Mart[C]:
    """Look at a mart. Raises ConfigError, LoadError."""
    started, table = time.perf_counter(), locate(publication, target.schema_name)
    with reading(publication, name):
        whole = describe(cursor, qualify(warehouse_name(cursor), publication.model))
        publication, relation = choose(cursor, whole, publication, name)
        (rows,) = query(cursor, f"SELECT count(*) FROM {relation.sql}")
    columns = server.map_columns(cursor, relation, publication, name)
    return Mart(
        publication, table, relation, columns, rows, Published(name, table.plain),
        time.perf_counter() - started,
    )  # fmt: skip


def _shape(mart: Mart[C], found: Found) -> str:
    """Of what the remembered hashes are made; DuckDB's hash may change with its version.

    And what they say of the target: only replaced, it has all of the remembered rows, and no other;
    and which of its columns hold them.
    """
    publication = mart.publication
    columns = [(c.name, c.type) for c in mart.relation.columns]
    return json.dumps(
        [duckdb.__version__, publication.strategy, publication.key, columns, found.numbers]
    )


@dataclass(frozen=True)
class Prepared(Generic[C]):
    """One table before anything that others see of it is changed; then with its `changes`.

    `about` is what the mart says of a table or column that has to be made, `rows` what the table
    had. `filled` is what a new table has now. Without that and without `change` it is as the mart
    is.
    """

    mart: Mart[C]
    found: Found
    about: dict[str, str]
    rows: int
    change: Change[C] | None = None
    filled: Versions | None = None
    whole: bool = False
    changes: Changes = field(default_factory=Changes)
    seconds: float = 0.0


def stage(
    session: Session[C],
    cursor: duckdb.DuckDBPyConnection,
    mart: Mart[C],
    marks: Table,
) -> Prepared[C]:
    """Find out what differs and bring it to the server. Raises EtlError."""
    started = time.perf_counter()
    prepared = _stage(session, cursor, mart, marks)
    return dataclasses.replace(prepared, seconds=mart.seconds + time.perf_counter() - started)


def _stage(
    session: Session[C], cursor: duckdb.DuckDBPyConnection, mart: Mart[C], marks: Table
) -> Prepared[C]:
    publication, table, sent, gone = mart.publication, mart.table, mart.relation.sql, None
    found = session.find(table, mart.columns)
    about: dict[str, str] = {}
    if found.is_narrow:
        about = read_comments(cursor, warehouse_name(cursor), publication.model)
    rows, difference = 0, None
    if not found.is_new:
        rows, difference = _compare(session, cursor, mart, marks, found)
    if difference == Changes():
        return Prepared(mart, found, about, rows)
    if difference is None:  # else its key is as good as it was then
        with reading(publication, mart.memory.target):
            check_key(cursor, mart.relation, publication, mart.memory.target)
    if found.is_new:
        warn_of_loss(publication, mart.memory.target, known=mart.memory.exists(cursor))
        # As long as its rows are the only ones, there is nothing to be compared with.
        filled = session.fill(mart.deliver(cursor, mart.columns, sent), publication, about)
        if filled is not None:
            return Prepared(mart, found, about, rows, filled=filled, whole=True)
    if difference is not None:
        listed = mart.memory.difference
        same = " AND ".join(f"m.{quoted(k)} = d.{quoted(k)}" for k in publication.key)
        sent = f"(SELECT m.* FROM {sent} AS m SEMI JOIN {listed} AS d ON {same})"
        if difference.deleted and publication.strategy == "replace":
            keys = f"(SELECT * FROM {listed} WHERE {HASH} IS NULL)"
            gone = session.stage(mart.deliver(cursor, mart.keys, keys))
    staged = session.stage(mart.deliver(cursor, mart.columns, sent))
    change = Change(table, publication, staged, difference, gone)
    return Prepared(mart, found, about, rows, change, whole=difference is None)


def _compare(
    session: Session[C],
    cursor: duckdb.DuckDBPyConnection,
    mart: Mart[C],
    marks: Table,
    found: Found,
) -> tuple[int, Changes | None]:
    """The table's rows, and how the mart differs from it; None when that is not known row by row.

    It is known by what this job remembers of its last publication, if the mark is of that one and
    nobody has written to the table since.
    """
    publication, table, memory = mart.publication, mart.table, mart.memory
    mark = None if found.is_narrow else session.read_mark(marks, table)
    last, difference = memory.read(cursor, _shape(mart, found)), None
    with session.counting(table) as counted:
        if mark is not None and last is not None and mark.publication_id == last.publication_id:
            with reading(publication, memory.target):
                difference = memory.compare(
                    cursor, mart.relation, publication.key, mart.rows, last.content,
                    likely=publication.evaluated,
                )  # fmt: skip
        present = counted()
    is_known = mark is not None and mark.versions == present
    if mark is not None and last is not None:
        other = None if is_known else "somebody has written to the table, or restored it"
        if mark.publication_id != last.publication_id:
            other = "another job has published the table, or a run that was killed at its end"
        if other:
            logger.bind(target=memory.target, table=table.plain).warning(
                f"{other}, since this job remembered it: all rows are sent and compared"
            )
    return present.rows, difference if is_known else None


def apply_staged(session: Session[C], prepared: Prepared[C]) -> Prepared[C]:
    """Change one table to what was staged of its mart. Raises EtlError."""
    started = time.perf_counter()
    mart, change = prepared.mart, prepared.change
    changes = Changes(inserted=prepared.filled.rows if prepared.filled else 0)
    if change is not None:
        if prepared.found.is_narrow:
            session.prepare(mart.table, mart.columns, prepared.about)
        changes = session.apply(change, is_new=prepared.found.is_new)
    elif prepared.filled is None:
        session.add_indexes(mart.table, mart.publication)
    seconds = prepared.seconds + time.perf_counter() - started
    return dataclasses.replace(prepared, changes=changes, seconds=seconds)


def settle(
    session: Session[C],
    cursor: duckdb.DuckDBPyConnection,
    prepared: Prepared[C],
    marks: Table,
    *,
    dry_run: bool,
) -> Loaded:
    """Compare a table with its mart, and mark it, when all tables have been changed.

    Raises ReconciliationError.
    """
    started = time.perf_counter() - prepared.seconds
    mart, change, after, whole = prepared.mart, prepared.change, prepared.filled, prepared.whole
    table, changes, strategy = mart.table, prepared.changes, mart.publication.strategy
    # Of other strategies, what the mart has no more stays.
    expected = mart.rows if strategy == "replace" else prepared.rows + changes.inserted
    if change is not None:
        after = session.reconcile(change, expected)
    if (change is None or change.difference is not None) and session.did_more(table, changes):
        # Others were written to than were sent. So all of them have to be compared.
        columns = mart.keys if strategy == "append_once" else mart.columns
        staged = session.stage(mart.deliver(cursor, columns, mart.relation.sql))
        whole, change = whole or change is None, Change(table, mart.publication, staged)
        after = session.reconcile(change, expected)
    elif change is None and after is not None:
        check_rows(table, strategy, expected, after.rows, mart.memory.target)
    publication_id, shape = None, ""
    if after is not None:
        found = prepared.found
        shape = _shape(mart, session.find(table, mart.columns) if found.is_narrow else found)
        publication_id = uuid.uuid4().hex
        session.write_mark(marks, table, mart.publication.model, Mark(publication_id, after))
    run = record(
        mart.publication, mart.memory.target, changes if changes != Changes() else None,
        rows=after.rows if after else prepared.rows, dry_run=dry_run,
        seconds=time.perf_counter() - started, reconciled=True,
    )  # fmt: skip
    return Loaded(run, publication_id, shape, whole)
