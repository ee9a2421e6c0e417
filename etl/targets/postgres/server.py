"""The connection to a PostgreSQL server, and what its errors mean: by SQLSTATE, never by text."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    LoadError,
    ResourcesError,
    Stopped,
    UnreachableError,
)
from etl.targets.server.refusals import CORRECT

if TYPE_CHECKING:
    import psycopg

Connection: TypeAlias = "psycopg.Connection[Any]"

CONNECT_SECONDS = 10
LOCK_SECONDS = 60
# Less than a run that was told to stop takes.
CANCEL_SECONDS = 3
INSTALL = "pip install 'etl-job[postgres]'"

_LOST = "is the server up, and the target's `dsn` right (host, port, TLS)? then run again"
_MADE = "another session has just made the same schema or table: run again"
_READ_ONLY = (
    "a standby (target_session_attrs=read-write in the `dsn` finds the primary), or a role with "
    "default_transaction_read_only"
)
# The one state that PgBouncer has for whatever it refuses.
_POOLER = "08P01"
_POOLERS = (
    "a pooler such as PgBouncer refused it: docs/postgres.md says what it needs "
    "(pool_mode = statement does not do, nor `options` in the `dsn`); if it was busy, run again"
)
# The first of these that a SQLSTATE starts with decides; anything else is refused data.
_CLASSES: tuple[tuple[str, type[EtlError], str], ...] = (
    ("28", AuthError, "check user and password in the target's `dsn`, and pg_hba.conf"),
    ("42501", AuthError, "grant the role what docs/postgres.md lists"),
    ("3D000", ConfigError, "create the database, or correct the target's `dsn`"),
    ("0A", LoadError, f"{CORRECT}; a partitioned one may need the load's `primary_key: false`"),
    (_POOLER, UnreachableError, _POOLERS),
    ("08", UnreachableError, "check host and port of the target's `dsn`"),
    ("40", UnreachableError, "another transaction was in the way: run again"),
    ("55P03", UnreachableError, "another session holds a lock on the table: run again"),
    ("57014", UnreachableError, "somebody cancelled it, or the role's statement_timeout is short"),
    ("57", UnreachableError, "the server stopped the work: run again"),
    ("42P06", UnreachableError, _MADE),
    ("42P07", UnreachableError, _MADE),
    ("25006", UnreachableError, _READ_ONLY),
    ("25P03", UnreachableError, "the role's idle_in_transaction_session_timeout is short"),
    ("25P04", UnreachableError, "the role's transaction_timeout is short"),
    (
        "54011",
        LoadError,
        "it compares some 800 columns at most: name fewer in the load's `columns`",
    ),
    ("53300", UnreachableError, "the server has no connection left: run again"),
    ("53400", ResourcesError, "raise that limit, the role's or the server's"),
    ("53", ResourcesError, "free disk or memory on the server"),
    ("58", ResourcesError, "look into the server's log"),
)


@contextmanager
def connected(dsn: str, target: str) -> Iterator[Connection]:
    """A connection in one transaction, which the caller commits; else it is rolled back.

    Raises:
        ConfigError: no driver, or a `dsn` that is none.
        UnreachableError, AuthError: as the server, or the network, says.
    """
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as error:
        raise ConfigError(
            f"the driver for target {target} is not installed", subject=target, hint=INSTALL
        ) from error
    try:
        own: dict[str, int | str] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "etl",
            # A host that is gone is known in two minutes; what is between it and us keeps awake
            # while DuckDB works.
            "keepalives_idle": 60,
            "keepalives_interval": 10,
            "keepalives_count": 6,
        }
        given = conninfo_to_dict(dsn)
        missing: dict[str, int | str | None] = {k: v for k, v in own.items() if k not in given}
        # Texts travel as DuckDB has them, whatever the database's encoding is.
        conninfo = make_conninfo(dsn, **missing | {"client_encoding": "UTF8"})
    except psycopg.ProgrammingError:
        # Its text quotes the dsn, so it is not a cause to be shown.
        raise ConfigError(
            f"the `dsn` of target {target} cannot be read",
            subject=target,
            # In two parts: as one address its user and password would be masked.
            hint="write postgresql:// and user:password@host:5432/database, special characters "
            "as %XX",
        ) from None
    try:
        connection = psycopg.connect(conninfo, prepare_threshold=None)
    except psycopg.Error as error:
        raise _refused(error, conninfo, target) from error
    try:
        # Each statement sees what was committed before it: also by those whose lock it waited for.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with connection:
            # UTC, ISO dates and exact floats, whatever the role's own settings are; time for
            # DuckDB, at which the transaction waits; and a commit that is on the server's disk.
            connection.execute(
                "SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true), "
                "set_config('extra_float_digits', '1', true), "
                "set_config('idle_in_transaction_session_timeout', '0', true), "
                "set_config('synchronous_commit', replace(current_setting('synchronous_commit'), "
                "'off', 'local'), true), "
                f"set_config('lock_timeout', '{LOCK_SECONDS}s', true)"
            )
            yield connection
    except psycopg.Error as error:
        raise classify(error, target, "publishing") from error
    finally:
        connection.close()


def execute(connection: Connection, sql: str, *values: Any) -> psycopg.Cursor[Any]:
    """Run SQL that was built here: names in it are quoted by us, values stand apart.

    Raises what psycopg raises; and Stopped, when the server has been told to give it up.
    """
    try:
        return connection.execute(sql.encode(), values or None)
    except Stopped:
        # It would go on at the server, with its locks, and the next run would wait for them.
        connection.cancel_safe(timeout=CANCEL_SECONDS)
        connection.close()
        raise


def fetch_one(connection: Connection, sql: str, *values: Any) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row: tuple[Any, ...] | None = execute(connection, sql, *values).fetchone()
    assert row is not None, sql  # noqa: S101  a query of ours with one row
    return row


def classify(error: psycopg.Error, target: str, doing: str, state: str | None = None) -> EtlError:
    """Our error for one of the server's; the state is given when the error itself has none."""
    state = state or error.sqlstate
    said = error.diag.message_primary or str(error).strip().partition("\n")[0]
    message = f"{doing} at target {target} failed: {said}"
    if state is None:
        # The connection was lost, or never there: the server sent no state.
        return UnreachableError(message, subject=target, hint=_LOST)
    if error.diag.schema_name == "pg_catalog":
        # Two sessions that make one table or schema meet in an index of the catalog (23505).
        return UnreachableError(f"{message} ({state})", subject=target, hint=_MADE)
    for prefix, kind, advice in _CLASSES:
        if state.startswith(prefix):
            return kind(f"{message} ({state})", subject=target, hint=advice)
    more = f"; the server says: {error.diag.message_hint}" if error.diag.message_hint else ""
    return LoadError(f"{message} ({state})", subject=target, hint=CORRECT + more)


