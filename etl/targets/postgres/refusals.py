"""Names what PostgreSQL refused: the row's key and the column, found by trying ever fewer rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import psycopg
import pyarrow as pa

from etl.errors import EtlError, LoadError
from etl.targets.postgres.columns import Column
from etl.targets.postgres.narrowing import types_there
from etl.targets.postgres.rows import Rows, copy_into, write_rows
from etl.targets.postgres.server import Connection, classify, execute, fetch_one
from etl.targets.postgres.statements import Statements
from etl.targets.server.refusals import (
    CORRECT,
    change_there,
    first_refused,
    mismatch,
    refusal,
)
from etl.targets.server.session import ROW, Change, Delivery
from etl.warehouse import quoted

T = TypeVar("T")
# Classes of SQLSTATE that one row's values cause: data exceptions and integrity constraints.
_OF_ROWS = ("22", "23")
# Datatype mismatch, undefined function (no such comparison), cannot coerce.
_OF_TYPES = {"42804", "42883", "42846"}
# What helps where the rows are good together, and each of them is checked by itself.
_TOGETHER = {
    "23503": f"{CORRECT}; a foreign key between tables of this target has to be "
    "DEFERRABLE INITIALLY DEFERRED: they change one after the other",
    "23505": f"{CORRECT}; where rows pass their values on to each other, the unique constraint has "
    "to be DEFERRABLE: others are checked row by row",
}


def is_of_rows(error: psycopg.Error) -> bool:
    """True when some row's values are refused, not the statement as such."""
    return (error.sqlstate or "").startswith(_OF_ROWS)


def refused_copy(
    connection: Connection,
    error: psycopg.Error,
    delivery: Delivery[Column],
    into: str,
    batches: Iterable[pa.RecordBatch],
) -> EtlError:
    """The error of a COPY into a table that failed, with the first row that fails by itself.

    Of each batch the columns come first, then the key's values as texts.
    """
    table, target, columns = delivery.table.plain, delivery.target, delivery.columns
    if not is_of_rows(error):
        return classify(error, target, f"copying {table}")
    for batch in batches:
        rows = write_rows(columns, batch.columns[: len(columns)])

        def attempt(low: int, high: int, rows: Rows = rows) -> psycopg.Error | None:
            return _try_copy(connection, copy_into(into, columns), rows.between(low, high))

        found = first_refused(len(rows), attempt)
        if found is None:
            continue
        place, error = found
        refused = batch.slice(place, 1)
        column = next(
            (c.name for c, values in zip(columns, refused.columns, strict=False)
             if _try_copy(connection, copy_into(into, [c]), write_rows([c], [values]).between(0, 1))
             is not None), None,
        )  # fmt: skip
        texts = refused.columns[len(columns) :]
        values = {k: str(t[0].as_py()) for k, t in zip(delivery.key, texts, strict=True)}
        return _refusal(error, table, target, column, values)
    return _refusal(error, table, target, None, {})


def refused_row(
    connection: Connection, error: psycopg.Error, change: Change[Column], target: str
) -> EtlError:
    """The error of a change that failed, with the first staged row that fails by itself."""
    table, sql = change.table.plain, Statements(change)
    if error.sqlstate in _OF_TYPES:
        return _mismatch(connection, error, change, target)
    if not is_of_rows(error):
        return classify(error, target, f"publishing {table}")

    def attempt(low: int, high: int) -> psycopg.Error | None:
        return _try(connection, *sql.bring(low, high))

    found = _without_what_leaves(
        connection, sql, lambda: first_refused(change.staged.rows, attempt)
    )
    key = change.publication.key
    hint = _hint_of_key(connection, change)
    if hint == CORRECT:
        hint = _TOGETHER.get(error.sqlstate or "", CORRECT)
    if found is None:
        return _refusal(error, table, target, error.diag.column_name, {}, hint)
    row, error = found[0] + 1, found[1]
    values: dict[str, str] = {}
    if key:
        listed = ", ".join(f"{quoted(k)}::text" for k in key)
        said = fetch_one(
            connection, f"SELECT {listed} FROM {change.staged.sql} WHERE {ROW} = {row}"
        )
        values = dict(zip(key, map(str, said), strict=True))
    column = error.diag.column_name or _column(connection, change, row)
    return _refusal(error, table, target, column, values, hint)


