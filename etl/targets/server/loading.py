"""One mart and its table: whether the difference is known, what is sent, what is recorded."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
    Staged,
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
    memory = Published(cursor, name, table.plain, relation, publication.key)
    seconds = time.perf_counter() - started
    return Mart(publication, table, relation, columns, rows, memory, seconds)


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
    changes: Changes = field(default_factory=Changes)
    seconds: float = 0.0


@dataclass(frozen=True)
class Loading(Generic[C]):
    """What becomes of each mart within one transaction, in the order of the methods.

    They raise EtlError, or what the driver raises.
    """

    session: Session[C]
    cursor: duckdb.DuckDBPyConnection
    marks: Table

    def stage(self, mart: Mart[C]) -> Prepared[C]:
        """Find out what differs and bring it to the server."""
        started = time.perf_counter()
        prepared = self._stage(mart)
        return dataclasses.replace(prepared, seconds=mart.seconds + time.perf_counter() - started)

    def apply(self, prepared: Prepared[C]) -> Prepared[C]:
        """Change one table to what was staged of its mart."""
        started = time.perf_counter()
        mart, change = prepared.mart, prepared.change
        changes = Changes(inserted=prepared.filled.rows if prepared.filled else 0)
        if change is not None:
            if prepared.found.is_narrow:
                self.session.prepare(mart.table, mart.columns, prepared.about)
            changes = self.session.apply(change, is_new=prepared.found.is_new)
        elif prepared.filled is None:
            self.session.add_indexes(mart.table, mart.publication)
        seconds = prepared.seconds + time.perf_counter() - started
        return dataclasses.replace(prepared, changes=changes, seconds=seconds)

    def settle(self, prepared: Prepared[C], *, dry_run: bool) -> tuple[LoadRun, Callable[[], None]]:
        """Compare a table with its mart, and mark it, when all tables have been changed.

        What was done, and what notes in the warehouse, after the commit, what the target has now.
        """
        started = time.perf_counter() - prepared.seconds
        mart, change, after = prepared.mart, prepared.change, prepared.filled
        table, changes, publication = mart.table, prepared.changes, mart.publication
        # Of other strategies, what the mart has no more stays.
        replaced = publication.strategy == "replace"
        expected = mart.rows if replaced else prepared.rows + changes.inserted
        if change is not None:
            after = self.session.reconcile(change, expected)
        in_part = change is not None and change.difference is not None
        if (change is None or in_part) and self.session.did_more(table, changes):
            # Others were written to than were sent. So all of them have to be compared.
            columns = mart.keys if publication.strategy == "append_once" else mart.columns
            staged = self._bring(mart, columns, mart.relation.sql)
            after = self.session.reconcile(Change(table, publication, staged), expected)
        elif change is None and after is not None:
            check_rows(table, publication.strategy, expected, after.rows, mart.memory.target)
        # A table or column that had to be made is something to tell, also when it took no row.
        is_changed = changes != Changes() or prepared.found.is_narrow
        run = record(
            publication, mart.memory.target, changes if is_changed else None,
            rows=after.rows if after else prepared.rows, dry_run=dry_run,
            seconds=time.perf_counter() - started, reconciled=True,
        )  # fmt: skip
        if after is None:
            return run, lambda: None
        found = prepared.found
        shape = _shape(mart, self.session.find(table, mart.columns) if found.is_narrow else found)
        publication_id = uuid.uuid4().hex
        self.session.write_mark(self.marks, table, publication.model, Mark(publication_id, after))
        return run, partial(mart.memory.write, shape, publication_id, whole=not in_part)

    def _stage(self, mart: Mart[C]) -> Prepared[C]:
        publication, target = mart.publication, mart.memory.target
        sent, gone = mart.relation.sql, None
        found = self.session.find(mart.table, mart.columns)
        about: dict[str, str] = {}
        if found.is_narrow:
            about = read_comments(self.cursor, warehouse_name(self.cursor), publication.model)
        rows, difference = (0, None) if found.is_new else self._compare(mart, found)
        if difference == Changes():
            return Prepared(mart, found, about, rows)
        if difference is None:  # else its key is as good as it was then
            with reading(publication, target):
                check_key(self.cursor, mart.relation, publication, target)
        if found.is_new:
            if mart.memory.exists():
                warn_of_loss(publication, target)
            # As long as its rows are the only ones, there is nothing to be compared with.
            filled = self.session.fill(self._deliver(mart, mart.columns, sent), publication, about)
            if filled is not None:
                return Prepared(mart, found, about, rows, filled=filled)
        if difference is not None:
            listed = mart.memory.difference
            same = " AND ".join(f"m.{quoted(k)} = d.{quoted(k)}" for k in publication.key)
            sent = f"(SELECT m.* FROM {sent} AS m SEMI JOIN {listed} AS d ON {same})"
            if difference.deleted and publication.strategy == "replace":
                gone = self._bring(
                    mart, mart.keys, f"(SELECT * FROM {listed} WHERE {HASH} IS NULL)"
                )
        staged = self._bring(mart, mart.columns, sent)
        change = Change(mart.table, publication, staged, difference, gone)
        return Prepared(mart, found, about, rows, change)

    def _bring(self, mart: Mart[C], columns: tuple[C, ...], rows: str) -> Staged[C]:
        return self.session.stage(self._deliver(mart, columns, rows))

    def _deliver(self, mart: Mart[C], columns: tuple[C, ...], rows: str) -> Delivery[C]:
        key = mart.publication.key
        return Delivery(self.cursor, rows, columns, mart.table, mart.memory.target, key)

    def _compare(self, mart: Mart[C], found: Found) -> tuple[int, Changes | None]:
        """The table's rows, and how the mart differs from it; None when that is not known by row.

        It is known by what this job remembers of its last publication, if the mark is of that one
        and nobody has written to the table since.
        """
        publication, table, memory = mart.publication, mart.table, mart.memory
        mark = None if found.is_narrow else self.session.read_mark(self.marks, table)
        last, difference = memory.read(_shape(mart, found)), None
        with self.session.counting(table) as counted:
            if mark is not None and last is not None and mark.publication_id == last.publication_id:
                with reading(publication, memory.target):
                    likely = publication.evaluated
                    difference = memory.compare(mart.rows, last.content, likely=likely)
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
