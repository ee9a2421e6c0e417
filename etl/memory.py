"""How much DuckDB may hold in memory: little, and more only where little does not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import duckdb

T = TypeVar("T")

# What comparing and reading marts needs, however many rows they have; and where these are long.
MEGABYTES_PER_THREAD = (32, 256)


@contextmanager
def limited_memory(
    connection: duckdb.DuckDBPyConnection, megabytes_per_thread: int
) -> Iterator[None]:
    """Let DuckDB hold little in memory and the rest on disk; usually it takes most of the machine.

    Raises duckdb.OutOfMemoryException, at once or later, for work that cannot do with so little.
    """
    [(limit, threads)] = connection.execute(
        "SELECT current_setting('memory_limit'), current_setting('threads')"
    ).fetchall()
    number, unit = str(limit).split()
    # It is told cut off after one place: without the half of one it would become less each time.
    usual = int((float(number) + (0 if number.endswith(".0") else 0.05)) * 1024 ** _UNITS[unit])
    little = int(threads) * megabytes_per_thread * 1024**2
    try:
        connection.execute(f"SET memory_limit = '{min(little, usual)}B'")
        yield
    finally:
        # Not RESET: with DuckDB 1.5 the setting then reads as before and the limit stays.
        connection.execute(f"SET memory_limit = '{usual}B'")


def in_little_memory(
    connection: duckdb.DuckDBPyConnection, attempt: Callable[[], T], *megabytes_per_thread: int
) -> T:
    """What `attempt` returns: with so little memory; when that is too little, from the start again.

    The last time without a limit of ours. Raises what `attempt` raises then.
    """
    for megabytes in megabytes_per_thread:
        with suppress(duckdb.OutOfMemoryException), limited_memory(connection, megabytes):
            return attempt()
    return attempt()


_UNITS = {"bytes": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4, "PiB": 5}
