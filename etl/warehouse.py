"""The warehouse engine, DuckDB: connections, names, and tables made before their rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from etl.duckdb_failures import classify_duckdb, refuse_foreign
from etl.errors import ConfigError, UnreachableError


def quoted(*parts: str) -> str:
    """A name as SQL, each part quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def connect(path: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse; one that only reads does not create the file either.

    Raises:
        UnreachableError: another process holds the file, or it is no DuckDB file or missing.
        ResourcesError: it cannot be written, or not read.
    """
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = _open(path, read_only=read_only)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        end_query(connection)
        connection.close()


def end_query(connection: duckdb.DuckDBPyConnection) -> None:
    """End what the exception of a signal left under way, before the connection is closed.

    DuckDB 1.5 goes on with such a query until `interrupt`, and holds the database until the next
    one: who opened it again in this process would wait for ever.
    """
    connection.interrupt()
    with suppress(duckdb.Error):
        connection.execute("SELECT 1")


@contextmanager
def look_into(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse to be read; an empty one where there is none yet.

    Raises: as `connect`.
    """
    here = path.exists()
    with connect(path if here else Path(":memory:"), read_only=here) as connection:
        yield connection


class KeptOpen:
    """Keeps the warehouse open, so that the connections made meanwhile cost next to nothing.

    DuckDB opens a file once per process and closes it, with a checkpoint, after its last
    connection: 30 ms and more each time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: duckdb.DuckDBPyConnection | None = None

    def open(self) -> None:
        """Open it, if it is not.

        Here, because dlt's own words for a file that it cannot open name no class of failure.

        Raises:
            ConfigError: it is a link to a file with another name.
            UnreachableError: another process holds the file, or it is no DuckDB file.
            ResourcesError: it cannot be written.
        """
        if self._connection is None:
            refuse_other_name(self._path)
            self._connection = _open(self._path, read_only=False)

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), read_only=read_only)
    except duckdb.Error as e:
        refused = refuse_foreign(path, os.R_OK if read_only else os.R_OK | os.W_OK)
        raise (
            refused or classify_duckdb(e, path.parent, path) or UnreachableError(f"{path}: {e}")
        ) from e


def refuse_other_name(path: Path) -> None:
    """DuckDB names a database by the file behind a link, and models are called by that name.

    Raises:
        ConfigError: it is not the link's.
    """
    file = path.resolve()
    if file.stem != path.stem:
        raise ConfigError(
            f"{path} is a link to {file}, which has another name",
            hint=f"call that file {path.name}, in a folder of its own, and link to it there",
        )


def exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    """True when the table or view stands in the warehouse."""
    # Not information_schema, which takes three times as long.
    row = connection.execute(
        "SELECT count(*) FROM (SELECT schema_name, table_name FROM duckdb_tables() "
        "UNION ALL SELECT schema_name, view_name FROM duckdb_views()) "
        "WHERE schema_name = ? AND table_name = ?",
        [schema, table],
    ).fetchone()
    return bool(row and row[0])


def read_types(connection: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, str]]:
    """The columns of every table of a schema with their types, by table."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = ? ORDER BY ordinal_position",
        [schema],
    ).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def ensure_tables(connection: duckdb.DuckDBPyConnection, tables: list[dict[str, Any]]) -> list[str]:
    """Create what is missing of these tables, each with `name`, `columns` and perhaps a `key`.

    What stands gets the columns that it lacks; dlt adds its own when the first rows come. Returns
    what was created.
    """
    created = []
    known: dict[str, dict[str, dict[str, str]]] = {}
    for table in tables:
        schema, _, name = table["name"].replace('"', "").rpartition(".")
        schema = schema.rpartition(".")[2]
        if schema not in known:
            known[schema] = read_types(connection, schema)
        present = known[schema].setdefault(name, {})
        columns = table["columns"]
        target = quoted(schema, name)
        if not present:
            listed = ", ".join(f"{quoted(c)} {t}" for c, t in columns.items())
            if "key" in table:
                listed += f", PRIMARY KEY ({', '.join(table['key'])})"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            connection.execute(f"CREATE TABLE {target} ({listed})")
            created.append(f"{schema}.{name}")
            present.update(columns)
            continue
        for column, kind in columns.items():
            if column not in present:
                connection.execute(f"ALTER TABLE {target} ADD COLUMN {quoted(column)} {kind}")
                created.append(f"{schema}.{name}.{column}")
                present[column] = kind
    return created
