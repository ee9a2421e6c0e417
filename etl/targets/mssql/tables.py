"""A target's tables: made when missing, widened by new columns, never dropped.

The server stamps each row that is written with a number that only grows, in a column of type
`rowversion`. A table without one gets `etl_version`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from etl.errors import ConfigError
from etl.targets.mssql.columns import MAX_NAME_LENGTH, Column
from etl.targets.mssql.server import Connection, fetch_one
from etl.targets.publication import Publication
from etl.targets.server.session import Table, Versions
from etl.warehouse import literal, quoted

VERSION = "etl_version"
# Of an extended property, in characters.
_MAX_COMMENT = 3500
_IN_CHARACTERS = {"nchar", "nvarchar"}
_WITH_LENGTH = _IN_CHARACTERS | {"char", "varchar", "binary", "varbinary"}
_WITH_SCALE = {"time", "datetime2", "datetimeoffset"}


@dataclass(frozen=True)
class Present:
    """A column of a table that is there; `length` in characters or bytes, -1 for `max`."""

    number: int
    name: str
    kind: str
    length: int
    precision: int
    scale: int
    is_nullable: bool

    @property
    def type(self) -> str:
        """Its type as CREATE TABLE would write it."""
        if self.kind in _WITH_LENGTH:
            return f"{self.kind}({'max' if self.length < 0 else self.length})"
        if self.kind in {"decimal", "numeric"}:
            return f"{self.kind}({self.precision},{self.scale})"
        return f"{self.kind}({self.scale})" if self.kind in _WITH_SCALE else self.kind


def find(connection: Connection, table: Table, target: str) -> dict[str, Present] | None:
    """The columns of a table, None when there is none.

    Raises ConfigError for a view, and for the name of a temporary table: it ends with the session.
    """
    row = connection.execute(
        "SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n "
        "ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?",
        table.schema, table.name,
    ).fetchone()  # fmt: skip
    if table.name.startswith("#") or (row is not None and str(row[1]).strip() != "U"):
        raise ConfigError(
            f"{table.plain} at target {target} is no table",
            subject=target,
            hint="name another `table`",
        )
    if row is None:
        return None
    found = connection.execute(
        "SELECT c.column_id, c.name, t.name, c.max_length, c.precision, c.scale, c.is_nullable "
        "FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id "
        "WHERE c.object_id = ? ORDER BY c.column_id",
        row[0],
    ).fetchall()
    return {c.name: c for c in (_present(*r) for r in found)}


def _present(
    number: int, name: str, kind: str, length: int, precision: int, scale: int, is_nullable: bool
) -> Present:
    halved = length // 2 if kind in _IN_CHARACTERS and length > 0 else length
    return Present(number, name, kind, halved, precision, scale, bool(is_nullable))


def version_column(present: dict[str, Present]) -> str | None:
    """The column of row versions; a table has one at most."""
    return next((c.name for c in present.values() if c.kind in {"timestamp", "rowversion"}), None)


def lacking(present: dict[str, Present], columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns that a table does not have."""
    return tuple(c for c in columns if c.name not in present)


def find_reference(connection: Connection, table: Table) -> str | None:
    """Another table whose rows would go, or lose a value, with the rows of this one."""
    row = connection.execute(
        "SELECT OBJECT_NAME(parent_object_id) FROM sys.foreign_keys "
        "WHERE referenced_object_id = OBJECT_ID(?) AND delete_referential_action <> 0 "
        "AND parent_object_id <> referenced_object_id",
        table.sql,
    ).fetchone()
    return str(row[0]) if row else None


def prepare(
    connection: Connection,
    table: Table,
    columns: tuple[Column, ...],
    comments: dict[str, str],
    target: str,
) -> None:
    """Make the table, or add the columns that it lacks."""
    present = find(connection, table, target)
    version = f"{quoted(VERSION)} rowversion"
    if present is None:
        create_schema(connection, table.schema)
        listed = ", ".join([*(c.declared for c in columns), version])
        connection.execute(f"CREATE TABLE {table.sql} ({listed})")
        new = columns
        comment_on(connection, table, None, comments.get("", ""))
    else:
        new = lacking(present, columns)
        # Never NOT NULL: the rows that are there have no value yet.
        added = [f"{c.sql} {c.type} NULL" for c in new]
        added += [] if version_column(present) else [version]
        if added:
            connection.execute(f"ALTER TABLE {table.sql} ADD {', '.join(added)}")
    for column in new:
        comment_on(connection, table, column.name, comments.get(column.name, ""))


