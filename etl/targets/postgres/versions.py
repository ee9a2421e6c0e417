"""The versions of a table's rows: the transactions that wrote them, and how many rows this one did.

Whoever changes a row changes the sum of its table's versions, or the number of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etl.targets.postgres.server import Connection, execute, fetch_one
from etl.targets.postgres.statements import Statements
from etl.targets.server.session import Table, Versions

# The server version whose hash of a transaction's number is a function that can be called.
_HASHES_NUMBERS = 18_00_00


def sum_versions(server_version: int) -> str:
    """SQL: the sum of the transactions that wrote the rows of table `t`; it reads no column.

    Of functions that let several of the server's processes share the table, which `age` does not;
    and of those that need no text for each row where the server has one.
    """
    hashed = server_version >= _HASHES_NUMBERS
    stamp = "hashxidextended(t.xmin, 0)" if hashed else "t.xmin::text::bigint"
    return f"coalesce(sum({stamp}), 0)"


@contextmanager
def counting(connection: Connection, table: Table) -> Iterator[Callable[[], Versions]]:
    """The table's rows and their versions, in one pass that reads no column.

    The server starts at once, and what is yielded waits for its answer.
    """
    summed = sum_versions(connection.info.server_version)
    with connection.pipeline():
        counted = execute(connection, f"SELECT count(*), {summed} FROM {table.sql} AS t")

        def read() -> Versions:
            [(rows, total)] = counted.fetchall()
            return Versions(int(rows), int(total))

        yield read


def read_staged_versions(connection: Connection, statements: Statements) -> Versions:
    """Those of the table's rows that a change is about: whose keys were staged."""
    summed = sum_versions(connection.info.server_version)
    staged = [(statements.staged, "s")]
    if statements.change.gone is not None:
        staged.append((statements.change.gone, "g"))
    found = Versions()
    for part, alias in staged:
        rows, total = fetch_one(
            connection,
            f"SELECT count(*), {summed} FROM {part.sql} AS {alias} "
            f"JOIN {statements.table} AS t ON {statements.same_key(alias)}",
        )
        found += Versions(int(rows), int(total))
    return found


def count_writes(connection: Connection, table: Table) -> int:
    """Rows of a table that this transaction inserted, updated and deleted.

    Those of its partitions, and of tables that inherit from it, are rows of its own. 0 where the
    server has `track_counts` off.
    """
    counted = " + ".join(
        f"pg_stat_get_xact_tuples_{done}(oid)" for done in ("inserted", "updated", "deleted")
    )
    (writes,) = fetch_one(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT %s::regclass::oid "
        "UNION SELECT inhrelid FROM pg_inherits JOIN t ON inhparent = t.oid) "
        f"SELECT sum({counted}) FROM t",
        table.sql,
    )
    return int(writes)


def is_rebuilt(connection: Connection, table: Table) -> bool:
    """True when this transaction emptied the table or altered it: it holds the lock for that.

    No rows are counted then.
    """
    (found,) = fetch_one(
        connection,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() "
        "AND relation = %s::regclass AND mode = 'AccessExclusiveLock')",
        table.sql,
    )
    return bool(found)
