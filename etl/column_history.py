"""What every raw column held so far, in the warehouse (`etl_meta.raw_columns`)."""

from __future__ import annotations

import duckdb

from etl.drift import Known, Seen
from etl.warehouse import exists

SCHEMA, TABLE = "etl_meta", "raw_columns"


def read_columns(connection: duckdb.DuckDBPyConnection, source: str) -> Known:
    """What is known of a source's columns; empty before its first load."""
    if not exists(connection, SCHEMA, TABLE):
        return {}
    rows = connection.execute(
        f"SELECT table_name, column_name, data_type, rows, filled, is_gone "  # noqa: S608
        f"FROM {SCHEMA}.{TABLE} WHERE source = ?",
        [source],
    ).fetchall()
    return {(t, c): Seen(kind, n, filled, gone) for t, c, kind, n, filled, gone in rows}


def write_columns(connection: duckdb.DuckDBPyConnection, source: str, known: Known) -> None:
    """Keep what is known of a source's columns, in place of what was."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{TABLE} (source VARCHAR, table_name VARCHAR, "
        "column_name VARCHAR, data_type VARCHAR, rows BIGINT, filled BIGINT, is_gone BOOLEAN)"
    )
    rows = [(t, c, s.type, s.rows, s.values, s.is_gone) for (t, c), s in known.items()]
    connection.begin()
    connection.execute(f"DELETE FROM {SCHEMA}.{TABLE} WHERE source = ?", [source])  # noqa: S608
    if rows:
        # One statement with lists: thousands of single ones take seconds.
        listed = ", ".join("unnest(?)" for _ in rows[0])
        connection.execute(
            f"INSERT INTO {SCHEMA}.{TABLE} SELECT ?, {listed}",
            [source, *([*column] for column in zip(*rows, strict=True))],
        )
    connection.commit()
