"""What raw columns held so far, and the changes that were told, in the warehouse (`etl_meta`)."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from etl.drift import Known, Seen
from etl.records import SchemaChange
from etl.warehouse import exists


def read_columns(connection: duckdb.DuckDBPyConnection, source: str) -> Known:
    """What is known of a source's columns; empty before its first load."""
    if not exists(connection, "etl_meta", "raw_columns"):
        return {}
    rows = connection.execute(
        "SELECT table_name, column_name, data_type, rows, filled, is_gone "
        "FROM etl_meta.raw_columns WHERE source = ?",
        [source],
    ).fetchall()
    return {(t, c): Seen(kind, n, filled, gone) for t, c, kind, n, filled, gone in rows}


def write_columns(connection: duckdb.DuckDBPyConnection, source: str, known: Known) -> None:
    """Keep what is known of a source's columns, in place of what was."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS etl_meta")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS etl_meta.raw_columns (source VARCHAR, table_name VARCHAR, "
        "column_name VARCHAR, data_type VARCHAR, rows BIGINT, filled BIGINT, is_gone BOOLEAN)"
    )
    rows = [(t, c, s.type, s.rows, s.values, s.is_gone) for (t, c), s in known.items()]
    connection.begin()
    connection.execute("DELETE FROM etl_meta.raw_columns WHERE source = ?", [source])
    if rows:
        # One statement with lists: thousands of single ones take seconds.
        listed = ", ".join("unnest(?)" for _ in rows[0])
        connection.execute(
            "INSERT INTO etl_meta.raw_columns (source, table_name, column_name, data_type, "
            f"rows, filled, is_gone) SELECT ?, {listed}",
            [source, *([*column] for column in zip(*rows, strict=True))],
        )
    connection.commit()


def read_changes(
    connection: duckdb.DuckDBPyConnection, source: str, project: str
) -> list[SchemaChange]:
    """What was told of a source while the project had this fingerprint, oldest first."""
    if not exists(connection, "etl_meta", "raw_changes"):
        return []
    rows = connection.execute(
        "SELECT change FROM etl_meta.raw_changes WHERE source = ? AND project = ? ORDER BY rowid",
        [source, project],
    ).fetchall()
    return [SchemaChange.model_validate_json(text, extra="ignore") for (text,) in rows]


def write_changes(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    project: str,
    changes: Iterable[SchemaChange],
) -> None:
    """Add what is told now; what was told to another state of the project is forgotten."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS etl_meta")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS etl_meta.raw_changes "
        "(source VARCHAR, project VARCHAR, change JSON)"
    )
    connection.execute(
        "DELETE FROM etl_meta.raw_changes WHERE source = ? AND project <> ?", [source, project]
    )
    for change in changes:
        connection.execute(
            "INSERT INTO etl_meta.raw_changes (source, project, change) VALUES (?, ?, ?)",
            [source, project, change.model_dump_json()],
        )
