"""Brings rows to a staging table: Arrow batches from DuckDB as arrays of parameters."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from etl.targets.batches import read_batches
from etl.targets.mssql.columns import LONGEST, Column, found_share, select_refused, share
from etl.targets.mssql.server import Connection, fetch_one
from etl.targets.server.refusals import refusal
from etl.targets.server.session import ROW, Delivery, Staged, Sum

BATCH_ROWS = 8192
# pyodbc makes room for the longest value of each column in every row of an array.
ARRAY_BYTES = 16 << 20
_LONGEST_BINARY = 8000
_SCALAR_BYTES = 16


def stage(connection: Connection, delivery: Delivery[Column]) -> Staged[Column]:
    """Bring rows to a new staging table, and check that all came as sent.

    Raises LoadError, ReconciliationError, pyodbc.Error.
    """
    _refuse(delivery)
    columns, name = delivery.columns, uuid.uuid4().hex[:12]
    raw, typed = f"#etl_sent_{name}", f"#etl_staged_{name}"
    listed = ", ".join(f"{c.sql} {c.sent_type} NULL" for c in columns)
    connection.execute(f"CREATE TABLE {raw} ({ROW} bigint IDENTITY(1,1) NOT NULL, {listed})")
    sent = _send(connection, delivery, raw)
    found = fetch_one(
        connection, f"SELECT COUNT_BIG(*), COALESCE(SUM({found_share(columns)}), 0) FROM {raw}"
    )
    delivery.check(sent, Sum(*map(int, found)))
    # With their types: the server then knows how values spread when it plans the statements.
    values = ", ".join(c.typed for c in columns)
    connection.execute(f"SELECT {ROW} + 0 AS {ROW}, {values} INTO {typed} FROM {raw}")
    connection.execute(f"DROP TABLE {raw}")
    return Staged(typed, columns, sent.rows)


def _refuse(delivery: Delivery[Column]) -> None:
    """Raise LoadError for a value that SQL Server does not have, before anything is sent."""
    key = delivery.key
    sql = select_refused(delivery.columns, delivery.rows, key)
    row = delivery.cursor.execute(sql).fetchone() if sql else None
    if row is not None:
        column = delivery.columns[int(row[0])]
        raise refusal(
            f"SQL Server has no such value of type {column.type}: {str(row[1])[:100]}",
            delivery.table.plain, delivery.target, column=column.name,
            key=dict(zip(key, map(str, row[2:]), strict=True)),
        )  # fmt: skip


def _send(connection: Connection, delivery: Delivery[Column], raw: str) -> Sum:
    """Rows and checksum of what was sent."""
    columns = delivery.columns
    names = ", ".join(c.sql for c in columns)
    places = ", ".join("?" * len(columns))
    insert = f"INSERT INTO {raw} ({names}) VALUES ({places})"
    rows, total = 0, 0
    # Closed, not left by `with`: pyodbc commits when a cursor's block ends.
    with closing(connection.cursor()) as sender:
        sender.fast_executemany = True
        for values, sizes in read_arrays(delivery.cursor, columns, delivery.rows):
            sender.setinputsizes([_input_size(c, s) for c, s in zip(columns, sizes, strict=True)])
            sender.executemany(insert, values)
            rows += len(values)
            total += sum(share(columns, row) for row in values)
    return Sum(rows, total)


def read_arrays(
    cursor: duckdb.DuckDBPyConnection, columns: tuple[Column, ...], rows_sql: str
) -> Iterator[tuple[list[tuple[Any, ...]], list[int]]]:
    """Rows as they are sent, as many at once as fit an array, with each column's longest value.

    Lengths are in UTF-16 units at most, or bytes; 0 for what has one size.
    """
    values = ", ".join(f"{c.sent} AS c{i}" for i, c in enumerate(columns))
    for batch in read_batches(cursor, f"SELECT {values} FROM {rows_sql}", BATCH_ROWS):
        place = 0
        while place < batch.num_rows:
            sizes = _sizes(batch.slice(place), columns)
            width = sum(2 * s if s else _SCALAR_BYTES for s in sizes)
            some = batch.slice(place, max(1, ARRAY_BYTES // width))
            place += some.num_rows
            yield list(zip(*(c.to_pylist() for c in some.columns), strict=True)), sizes


def _sizes(batch: pa.RecordBatch, columns: tuple[Column, ...]) -> list[int]:
    # A character's bytes in UTF-8 are never fewer than its units in UTF-16.
    return [
        0 if c.is_float else max(1, pc.max(pc.binary_length(values)).as_py() or 0)
        for c, values in zip(columns, batch.columns, strict=True)
    ]


def _input_size(column: Column, size: int) -> tuple[int, int, int]:
    """What pyodbc shall take a column's parameters for; a size of 0 is `max`."""
    import pyodbc

    if column.is_float:
        return (pyodbc.SQL_REAL, 24, 0) if column.type == "real" else (pyodbc.SQL_DOUBLE, 53, 0)
    if column.is_binary:
        return pyodbc.SQL_VARBINARY, size if size <= _LONGEST_BINARY else 0, 0
    # One of few sizes: the server plans the statement anew for each.
    rounded = next((n for n in (40, 400, LONGEST) if size <= n), 0)
    return pyodbc.SQL_WVARCHAR, rounded, 0
