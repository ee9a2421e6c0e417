"""Reads marts as Arrow batches that fit in memory, however long their values are."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress

import duckdb
import pyarrow as pa

BYTES = 8 << 20
# DuckDB works on 2,048 rows at once; half of them cost no more time, and half the memory.
_ROWS = 1024
# DuckDB reads ahead, and takes a text for 16 bytes of it: by its own setting it may hold a few
# dozen vectors of long texts. With this one it holds two; with less than 2 bytes it hangs.
READ_LITTLE_AHEAD = {"streaming_buffer_size": "1KB"}


def read_batches(
    cursor: duckdb.DuckDBPyConnection, query: str, rows: int
) -> Generator[pa.RecordBatch]:
    """A query's rows in batches of about so many `rows`, of fewer when these have more than 8 MB.

    None is empty. To be read to the end, or closed.

    Raises:
        duckdb.Error: as DuckDB says.
        OSError: it says nothing.
    """
    _take_long_texts(cursor)
    for setting, value in READ_LITTLE_AHEAD.items():
        cursor.execute(f"SET {setting} = '{value}'")
    gathered: list[pa.RecordBatch] = []
    count = size = 0
    for batch in _stream(cursor, query):
        gathered.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if count >= rows or size >= BYTES:
            yield from _cut(pa.concat_batches(gathered))
            gathered, count, size = [], 0, 0
    if count:
        yield from _cut(pa.concat_batches(gathered))


def _stream(cursor: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from cursor.execute(query).to_arrow_reader(_ROWS)
    except OSError:
        # A stream's errors have no class, and some say only that a thread was interrupted by the
        # failure of another: every value is computed again where DuckDB says which. Outside of the
        # transaction, which has ended by it, and temporary tables with it.
        with suppress(duckdb.TransactionException):
            cursor.execute("ROLLBACK")
        with suppress(duckdb.CatalogException):
            cursor.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM ({query})")  # noqa: S608  the caller's own
        raise


def read_schema(cursor: duckdb.DuckDBPyConnection, query: str) -> pa.Schema:
    """What `read_batches` gives of a query: its columns' names and Arrow types."""
    _take_long_texts(cursor)
    return cursor.execute(f"SELECT * FROM ({query}) LIMIT 0").to_arrow_reader().schema  # noqa: S608  the caller's own


def _take_long_texts(cursor: duckdb.DuckDBPyConnection) -> None:
    """64-bit offsets: a batch of long texts may pass 2 GB."""
    cursor.execute("SET arrow_large_buffer_size = true")


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in halves, until each is small enough or one row."""
    if batch.num_rows == 1 or batch.nbytes <= 2 * BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half))
    yield from _cut(batch.slice(half))
