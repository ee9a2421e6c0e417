"""The causes of an error, and what they tell of the machine (disk, memory, rights) or a server."""

from __future__ import annotations

import errno
import socket
from concurrent.futures import BrokenExecutor
from traceback import walk_tb

from etl.errors import EtlError, ResourcesError

# Of the machine, not of what was asked of it.
_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOMEM,
    errno.EMFILE,
}  # fmt: skip


def causes(error: BaseException) -> list[BaseException]:
    """The error and all that caused it, outermost first; each once."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__
    return chain


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type; at most 500 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def classify_os_error(error: BaseException) -> EtlError | None:
    """A ResourcesError when disk, memory, processes or file permissions are the cause, else None.

    Decided by type and errno: ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EPERM, ENOMEM, EMFILE.
    """
    for cause in causes(error):
        if isinstance(cause, MemoryError):
            return ResourcesError(
                "out of memory", hint="give the job more memory or extract less at a time"
            )
        if isinstance(cause, BrokenExecutor):
            return ResourcesError(
                "a process of the job was killed", hint="give the job more memory, then run again"
            )
        # Of a thread that the system refused: a mere RuntimeError, so its place tells it.
        if isinstance(cause, RuntimeError) and raised_in(cause) == "threading":
            return ResourcesError(
                "no thread could be started",
                hint="give the job more memory, or let its user or container have more processes",
            )
        if isinstance(cause, OSError) and cause.errno in _MACHINE:
            where = f": {cause.filename}" if cause.filename else ""
            return ResourcesError(
                f"{cause.strerror or type(cause).__name__}{where}",
                hint="free disk space, or give the job's user the right to it, then run again",
            )
    return None


def raised_in(error: BaseException) -> str:
    """The name of the module that raised the error; empty for one that nobody raised."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")) if frames else ""


def is_refusal(error: BaseException) -> bool:
    """True for what a database says of a value or a statement that it does not take.

    Drivers have exceptions of their own, but their bases have the names that PEP 249 gives them;
    what SQLAlchemy finds wrong itself (a table that is not there) has its name.
    """
    names = {"DataError", "IntegrityError", "ProgrammingError", "NotSupportedError"}
    return _is_named(error, names | {"SQLAlchemyError"})


def is_lost(error: BaseException) -> bool:
    """True for an exception, a driver's too, that tells of the connection or the server."""
    broken = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return broken or _is_named(error, {"OperationalError", "InterfaceError"})


def is_rejected(error: BaseException) -> bool:
    """True for what a database's driver says of a log-in, by SQLSTATE or the server's own number.

    libpq gives neither while it connects, but whether a password was asked for, or sent.
    """
    if not is_lost(error):
        return False
    first = next(iter(error.args), None)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or first
    if isinstance(state, str) and len(state) == 5:
        return state.startswith("28")
    if (tried := getattr(error, "pgconn", None)) is not None:
        return bool(tried.needs_password or tried.used_password)
    # MySQL's and MariaDB's numbers of it.
    return isinstance(first, int) and first in {1045, 1698}


def _is_named(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
