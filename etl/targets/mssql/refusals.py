"""Names what SQL Server refused: the row's key and the column, found by trying ever fewer rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import EtlError
from etl.targets.mssql.columns import Column
from etl.targets.mssql.failures import classify, is_of_rows, is_of_types, words_of
from etl.targets.mssql.server import Connection, fetch_one, write
from etl.targets.mssql.statements import Statements
from etl.targets.mssql.tables import Present
from etl.targets.server.refusals import first_refused, mismatch, refusal
from etl.targets.server.session import ROW, Change
from etl.warehouse import quoted

if TYPE_CHECKING:
    import pyodbc

SAVEPOINT = "etl_attempt"


def refused_row(
    connection: Connection,
    error: pyodbc.Error,
    change: Change[Column],
    present: dict[str, Present],
    target: str,
    *,
    is_open: bool,
) -> EtlError:
    """The error of a change that failed, with the first staged row that fails by itself.

    `present` is what the table's columns are there. Once the server has ended the transaction, it
    `is_open` no more: what was staged is gone, and nothing can be tried.
    """
    table = change.table.plain
    if is_of_types(error):
        # The server may have ended the transaction, so nothing more can be tried.
        wrong = [
            (c.name, present[c.name].type, c.type)
            for c in change.staged.columns
            if c.name in present and present[c.name].type != c.type
        ]
        return mismatch(change, target, wrong, words_of(error))
    if not is_of_rows(error):
        return classify(error, target, f"publishing {table}")
    sql = Statements(change)

    def attempt(low: int, high: int) -> pyodbc.Error | None:
        return _try(connection, *sql.bring(low, high))

    found = first_refused(change.staged.rows, attempt) if is_open else None
    if found is None:
        return refusal(words_of(error), table, target, column=None, key={})
    place, error = found
    key = change.publication.key
    values: dict[str, str] = {}
    where = f"FROM {change.staged.sql} AS s WHERE s.{ROW} = {place + 1}"
    if key:
        listed = ", ".join(f"CAST(s.{quoted(k)} AS nvarchar(4000))" for k in key)
        row = fetch_one(connection, f"SELECT {listed} {where}")
        values = dict(zip(key, map(str, row), strict=True))
    column = _unfit_column(connection, change, present, where)
    return refusal(words_of(error), table, target, column=column, key=values)


def _try(connection: Connection, *statements: str) -> pyodbc.Error | None:
    """Run statements and take them back; what they failed with."""
    import pyodbc

    connection.execute(f"SAVE TRANSACTION {SAVEPOINT}")
    try:
        for statement in statements:
            write(connection, statement)
    except pyodbc.Error as error:
        if not is_of_rows(error):
            raise
        return error
    finally:
        connection.execute(f"ROLLBACK TRANSACTION {SAVEPOINT}")
    return None


def _unfit_column(
    connection: Connection,
    change: Change[Column],
    present: dict[str, Present],
    where: str,
) -> str | None:
    """The column whose value in this row does not fit its type, None when all do."""
    tests = []
    for column in change.staged.columns:
        theirs, value = present.get(column.name), f"s.{column.sql}"
        if theirs is None:
            continue
        unfit = f"({value} IS NOT NULL AND TRY_CAST({value} AS {theirs.type}) IS NULL)"
        if column.is_text and theirs.kind in {"char", "varchar", "nchar", "nvarchar"}:
            # A cast cuts what is too long without a word.
            unfit = f"LEN({value} + N'.') - 1 > {theirs.length}" if theirs.length > 0 else "1 = 0"
        if not theirs.is_nullable:
            unfit += f" OR {value} IS NULL"
        tests.append((column.name, unfit))
    if not tests:
        return None
    which = " ".join(f"WHEN {unfit} THEN {i}" for i, (_, unfit) in enumerate(tests))
    (place,) = fetch_one(connection, f"SELECT CASE {which} END {where}")
    return tests[int(place)][0] if place is not None else None
