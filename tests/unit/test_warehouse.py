"""The warehouse engine: how much memory it is given, for how long."""

from __future__ import annotations

from contextlib import suppress

import duckdb
import pytest

from etl.warehouse import limited_memory


def read_limit(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("usual", "little"),
    [("1.3GiB", "64.0 MiB"), ("1GiB", "64.0 MiB"), ("1500MiB", "64.0 MiB"), ("50MiB", "50.0 MiB")],
)
def test_memory_is_little_for_a_while_and_then_as_it_was(usual: str, little: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = 2; SET memory_limit = '{usual}'")
        before = read_limit(connection)
        for _ in range(3):
            with suppress(KeyError), limited_memory(connection, 32):
                assert read_limit(connection) == little
                raise KeyError
            assert read_limit(connection) == before
