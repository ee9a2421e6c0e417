"""Finds columns whose type at PostgreSQL makes other values of a mart's: it rounds, pads, cuts."""

from __future__ import annotations

from etl.errors import ReconciliationError
from etl.targets.postgres.columns import Column
from etl.targets.postgres.server import Connection, execute, fetch_one
from etl.targets.postgres.statements import Statements
from etl.targets.server.refusals import COLUMN, change_there, told_types
from etl.targets.server.session import Change, Table

_FLOATS = {"real", "double precision"}


def changed_by_types(
    connection: Connection, change: Change[Column], error: ReconciliationError
) -> ReconciliationError:
    """The error of rows that are not there as they were sent, with the columns whose type did it.

    The type there takes the mart's values, and makes others of them: it rounds them, or pads them.
    """
    sql, types, wrong = Statements(change), types_there(connection, change.table), []
    for column in change.staged.columns:
        theirs = types[column.name]
        (changes,) = fetch_one(
            connection,
            f"SELECT EXISTS (SELECT 1 FROM {change.staged.sql} AS s, "
            f"LATERAL (SELECT CAST({column.unstaged} AS {theirs}) AS {column.sql}) AS t "
            f"WHERE {sql.differs([column])})",
        )
        if changes:
            wrong.append((column.name, theirs, column.type))
    if not wrong:
        return error
    return ReconciliationError(
        f"{error.message}; {told_types(wrong)}",
        subject=error.subject,
        hint=change_there(COLUMN, change.publication),
    )


def refuse_lost_digits(connection: Connection, change: Change[Column], target: str) -> None:
    """Raise ReconciliationError for numbers that a column of floats there made others of.

    The server compares them as floats, so both are the same to it.
    """
    types, wrong = types_there(connection, change.table), []
    for column in change.staged.columns:
        theirs, staged = types[column.name], column.unstaged
        if theirs not in _FLOATS or column.type in _FLOATS:
            continue
        (lost,) = fetch_one(
            connection,
            f"SELECT EXISTS (SELECT 1 FROM {change.staged.sql} AS s "
            f"WHERE {staged}::{theirs}::text::numeric <> {staged}::numeric)",
        )
        if lost:
            wrong.append((column.name, theirs, column.type))
    if wrong:
        raise ReconciliationError(
            f"{change.table.plain} at target {target}: {told_types(wrong)}: digits would be lost",
            subject=target,
            hint=change_there(COLUMN, change.publication),
        )


def types_there(connection: Connection, table: Table) -> dict[str, str]:
    """The types of a table's columns by name, as SQL writes them."""
    listed = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND NOT attisdropped"
    )
    return dict(execute(connection, listed, table.sql).fetchall())
