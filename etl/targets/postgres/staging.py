"""Brings rows to a staging table, or a new one: Arrow batches from DuckDB into a binary COPY."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pyarrow as pa

from etl.targets.batches import read_batches
from etl.targets.postgres.columns import Column
from etl.targets.postgres.refusals import refused_copy
from etl.targets.postgres.rows import END, HEAD, Rows, copy_into, found_sum, write_rows
from etl.targets.postgres.server import Connection, execute, fetch_one
from etl.targets.postgres.versions import sum_versions
from etl.targets.server.session import ROW, Delivery, Staged, Sum, Versions
from etl.warehouse import quoted

BATCH_ROWS = 8192
_MODULUS = 1 << 64
# Fewer rows than this, and the server's guesses about a fresh table do no harm.
_ANALYZE_ROWS = 1000


def stage(connection: Connection, delivery: Delivery[Column]) -> Staged[Column]:
    """Copy rows into a new staging table and check that all came as sent.

    Raises LoadError, ReconciliationError, UnreachableError.
    """
    name = f"etl staged {uuid.uuid4().hex[:12]}"
    staged = f"pg_temp.{quoted(name)}"
    listed = ", ".join(f"{c.sql} {c.staged_type}" for c in delivery.columns)
    execute(
        connection,
        f"CREATE TEMP TABLE {quoted(name)} ({listed}, {ROW} bigint GENERATED ALWAYS AS IDENTITY) "
        "ON COMMIT DROP",
    )
    sent = _copy(connection, delivery, staged)
    rows, total = _sum(connection, staged, delivery.columns)
    delivery.check(sent, Sum(rows, total % _MODULUS))
    if delivery.key and sent.rows >= _ANALYZE_ROWS:
        # What it is joined by; nothing else of it is guessed at.
        keys = ", ".join(map(quoted, delivery.key))
        execute(connection, f"ANALYZE {staged} ({keys})")
    return Staged(staged, delivery.columns, sent.rows)


def fill(connection: Connection, delivery: Delivery[Column]) -> Versions:
    """Copy rows straight into a table that this transaction made, and check that all came as sent.

    Nobody else sees it before the commit, and nothing stands in it that would have to be compared.
    Raises as `stage` does.
    """
    table = delivery.table.sql
    sent = _copy(connection, delivery, table)
    summed = sum_versions(connection.info.server_version)
    rows, total, versions = _sum(connection, table, delivery.columns, summed)
    delivery.check(sent, Sum(rows, total % _MODULUS))
    return Versions(rows, versions)


def _sum(
    connection: Connection, table: str, columns: Iterable[Column], *more: str
) -> tuple[int, ...]:
    """Count, checksum and more sums of a table, in one pass; the server may do it in parallel."""
    listed = "".join(f", {m}" for m in more)
    found = fetch_one(
        connection,
        f"SELECT count(*), {found_sum(columns)}{listed} FROM {table} AS t",
    )
    return tuple(int(value) for value in found)


def _copy(connection: Connection, delivery: Delivery[Column], into: str) -> Sum:
    columns, rows, total = delivery.columns, 0, 0
    try:
        with (
            # Closed: an error's traceback may hold it, and DuckDB hangs when it opens a file of
            # which a stream is still read.
            closing(_read(delivery)) as batches,
            connection.transaction(),
            connection.cursor().copy(copy_into(into, columns).encode()) as copy,
        ):
            copy.write(HEAD)
            # Closed before anything else is asked of the cursor, also when the server refuses.
            with closing(_written_ahead(columns, batches)) as ahead:
                for written in ahead:
                    copy.write(written.data)
                    rows += len(written)
                    total += written.total
            copy.write(END)
    except psycopg.Error as error:
        # The same rows again, with the key's values as texts behind the columns.
        with closing(_read(delivery, delivery.key)) as again:
            raise refused_copy(connection, error, delivery, into, again) from error
    return Sum(rows, total % _MODULUS)


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


def _read(delivery: Delivery[Column], named: tuple[str, ...] = ()) -> Generator[pa.RecordBatch]:
    """Rows in the types that `write_rows` takes; then some columns as texts."""
    listed = [f"{c.sent} AS {quoted(f'etl: value {i}')}" for i, c in enumerate(delivery.columns)]
    listed += [f"{quoted(k)}::VARCHAR AS {quoted(f'etl: key {i}')}" for i, k in enumerate(named)]
    query = f"SELECT {', '.join(listed)} FROM {delivery.rows}"
    return read_batches(delivery.cursor, query, BATCH_ROWS)
