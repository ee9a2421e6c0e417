"""Brings rows to a staging table, or a new one: Arrow batches from DuckDB into a binary COPY."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from etl.errors import ReconciliationError
from etl.targets.batches import read_batches
from etl.targets.postgres.columns import Column
from etl.targets.postgres.refusals import refused_copy
from etl.targets.postgres.rows import END, HEAD, Rows, found_sum, write_rows
from etl.targets.postgres.server import execute, fetch_one
from etl.targets.postgres.versions import sum_versions
from etl.targets.publication import quote
from etl.targets.server.session import ROW, Staged, Table, Versions

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

BATCH_ROWS = 8192
_MODULUS = 1 << 64
# Fewer rows than this, and the server's guesses about a fresh table do no harm.
_ANALYZE_ROWS = 1000


def stage(
    connection: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    columns: tuple[Column, ...],
    rows_sql: str,
    target: str,
    table: str,
    key: tuple[str, ...],
) -> Staged[Column]:
    """Copy the rows of a FROM clause into a new staging table and check that all came as sent.

    `table` and `key` are what an error names. Raises LoadError, ReconciliationError,
    UnreachableError.
    """
    staged = f"pg_temp.{quote(name)}"
    listed = ", ".join(f"{c.sql} {c.staged_type}" for c in columns)
    execute(
        connection,
        f"CREATE TEMP TABLE {quote(name)} ({listed}, {ROW} bigint GENERATED ALWAYS AS IDENTITY) "
        "ON COMMIT DROP",
    )
    sent = _copy(connection, cursor, staged, columns, rows_sql, target, table, key)
    found = _sum(connection, staged, columns)
    _check_arrival(sent, Sum(*found), table, target)
    if key and sent.rows >= _ANALYZE_ROWS:
        # What it is joined by; nothing else of it is guessed at.
        keys = ", ".join(map(quote, key))
        execute(connection, f"ANALYZE {staged} ({keys})")
    return Staged(staged, columns, sent.rows)


def fill(
    connection: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    table: Table,
    columns: tuple[Column, ...],
    rows_sql: str,
    target: str,
    key: tuple[str, ...],
) -> Versions:
    """Copy rows straight into a table that this transaction made, and check that all came as sent.

    Nobody else sees it before the commit, and nothing stands in it that would have to be compared.
    Raises as `stage` does.
    """
    sent = _copy(connection, cursor, table.sql, columns, rows_sql, target, table.plain, key)
    summed = sum_versions(connection.info.server_version)
    rows, total, versions = _sum(connection, table.sql, columns, summed)
    _check_arrival(sent, Sum(rows, total), table.plain, target)
    return Versions(rows, versions)


@dataclass(frozen=True)
class Sum:
    """Rows and their checksum."""

    rows: int
    total: int

    def __str__(self) -> str:
        return f"{self.rows} rows, checksum {self.total % _MODULUS:x}"

    def agrees(self, other: Sum) -> bool:
        """True when both are of the same rows."""
        return (self.rows, self.total % _MODULUS) == (other.rows, other.total % _MODULUS)


def _sum(
    connection: psycopg.Connection[Any], table: str, columns: Iterable[Column], *more: str
) -> tuple[int, ...]:
    """Count, checksum and more sums of a table, in one pass; the server may do it in parallel."""
    listed = "".join(f", {m}" for m in more)
    found = fetch_one(
        connection,
        f"SELECT count(*), {found_sum(columns)}{listed} FROM {table} AS t",
    )
    return tuple(int(value) for value in found)


def _check_arrival(sent: Sum, found: Sum, table: str, target: str) -> None:
    if not sent.agrees(found):
        raise ReconciliationError(
            f"{table} at target {target}: {found} arrived; {sent} were sent", subject=target
        )


def _copy(
    connection: psycopg.Connection[Any],
    cursor: duckdb.DuckDBPyConnection,
    into: str,
    columns: tuple[Column, ...],
    rows_sql: str,
    target: str,
    table: str,
    key: tuple[str, ...],
) -> Sum:
    import psycopg

    rows, total = 0, 0
    try:
        with (
            connection.transaction(),
            connection.cursor().copy(_copy_into(into, columns).encode()) as copy,
        ):
            copy.write(HEAD)
            # Closed before anything else is asked of the cursor, also when the server refuses.
            with closing(_written_ahead(columns, _read(cursor, columns, rows_sql))) as ahead:
                for written in ahead:
                    copy.write(written.data)
                    rows += len(written)
                    total += written.total
            copy.write(END)
    except psycopg.Error as error:
        raise refused_copy(
            connection,
            error,
            table,
            lambda some: _copy_into(into, some),
            columns,
            key,
            # The same rows again, with the key's values as texts behind the columns.
            _read(cursor, columns, rows_sql, key),
            target,
        ) from error
    return Sum(rows, total)


def _written_ahead(
    columns: tuple[Column, ...], batches: Iterator[pa.RecordBatch]
) -> Generator[Rows]:
    """Rows of each batch, those of the next one written while the server takes these.

    A socket holds back no more than a part of a batch, so that one of both would always wait.
    """

    def write() -> Rows | None:
        batch = next(batches, None)
        return write_rows(columns, batch.columns) if batch is not None else None

    with ThreadPoolExecutor(max_workers=1) as writer:
        written = write()
        while written is not None:
            following = writer.submit(write)
            yield written
            written = following.result()


def _copy_into(table: str, columns: Iterable[Column]) -> str:
    """The COPY statement for rows of these columns."""
    return f"COPY {table} ({', '.join(c.sql for c in columns)}) FROM STDIN (FORMAT binary)"


def _read(
    cursor: duckdb.DuckDBPyConnection,
    columns: tuple[Column, ...],
    rows_sql: str,
    named: tuple[str, ...] = (),
) -> Iterator[pa.RecordBatch]:
    """Rows of a FROM clause in the types that `write_rows` takes; then some columns as texts."""
    listed = [f"{c.sent} AS {quote(f'etl: value {i}')}" for i, c in enumerate(columns)]
    listed += [f"{quote(k)}::VARCHAR AS {quote(f'etl: key {i}')}" for i, k in enumerate(named)]
    return read_batches(cursor, f"SELECT {', '.join(listed)} FROM {rows_sql}", BATCH_ROWS)
