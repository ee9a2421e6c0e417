"""The warehouse engine: how much memory it is given, for how long, and what its failures mean."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

import etl.warehouse
from etl.errors import ResourcesError
from etl.warehouse import bind, classify_duckdb, limited_memory


def read_limit(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    "value",
    [None, True, False, -7, 2**62, 0.1, 1e-300, float("inf"), "it's ?", "", "a\0b", "\0", "ünï 🎉",
     datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), ["a", "b', 'c"], []],
    ids=repr,
)  # fmt: skip
def test_value_in_a_statement_is_what_it_was(value: object) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(bind("SELECT ?, ? AS between, ?", 1, value, "?")).fetchone()
    assert found == (1, value, "?")
    assert found is not None
    assert type(found[1]) is type(value)


def test_values_are_as_many_as_their_places() -> None:
    for values in ((), (1, 2)):
        with pytest.raises(ValueError, match="zip"):
            bind("SELECT ?", *values)


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


@pytest.mark.parametrize("kind", [duckdb.IOException, duckdb.TransactionException])
def test_what_fails_on_a_full_disk_is_no_fault_of_the_query(
    kind: type[duckdb.Error], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a commit DuckDB says TransactionException, else IOException."""
    monkeypatch.setattr(etl.warehouse, "can_write", lambda folder: False)
    assert isinstance(classify_duckdb(kind("written"), tmp_path / "warehouse"), ResourcesError)
    monkeypatch.setattr(etl.warehouse, "can_write", lambda folder: True)
    assert not isinstance(classify_duckdb(kind("written"), tmp_path / "warehouse"), ResourcesError)