def comment_on(connection: Connection, table: Table, column: str | None, text: str) -> None:
    """What is said about a table, or a column of it; an empty text is nothing."""
    if not text:
        return
    levels = "@level0type = N'SCHEMA', @level0name = ?, @level1type = N'TABLE', @level1name = ?"
    values = [text[:_MAX_COMMENT], table.schema, table.name]
    if column is not None:
        levels += ", @level2type = N'COLUMN', @level2name = ?"
        values.append(column)
    connection.execute(
        f"EXEC sys.sp_addextendedproperty @name = N'MS_Description', @value = ?, {levels}", values
    )


def add_indexes(
    connection: Connection,
    table: Table,
    publication: Publication,
    columns: tuple[Column, ...],
    target: str,
) -> None:
    """Make the primary key and the indexes that the configuration names and the table lacks."""
    if publication.key and publication.primary_key and not _has_primary_key(connection, table):
        present = find(connection, table, target) or {}
        for column in (c for c in columns if c.name in publication.key):
            theirs = present[column.name]
            if theirs.is_nullable:
                kind = column.type if theirs.length < 0 else theirs.type
                connection.execute(
                    f"ALTER TABLE {table.sql} ALTER COLUMN {column.sql} {kind} NOT NULL"
                )
        keys = ", ".join(quoted(k) for k in publication.key)
        connection.execute(f"ALTER TABLE {table.sql} ADD PRIMARY KEY ({keys})")
    for names in publication.indexes:
        if names not in _read_indexes(connection, table):
            listed = ", ".join(quoted(n) for n in names)
            name = quoted(index_name(table, names))
            connection.execute(f"CREATE INDEX {name} ON {table.sql} ({listed})")


def index_name(table: Table, columns: tuple[str, ...]) -> str:
    """A name that says what is indexed; with a digest where that is too long to be told whole."""
    name = "_".join(("ix", table.name, *columns))
    if len(name) <= MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME_LENGTH - 9]}_{digest}"


def _has_primary_key(connection: Connection, table: Table) -> bool:
    found = connection.execute(
        "SELECT COUNT(*) FROM sys.indexes WHERE object_id = OBJECT_ID(?) AND is_primary_key = 1",
        table.sql,
    ).fetchone()
    return bool(found and found[0])


def _read_indexes(connection: Connection, table: Table) -> set[tuple[str, ...]]:
    """The columns of every index that can be used for all rows."""
    found: dict[int, list[str]] = {}
    for index, column in connection.execute(
        "SELECT i.index_id, c.name FROM sys.indexes AS i "
        "JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id "
        "JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id "
        "WHERE i.object_id = OBJECT_ID(?) AND i.is_disabled = 0 AND i.has_filter = 0 "
        "AND k.is_included_column = 0 ORDER BY i.index_id, k.key_ordinal",
        table.sql,
    ).fetchall():
        found.setdefault(int(index), []).append(str(column))
    return {tuple(names) for names in found.values()}


def read_stamp(connection: Connection) -> int:
    """The number after the last that any row of the database was stamped with."""
    return int(fetch_one(connection, "SELECT CAST(@@DBTS AS bigint) + 1")[0])


def read_versions(connection: Connection, table: Table, version: str | None) -> Versions:
    """The table's rows and their versions; writers wait from now on, readers do not."""
    total = f"SUM(CAST(CAST({quoted(version)} AS bigint) AS decimal(38,0)))" if version else "NULL"
    rows, found = fetch_one(
        connection, f"SELECT COUNT_BIG(*), {total} FROM {table.sql} WITH (TABLOCK, HOLDLOCK)"
    )
    return Versions(int(rows), int(found or 0))


def count_fresh(
    connection: Connection, table: Table, version: str | None, stamp: int
) -> tuple[int, int]:
    """The table's rows, and those of them that were written since a stamp was read."""
    is_fresh = f"CAST({quoted(version)} AS bigint) >= {stamp}" if version else "1 = 0"
    rows, fresh = fetch_one(
        connection,
        f"SELECT COUNT_BIG(*), SUM(CASE WHEN {is_fresh} THEN CAST(1 AS bigint) ELSE 0 END) "
        f"FROM {table.sql}",
    )
    return int(rows), int(fresh or 0)


def create_schema(connection: Connection, schema: str) -> None:
    """Make a schema that is missing."""
    found = connection.execute("SELECT COUNT(*) FROM sys.schemas WHERE name = ?", schema).fetchone()
    if not (found and found[0]):
        # CREATE SCHEMA has to be a batch of its own, which EXEC makes of it.
        connection.execute(f"EXEC({'N' + literal(f'CREATE SCHEMA {quoted(schema)}')})")
