"""Changes a table to what was staged, by strategy, and compares the two afterwards.

The statements are the same everywhere but for what `Statements` leaves open to a server's dialect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic

from etl.errors import ReconciliationError
from etl.settings import Strategy
from etl.targets.comparison import Changes
from etl.targets.server.session import ROW, C, Change, Table

Write = Callable[[str], int]
FetchOne = Callable[[str], tuple[Any, ...]]


class Statements(ABC, Generic[C]):
    """The statements of one change in a server's dialect; `t` is the table, `s` what was staged."""

    def __init__(self, change: Change[C]) -> None:
        self.change = change
        self.table = change.table.sql
        self.staged = change.staged
        self.key = change.publication.key

    @abstractmethod
    def exact(self, value: str, column: C) -> tuple[str, ...]:
        """SQL: of what a value is compared, so that only the same one is equal."""

    @abstractmethod
    def distinct(self, theirs: str, ours: str) -> str:
        """SQL: two lists of values differ; NULL is a value like others."""

    @abstractmethod
    def assign(self, assignments: str, where: str) -> str:
        """SQL: an update of the rows of `t` whose staged version differs; no other is written."""

    @property
    @abstractmethod
    def delete_from(self) -> str:
        """SQL: the head of a deletion from the table as `t`."""

    @property
    def insert_into(self) -> str:
        """SQL: the head of an insertion."""
        return f"INSERT INTO {self.table}"

    def value(self, column: C) -> str:
        """SQL: a staged value in its final type."""
        return f"s.{column.sql}"

    def same(self, column: C, other: str) -> str:
        """SQL: a key's column is the same in `t` and in alias `other`; keys are never NULL."""
        return f"t.{column.sql} = {other}.{column.sql}"

    def theirs(self, columns: Iterable[C]) -> list[str]:
        """SQL: of what values of `t` are compared."""
        return [part for c in columns for part in self.exact(f"t.{c.sql}", c)]

    def ours(self, columns: Iterable[C]) -> list[str]:
        """SQL: the same of staged values."""
        return [part for c in columns for part in self.exact(self.value(c), c)]

    def differs(self, columns: Iterable[C]) -> str:
        """SQL: `s` and `t` differ in one of these columns."""
        columns = tuple(columns)
        return self.distinct(", ".join(self.theirs(columns)), ", ".join(self.ours(columns)))

    def same_key(self, other: str = "s") -> str:
        """SQL: `t` and the row of the alias are the same row."""
        by_name = {c.name: c for c in self.staged.columns}
        return " AND ".join(self.same(by_name[k], other) for k in self.key)

    def update(self, where: str = "1 = 1") -> str | None:
        """SQL: rows whose staged version differs; None where no row can change."""
        rest = [c for c in self.staged.columns if c.name not in self.key]
        if not (self.key and rest) or self.change.publication.strategy == "append_once":
            return None
        return self.assign(", ".join(f"{c.sql} = {self.value(c)}" for c in rest), where)

    def insert(self, where: str = "1 = 1") -> str:
        """SQL: staged rows that the table lacks (all of them, without a key)."""
        names = ", ".join(c.sql for c in self.staged.columns)
        ours = ", ".join(self.value(c) for c in self.staged.columns)
        absent = (
            f"NOT EXISTS (SELECT 1 FROM {self.table} AS t WHERE {self.same_key()})"
            if self.key
            else "1 = 1"
        )
        return (
            f"{self.insert_into} ({names}) "
            f"SELECT {ours} FROM {self.staged.sql} AS s WHERE {where} AND {absent}"
        )

    def bring(self, low: int, high: int) -> list[str]:
        """SQL: what updates and inserts the staged rows after place `low` up to `high`."""
        where = f"s.{ROW} > {low} AND s.{ROW} <= {high}"
        return [sql for sql in (self.update(where), self.insert(where)) if sql]

    def delete(self, *, everything: bool) -> str:
        """SQL: rows that left the mart, or all rows."""
        if self.change.gone is not None:
            return (
                f"{self.delete_from} WHERE EXISTS "
                f"(SELECT 1 FROM {self.change.gone.sql} AS g WHERE {self.same_key('g')})"
            )
        if everything:
            # DELETE, not TRUNCATE: that shows an empty table to readers whose snapshot is older.
            return self.delete_from
        return (
            f"{self.delete_from} WHERE NOT EXISTS "
            f"(SELECT 1 FROM {self.staged.sql} AS s WHERE {self.same_key()})"
        )

    @property
    def removes(self) -> bool:
        """True when rows go before others come."""
        replaced = self.change.publication.strategy == "replace" and self.change.difference is None
        return self.change.gone is not None or replaced

    @property
    def forget(self) -> str:
        """SQL: of the staged rows, those that the table has once by key go: what it has stays."""
        return (
            f"DELETE FROM {self.staged.sql} WHERE {ROW} IN (SELECT s.{ROW} "
            f"FROM {self.staged.sql} AS s JOIN {self.table} AS t ON {self.same_key()} "
            f"GROUP BY s.{ROW} HAVING count(*) = 1)"
        )

    @property
    def staged_rows(self) -> str:
        """SQL: how many rows are staged."""
        return f"SELECT {_count()} FROM {self.staged.sql}"

    @property
    def doubled(self) -> str:
        """SQL: how many keys the table has more than once; only without a constraint on them."""
        keys = ", ".join(self.theirs(c for c in self.staged.columns if c.name in self.key))
        return (
            f"SELECT count(*) FROM (SELECT 1 AS n FROM {self.table} AS t "
            f"GROUP BY {keys} HAVING count(*) > 1) AS d"
        )

    @property
    def compared(self) -> str:
        """SQL: how many staged rows the table has by key, and how many of them differ."""
        # In two steps: SQL Server sums up no expression that has a query in it.
        differs = self.differs(self.staged.columns)
        pairs = (
            f"SELECT CASE WHEN {differs} THEN 1 ELSE 0 END AS n FROM {self.staged.sql} AS s "
            f"JOIN {self.table} AS t ON {self.same_key()}"
        )
        return f"SELECT {_count()}, {_count('d.n = 1')} FROM ({pairs}) AS d"

    @property
    def missing(self) -> str:
        """SQL: how many of the staged rows the table lacks, as bags of rows."""

        def bag(parts: list[str], source: str) -> str:
            named = ", ".join(f"{part} AS c{i}" for i, part in enumerate(parts))
            return f"SELECT {named}, {_count()} AS n FROM {source} GROUP BY {', '.join(parts)}"

        return (
            f"SELECT {_count()} FROM ("
            f"{bag(self.ours(self.staged.columns), f'{self.staged.sql} AS s')} EXCEPT "
            f"{bag(self.theirs(self.staged.columns), f'{self.table} AS t')}) AS d"
        )


