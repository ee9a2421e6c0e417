"""What raw columns held so far, and the changes that were told, in the warehouse (`etl_meta`)."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from etl.drift import Known, Seen
from etl.records import SchemaChange
from etl.warehouse import exists

SCHEMA, TABLE, CHANGES = "etl_meta", "raw_columns", "raw_changes"


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


def read_changes(
    connection: duckdb.DuckDBPyConnection, source: str, project: str
) -> list[SchemaChange]:
    """What was told of a source while the project had this fingerprint, oldest first."""
    if not exists(connection, SCHEMA, CHANGES):
        return []
    rows = connection.execute(
        f"SELECT change FROM {SCHEMA}.{CHANGES} WHERE source = ? AND project = ? ORDER BY rowid",  # noqa: S608
        [source, project],
    ).fetchall()
    return [SchemaChange.model_validate_json(text) for (text,) in rows]


def write_changes(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    project: str,
    changes: Iterable[SchemaChange],
) -> None:
    """Add what is told now; what was told to another state of the project is forgotten."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{CHANGES} "
        "(source VARCHAR, project VARCHAR, change JSON)"
    )
    connection.execute(
        f"DELETE FROM {SCHEMA}.{CHANGES} WHERE source = ? AND project <> ?",  # noqa: S608
        [source, project],
    )
    for change in changes:
        connection.execute(
            f"INSERT INTO {SCHEMA}.{CHANGES} VALUES (?, ?, ?)",  # noqa: S608
            [source, project, change.model_dump_json()],
        )