def _refused(error: psycopg.Error, conninfo: str, target: str) -> EtlError:
    state = error.sqlstate
    if state is None and error.pgconn is not None:
        if error.pgconn.needs_password:
            state = "28P01"
        else:
            state = _traced_state(conninfo)
            if state is None and error.pgconn.used_password:
                state = "28P01"
    refused = classify(error, target, "connecting", state)
    if isinstance(refused, LoadError):  # nothing was sent yet: it is what the server was asked for
        return ConfigError(refused.message, subject=target, hint="correct the target's `dsn`")
    return refused


def _traced_state(conninfo: str) -> str | None:
    """The SQLSTATE with which the server ends a log-in, read off a second try's trace.

    libpq gives a failed log-in's text, which is in the server's language, and no state. None when
    no server answers, or the platform's libpq cannot trace.
    """
    from psycopg import NotSupportedError
    from psycopg.pq import ConnStatus, PGconn, PollingStatus

    if not hasattr(os, "memfd_create"):
        return None
    # In memory, not on a disk: the trace shows what the client sends.
    with os.fdopen(os.memfd_create("trace"), "w+b") as trace:
        connection = PGconn.connect_start(conninfo.encode())
        deadline = time.monotonic() + CONNECT_SECONDS
        try:
            connection.trace(os.dup(trace.fileno()))
            while connection.status != ConnStatus.BAD and time.monotonic() < deadline:
                polled = connection.connect_poll()
                if polled in {PollingStatus.OK, PollingStatus.FAILED}:
                    break
                # Not `select`, which fails from the 1,024th open file on.
                ready = select.poll()
                reads = polled == PollingStatus.READING
                ready.register(connection.socket, select.POLLIN if reads else select.POLLOUT)
                ready.poll(max(0.0, deadline - time.monotonic()) * 1000)
            connection.untrace()
        except (NotSupportedError, OSError):
            return None
        finally:
            connection.finish()
        trace.seek(0)
        lines = trace.read().decode(errors="replace").splitlines()
        for before, line in pairwise(lines):
            if "\tErrorResponse\t" in line:
                state = line.partition(' C "')[2][:5] or None
                # What a pooler refuses right after the proof of the password is that.
                is_proof = state == _POOLER and "\tSASLResponse\t" in before
                return "28P01" if is_proof else state
    return None