def _count(condition: str = "1 = 1") -> str:
    """SQL: a count that does not end at 2^31 rows."""
    return f"coalesce(sum(CASE WHEN {condition} THEN CAST(1 AS bigint) ELSE 0 END), 0)"


def apply(statements: Statements[C], write: Write, fetch_one: FetchOne, *, is_new: bool) -> Changes:
    """Delete, update, insert, in this order; how many of each. Raises what the driver raises."""
    change, key = statements.change, statements.key
    strategy, difference = change.publication.strategy, change.difference
    inserted = updated = deleted = 0
    if statements.removes and not is_new:
        # Somebody may have written a key twice into a table without a constraint on it.
        everything = not key or (change.gone is None and int(fetch_one(statements.doubled)[0]) > 0)
        deleted = write(statements.delete(everything=everything))
    if strategy == "append_once" and not is_new:
        write(statements.forget)
    # A row that came may be one that left the mart, not the table, some time ago.
    may_be_there = difference is None or difference.updated or strategy == "merge"
    if not is_new and may_be_there and (update := statements.update()):
        updated = write(update)
    if difference is None or difference.inserted:
        inserted = write(statements.insert())
    return Changes(inserted, updated, deleted)


def check_rows(table: Table, strategy: Strategy, expected: int, rows: int, target: str) -> None:
    """Raise ReconciliationError when a replaced table has more or fewer rows than its mart.

    With another strategy, when it has fewer than it had and got.
    """
    if rows < expected or (strategy == "replace" and rows > expected):
        whose = "in the warehouse" if strategy == "replace" else "that came or had to stay"
        raise ReconciliationError(
            f"{table.plain} at target {target}: {rows} rows after publishing, {expected} {whose}",
            subject=target,
            hint=_HINT,
        )


def reconcile(
    statements: Statements[C], fetch_one: FetchOne, expected: int, rows: int, target: str
) -> None:
    """Compare the table with what was staged and with the count that is `expected`.

    Rows that were not staged kept their version since they were compared, which the mark says.
    Raises ReconciliationError.
    """
    table, strategy = statements.change.table, statements.change.publication.strategy
    where = f"{table.plain} at target {target}"
    check_rows(table, strategy, expected, rows, target)
    sent = statements.staged.rows
    if strategy == "append_once":
        (sent,) = map(int, fetch_one(statements.staged_rows))
    if statements.key:
        found, different = map(int, fetch_one(statements.compared))
    else:
        found, different = rows, int(fetch_one(statements.missing)[0])
    if found != sent or different:
        raise ReconciliationError(
            f"{where}: {sent} rows were sent, {found} are there, {different} of them "
            "with other values",
            subject=target,
            hint=_HINT,
        )


_HINT = (
    "the target keeps its old rows; look for triggers, foreign keys with ON DELETE, rules, row "
    "security and column types that change what is written, and for keys that the table has twice"
)