def refused_table(error: psycopg.Error, table: str, target: str) -> EtlError:
    """The error of a primary key or an index that a new table's rows do not bear."""
    if not is_of_rows(error):
        return classify(error, target, f"publishing {table}")
    return _refusal(error, table, target, error.diag.column_name, {})


def _mismatch(
    connection: Connection, error: psycopg.Error, change: Change[Column], target: str
) -> LoadError:
    """The error of columns whose types at the target cannot take, or be compared to, the mart's."""
    types, wrong = types_there(connection, change.table), []
    for column in change.staged.columns:
        compare = (
            f"SELECT ROW(t.{column.sql}) IS DISTINCT FROM ROW({column.unstaged}) "
            f"FROM {change.table.sql} AS t, {change.staged.sql} AS s LIMIT 0"
        )
        assign = (
            f"INSERT INTO {change.table.sql} ({column.sql}) SELECT {column.unstaged} "
            f"FROM {change.staged.sql} AS s LIMIT 0"
        )
        if _try(connection, compare, assign) is not None:
            wrong.append((column.name, types[column.name], column.type))
    if not wrong:  # a trigger's own failure
        return _refusal(error, change.table.plain, target, None, {})
    return mismatch(change, target, wrong, error.sqlstate or "")


def _column(connection: Connection, change: Change[Column], row: int) -> str | None:
    """The column whose value in this row does not fit its type, None when all do."""
    probe = 'pg_temp."etl probe"'
    execute(
        connection,
        f'CREATE TEMP TABLE "etl probe" ON COMMIT DROP AS '
        f"SELECT * FROM {change.table.sql} WITH NO DATA",
    )
    for column in change.staged.columns:
        statement = (
            f"INSERT INTO {probe} ({column.sql}) SELECT {column.unstaged} "
            f"FROM {change.staged.sql} AS s WHERE s.{ROW} = {row}"
        )
        if _try(connection, statement) is not None:
            return column.name
    return None


def _hint_of_key(connection: Connection, change: Change[Column]) -> str:
    """What helps: the table may still have the primary key of an earlier key of the load."""
    key = change.publication.key
    there = execute(
        connection,
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY (i.indkey) WHERE i.indisprimary AND i.indrelid = %s::regclass "
        "ORDER BY 1",
        change.table.sql,
    ).fetchall()
    names = [str(name) for (name,) in there]
    if not names or names == sorted(key):
        return CORRECT
    ours = f"the load's key is ({', '.join(key)})" if key else "the load has no key"
    helps = change_there("it", change.publication)
    return f"the primary key there is ({', '.join(names)}), {ours}: {helps}"


def _without_what_leaves(
    connection: Connection, sql: Statements, search: Callable[[], T | None]
) -> T | None:
    """Search while the rows that left the mart are gone: none of them stands against another.

    None when they may not go.
    """
    with connection.transaction(force_rollback=True):
        if sql.removes:
            try:
                execute(connection, sql.delete(everything=not sql.key))
            except psycopg.Error as error:
                if not is_of_rows(error):
                    raise
                return None
        return search()


def _try(connection: Connection, *statements: str) -> psycopg.Error | None:
    """Run statements and take them back; what they failed with."""
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements:
                execute(connection, statement)
    except psycopg.Error as error:
        if not (is_of_rows(error) or error.sqlstate in _OF_TYPES):
            raise
        return error
    return None


def _try_copy(connection: Connection, statement: str, rows: bytes) -> psycopg.Error | None:
    try:
        with (
            connection.transaction(force_rollback=True),
            connection.cursor().copy(statement.encode()) as copy,
        ):
            copy.write(rows)
    except psycopg.Error as error:
        if not is_of_rows(error):
            raise
        return error
    return None


def _refusal(
    error: psycopg.Error,
    table: str,
    target: str,
    column: str | None,
    key: dict[str, str],
    hint: str = CORRECT,
) -> LoadError:
    # Only the primary message: the detail quotes the whole row.
    said = error.diag.message_primary or type(error).__name__
    return refusal(
        f"{said} ({error.sqlstate})", table, target, column=column, key=key,
        constraint=error.diag.constraint_name, hint=hint,
    )  # fmt: skip
