"""Changes a table to what was staged, by strategy, and compares the two afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import ReconciliationError
from etl.targets.comparison import Changes
from etl.targets.postgres.columns import Column
from etl.targets.postgres.server import execute, fetch_one
from etl.targets.postgres.tables import Table
from etl.targets.publication import Publication, quote

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Staged:
    """A staging table at the target, gone with the transaction."""

    name: str
    columns: tuple[Column, ...]
    rows: int

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"pg_temp.{quote(self.name)}"


@dataclass(frozen=True)
class Change:
    """What shall happen to one table.

    `staged` holds rows of the mart: all of them, or (with `gone`) those that came or changed.
    `gone` holds the keys of rows that left the mart since the last publication.
    """

    table: Table
    publication: Publication
    staged: Staged
    gone: Staged | None = None

    @property
    def same_key(self) -> str:
        """SQL: `s` and `t` are the same row."""
        return " AND ".join(f"t.{quote(k)} = s.{quote(k)}" for k in self.publication.key)

    @property
    def differs(self) -> str:
        """SQL: `s` and `t` differ in some column, compared as the types of both ask for."""
        theirs = ", ".join(f"t.{c.sql}" for c in self.staged.columns)
        ours = ", ".join(c.unstaged for c in self.staged.columns)
        return f"ROW({theirs}) IS DISTINCT FROM ROW({ours})"

    def insert(self, where: str = "true") -> str:
        """SQL: staged rows that the table lacks (all of them, without a key)."""
        names = ", ".join(c.sql for c in self.staged.columns)
        ours = ", ".join(c.unstaged for c in self.staged.columns)
        absent = (
            f"NOT EXISTS (SELECT 1 FROM {self.table.sql} AS t WHERE {self.same_key})"  # noqa: S608
            if self.publication.key
            else "true"
        )
        return (
            f"INSERT INTO {self.table.sql} ({names}) "  # noqa: S608
            f"SELECT {ours} FROM {self.staged.sql} AS s WHERE {where} AND {absent}"
        )

    def update(self, where: str = "true") -> str | None:
        """SQL: rows of the table whose staged version differs; None if there is only a key."""
        key = set(self.publication.key)
        values = [f"{c.sql} = {c.unstaged}" for c in self.staged.columns if c.name not in key]
        if not values:
            return None
        return (
            f"UPDATE {self.table.sql} AS t SET {', '.join(values)} "  # noqa: S608
            f"FROM {self.staged.sql} AS s WHERE {where} AND {self.same_key} AND {self.differs}"
        )


def apply(connection: psycopg.Connection[Any], change: Change, *, is_new: bool) -> Changes:
    """Delete, update, insert, in this order; how many of each. Raises psycopg.Error."""
    strategy = change.publication.strategy
    deleted = 0 if is_new or strategy != "replace" else _delete(connection, change)
    updated = 0
    if not is_new and strategy != "append_once" and change.publication.key:
        update = change.update()
        updated = execute(connection, update).rowcount if update else 0
    inserted = execute(connection, change.insert()).rowcount
    return Changes(inserted, updated, deleted)


def _delete(connection: psycopg.Connection[Any], change: Change) -> int:
    table, key = change.table.sql, change.publication.key
    if change.gone is not None:
        same = " AND ".join(f"t.{quote(k)} = g.{quote(k)}" for k in key)
        sql = f"DELETE FROM {table} AS t USING {change.gone.sql} AS g WHERE {same}"  # noqa: S608
    elif not key or _has_duplicates(connection, change):
        # DELETE, not TRUNCATE: that shows an empty table to readers whose snapshot is older.
        sql = f"DELETE FROM {table}"  # noqa: S608
    else:
        sql = (
            f"DELETE FROM {table} AS t WHERE NOT EXISTS "  # noqa: S608
            f"(SELECT 1 FROM {change.staged.sql} AS s WHERE {change.same_key})"
        )
    return execute(connection, sql).rowcount


def _has_duplicates(connection: psycopg.Connection[Any], change: Change) -> bool:
    """True when somebody wrote a key twice into a table without a constraint on it."""
    keys = ", ".join(f"t.{quote(k)}" for k in change.publication.key)
    (found,) = fetch_one(
        connection,
        f"SELECT EXISTS (SELECT 1 FROM {change.table.sql} AS t "  # noqa: S608
        f"GROUP BY {keys} HAVING count(*) > 1)",
    )
    return bool(found)


def check_rows(table: Table, mart_rows: int, rows: int, target: str) -> None:
    """Raise ReconciliationError when a replaced table has more or fewer rows than its mart."""
    if rows != mart_rows:
        raise ReconciliationError(
            f"{table.plain} at target {target}: {rows} rows after publishing, {mart_rows} in the "
            "warehouse",
            subject=target,
            hint=_HINT,
        )


def reconcile(
    connection: psycopg.Connection[Any], change: Change, mart_rows: int, rows: int, target: str
) -> None:
    """Compare the table with what was staged and with the mart's count.

    Rows that were not staged kept their version since they were compared, which the mark says.
    Raises ReconciliationError.
    """
    where, staged = f"{change.table.plain} at target {target}", change.staged
    if change.publication.strategy == "replace":
        check_rows(change.table, mart_rows, rows, target)
    if change.publication.key:
        wrong = "false" if change.publication.strategy == "append_once" else change.differs
        found, different = fetch_one(
            connection,
            f"SELECT count(*), count(*) FILTER (WHERE {wrong}) FROM {staged.sql} AS s "  # noqa: S608
            f"JOIN {change.table.sql} AS t ON {change.same_key}",
        )
    else:
        theirs = ", ".join(f"t.{c.sql}" for c in staged.columns)
        ours = ", ".join(c.unstaged for c in staged.columns)
        (different,) = fetch_one(
            connection,
            f"SELECT count(*) FROM (SELECT {ours} FROM {staged.sql} AS s "  # noqa: S608
            f"EXCEPT ALL SELECT {theirs} FROM {change.table.sql} AS t) AS d",
        )
        found = rows
    if found != staged.rows or different:
        raise ReconciliationError(
            f"{where}: {staged.rows} rows were sent, {found} are there, {different} of them "
            "with other values",
            subject=target,
            hint=_HINT,
        )


_HINT = (
    "the target keeps its old rows; look for triggers, rules, row security and column types "
    "that change what is written"
)
