"""Brings rows to a staging table: Arrow batches from DuckDB straight into COPY."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import duckdb

from etl.errors import ReconciliationError
from etl.targets.postgres.columns import Column, as_lines, expected_sum, found_sum
from etl.targets.postgres.refusals import refused_line
from etl.targets.postgres.server import execute, fetch_one
from etl.targets.publication import quote
from etl.targets.server.session import ROW, Staged

if TYPE_CHECKING:
    import psycopg

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
    import psycopg

    staged = f"pg_temp.{quote(name)}"
    listed = ", ".join(f"{c.sql} {c.staged_type}" for c in columns)
    execute(
        connection,
        f"CREATE TEMP TABLE {quote(name)} ({listed}, {ROW} bigint GENERATED ALWAYS AS IDENTITY) "
        "ON COMMIT DROP",
    )
    rows, total = 0, 0
    try:
        with (
            connection.transaction(),
            connection.cursor().copy(_copy_into(staged, columns).encode()) as copy,
        ):
            for lines, count, share in read_lines(cursor, columns, rows_sql):
                copy.write(lines)
                rows += count
                total += share
    except psycopg.Error as error:
        raise refused_line(
            connection,
            error,
            table,
            lambda some: _copy_into(staged, some),
            columns,
            key,
            (bytes(lines) for lines, _, _ in read_lines(cursor, columns, rows_sql)),
            target,
        ) from error
    found_rows, found = fetch_one(
        connection,
        f"SELECT count(*), coalesce(sum({found_sum(columns)}), 0) FROM {staged}",  # noqa: S608
    )
    if (found_rows, int(found) % _MODULUS) != (rows, total % _MODULUS):
        raise ReconciliationError(
            f"{table} at target {target}: {found_rows} rows, checksum {int(found) % _MODULUS:x} "
            f"arrived; {rows} rows, checksum {total % _MODULUS:x} were sent",
            subject=target,
        )
    if rows >= _ANALYZE_ROWS:
        execute(connection, f"ANALYZE {staged}")
    return Staged(staged, columns, rows)


def _copy_into(table: str, columns: Iterable[Column]) -> str:
    """The COPY statement for lines of these columns."""
    return f"COPY {table} ({', '.join(c.sql for c in columns)}) FROM STDIN"


def read_lines(
    cursor: duckdb.DuckDBPyConnection, columns: tuple[Column, ...], rows_sql: str
) -> Iterator[tuple[memoryview, int, int]]:
    """Batches of COPY lines: the bytes, how many lines, their share of the checksum.

    An Arrow column of texts that all end in a line feed is one stretch of memory: the very bytes
    that COPY wants, without a Python object for any row.
    """
    import pyarrow as pa

    # 64-bit offsets: a batch of long texts may pass 2 GB.
    cursor.execute("SET arrow_large_buffer_size = true")
    reader = cursor.execute(
        f"SELECT {as_lines(columns)} AS line, {expected_sum(columns)} AS share "  # noqa: S608
        f"FROM {rows_sql}"
    ).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        lines, shares = batch.column(0), batch.column(1)
        if not len(lines):
            continue
        offsets = pa.Array.from_buffers(
            pa.int64(), len(lines) + 1, [None, lines.buffers()[1]], offset=lines.offset
        )
        first, last = offsets[0].as_py(), offsets[len(lines)].as_py()
        data = memoryview(lines.buffers()[2])[first:last]
        yield data, len(lines), sum(shares.to_pylist())
