"""A target's tables: made when missing, widened by new columns, never dropped."""

from __future__ import annotations

from collections.abc import Iterable

from etl.errors import AuthError, ConfigError
from etl.targets.postgres.columns import Column
from etl.targets.postgres.server import Connection, execute, fetch_one
from etl.targets.publication import Publication
from etl.targets.server.session import Table
from etl.warehouse import literal, quoted


def find(
    connection: Connection, table: Table, target: str, *, locked: bool = False
) -> dict[str, int] | None:
    """The columns of a table with their numbers, None when there is none.

    `locked` lets writers wait from now on, a second job with the same target too; readers do not.
    Raises ConfigError for a view, and for foreign tables, also as partitions: their rows have no
    versions, and are not committed with the others.
    """
    (is_table,) = fetch_one(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s "
        "UNION SELECT inhrelid FROM pg_inherits JOIN t ON inhparent = t.oid) "
        "SELECT bool_and(relkind IN ('r', 'p')) FROM pg_class JOIN t USING (oid)",
        table.schema,
        table.name,
    )
    if is_table is None:
        return None
    if not is_table:
        raise ConfigError(
            f"{table.plain} at target {target} is no table, or a part of it is a foreign table",
            subject=target,
            hint="name another `table`",
        )
    if locked:  # before its columns are read: another job may be adding some
        execute(connection, f"LOCK TABLE {table.sql} IN SHARE ROW EXCLUSIVE MODE")
    columns = execute(
        connection,
        "SELECT attname, attnum FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        table.sql,
    )
    return {str(name): int(number) for name, number in columns}


def refuse_hidden_rows(connection: Connection, table: Table, target: str) -> None:
    """Raise AuthError when row security may keep rows from this role: they could not be deleted.

    What it cannot hide is told by a policy that lets all rows be read, and no other beside it.
    """
    (hides,) = fetch_one(
        connection,
        "SELECT row_security_active(%s::regclass) AND coalesce(NOT bool_or(polpermissive AND "
        "pg_get_expr(polqual, polrelid) = 'true') OR NOT bool_and(polpermissive), true) "
        "FROM pg_policy WHERE polrelid = %s::regclass AND polcmd IN ('*', 'r') AND EXISTS "
        "(SELECT FROM unnest(polroles) AS r(id) WHERE id = 0 OR pg_has_role(id, 'USAGE'))",
        table.sql,
        table.sql,
    )
    if hides:
        raise AuthError(
            f"row security of {table.plain} at target {target} may hide rows from the role",
            subject=target,
            hint="ALTER ROLE ... BYPASSRLS, or CREATE POLICY ... USING (true) WITH CHECK (true) "
            "for it",
        )


def find_reference(connection: Connection, table: Table) -> str | None:
    """Another table whose rows would go, or lose a value, with the rows of this one."""
    row = execute(
        connection,
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' "
        "AND confrelid = %s::regclass AND conrelid <> confrelid AND confdeltype IN ('c', 'n', 'd')",
        table.sql,
    ).fetchone()
    return str(row[0]) if row else None


def prepare(
    connection: Connection,
    table: Table,
    columns: tuple[Column, ...],
    comments: dict[str, str],
    present: Iterable[str] | None,
) -> None:
    """Make a table that was not `present` when it was looked for, or add the columns it lacks."""
    listed = [f"{c.sql} {c.type}" for c in columns]
    if present is None:
        create_schema(connection, table.schema)
        execute(connection, f"CREATE TABLE {table.sql} ({', '.join(listed)})")
        new = columns
        if "" in comments:
            execute(connection, f"COMMENT ON TABLE {table.sql} IS {_text(comments[''])}")
    else:
        new = tuple(c for c in columns if c.name not in present)
        for column in new:
            execute(connection, f"ALTER TABLE {table.sql} ADD COLUMN {column.sql} {column.type}")
    for column in new:
        if column.name in comments:
            text = _text(comments[column.name])
            execute(connection, f"COMMENT ON COLUMN {table.sql}.{column.sql} IS {text}")


def add_indexes(connection: Connection, table: Table, publication: Publication) -> None:
    """Make the primary key and the indexes that the configuration names and the table lacks."""
    if publication.key and publication.primary_key:
        (has_key,) = fetch_one(
            connection,
            "SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = %s::regclass "
            "AND contype = 'p')",
            table.sql,
        )
        if not has_key:
            keys = ", ".join(quoted(k) for k in publication.key)
            execute(connection, f"ALTER TABLE {table.sql} ADD PRIMARY KEY ({keys})")
    for columns in publication.indexes:
        if not _has_index(connection, table, columns):
            listed = ", ".join(quoted(c) for c in columns)
            execute(connection, f"CREATE INDEX ON {table.sql} ({listed})")


def _has_index(connection: Connection, table: Table, columns: Iterable[str]) -> bool:
    (found,) = fetch_one(
        connection,
        "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = %s::regclass "
        "AND i.indisvalid AND i.indpred IS NULL AND %s::text[] = ARRAY(SELECT a.attname::text "
        "FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number "
        "WHERE k.place <= i.indnkeyatts ORDER BY k.place))",
        table.sql,
        list(columns),
    )
    return bool(found)


def plan_with_pages_at_hand(connection: Connection, table: Table) -> None:
    """Let the server find few rows by an index: the table was read just now, from end to end.

    Its pages are in memory, if they are fewer than the server counts on there. By default it takes
    a page out of order for four times as dear, so that it would rather read all rows again.
    """
    execute(
        connection,
        "SELECT set_config('random_page_cost', CASE WHEN pg_table_size(%s::regclass) <= "
        "pg_size_bytes(current_setting('effective_cache_size')) THEN "
        "current_setting('seq_page_cost') ELSE reset_val END, true) "
        "FROM pg_settings WHERE name = 'random_page_cost'",
        table.sql,
    )


def create_schema(connection: Connection, schema: str) -> None:
    """Make a schema that is missing."""
    # Asked first: IF NOT EXISTS wants the right to create schemas even when it is there.
    (present,) = fetch_one(
        connection, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %s)", schema
    )
    if not present:
        execute(connection, f"CREATE SCHEMA {quoted(schema)}")


def _text(text: str) -> str:
    """A literal in a statement that takes no parameters, whatever the server's settings."""
    return " E" + literal(text.replace("\\", "\\\\"))
