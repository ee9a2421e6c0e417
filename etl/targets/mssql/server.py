"""The connection to a SQL Server, and how it is asked for one row or how many rows it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from etl.targets.mssql.address import read_address, write_address
from etl.targets.mssql.driver import load_driver
from etl.targets.mssql.failures import classify
from etl.warehouse import quoted

if TYPE_CHECKING:
    import pyodbc

Connection: TypeAlias = "pyodbc.Connection"

CONNECT_SECONDS = 10
LOCK_SECONDS = 60
# A column's name that no trigger selects.
_WRITTEN = "etl: rows"


@contextmanager
def connected(dsn: str, target: str) -> Iterator[Connection]:
    """A connection in one transaction; what the caller does not commit is rolled back.

    Raises:
        ConfigError: no driver, or a `dsn` that is none.
        UnreachableError, AuthError: as the server, or the network, says.
    """
    attributes = read_address(dsn, target)
    pyodbc, driver = load_driver(target)
    # With FMTONLY the driver can look at temporary tables when it describes their parameters.
    address = f"Driver={driver};APP=etl;UseFMTONLY=Yes;{write_address(attributes)}"
    try:
        connection = pyodbc.connect(address, timeout=CONNECT_SECONDS, autocommit=False)
    except pyodbc.Error as error:
        raise classify(error, target, "connecting") from error
    try:
        # What a row's failure ends is the statement: its key is found in the same transaction.
        # Who only reads is never chosen as a deadlock's victim in our place.
        connection.execute(
            "SET NOCOUNT ON; SET XACT_ABORT OFF; SET DEADLOCK_PRIORITY LOW; "
            "SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET ANSI_WARNINGS ON; "
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
            f"SET LOCK_TIMEOUT {int(LOCK_SECONDS * 1000)}"
        )
        yield connection
    except pyodbc.Error as error:
        raise classify(error, target, "publishing") from error
    finally:
        with suppress(pyodbc.Error):  # a connection that was lost cannot be rolled back
            connection.rollback()
        with suppress(pyodbc.Error):
            connection.close()


def fetch_one(connection: Connection, sql: str) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row = connection.execute(sql).fetchone()
    assert row is not None, sql  # noqa: S101  a query of ours with one row
    return tuple(row)


def write(connection: Connection, sql: str) -> int:
    """Run a statement that writes; of how many rows.

    The server is asked for that: the statements of a trigger report their counts in place of ours.
    What a trigger selects or prints comes first, and what fails after that is raised there.
    """
    cursor = connection.execute(f"{sql}; SELECT ROWCOUNT_BIG() AS {quoted(_WRITTEN)}")
    while not (cursor.description and cursor.description[0][0] == _WRITTEN):
        if not cursor.nextset():
            raise RuntimeError("the server did not tell how many rows were written")
    return int(cursor.fetchall()[0][0])
