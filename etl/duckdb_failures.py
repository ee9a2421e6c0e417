"""What an error of DuckDB's means: of the machine (disk, memory, rights, locks) or of the query."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

import duckdb

from etl.causes import causes, classify_os_error
from etl.errors import EtlError, ResourcesError, UnreachableError

# Less room than this, and a failed write means that the disk is full.
FULL_DISK_BYTES = 16 * 1024 * 1024
# The same of a failed commit: it writes all rows of up to a group (122,880 for each thread) into
# the log at once, and takes back what it wrote.
FULL_AT_COMMIT_BYTES = 1024 * 1024 * 1024


def classify_machine(error: BaseException, folder: Path) -> EtlError | None:
    """The class of a failure that is the machine's, by the types in its chain of causes; else None.

    `folder` is where DuckDB writes.
    """
    for cause in causes(error):
        if isinstance(cause, duckdb.Error) and (found := classify_duckdb(cause, folder)):
            return found
    return classify_os_error(error)


def classify_duckdb(error: duckdb.Error, folder: Path, path: Path | None = None) -> EtlError | None:
    """The class of a DuckDB failure that is the machine's, None when it is the query's.

    DuckDB reports a full disk, a locked file and a missing one alike, as IOException without an
    errno: the disk itself is asked. `path` is the file that was to be opened.
    """
    if isinstance(error, duckdb.OutOfMemoryException):
        return ResourcesError(
            "DuckDB ran out of memory", hint="give the job more memory or a larger temp directory"
        )
    # At a commit, the failed write of the log is a TransactionException.
    if isinstance(
        error,
        duckdb.IOException
        | duckdb.TransactionException
        | duckdb.FatalException
        | duckdb.InternalException,
    ):
        if not can_write(folder):
            return ResourcesError(
                f"{folder}: the disk is full, or files may not be written or grow there",
                hint="free disk space or make the folder writable, then run again",
            )
        room = _room(folder)
        if isinstance(error, duckdb.TransactionException) and room < FULL_AT_COMMIT_BYTES:
            return ResourcesError(
                f"{folder}: what was to be committed did not fit into {room / 1024**2:,.0f} MiB, "
                "which are free there or which its files may still grow",
                hint="free disk space (or raise `ulimit -f`), then run again",
            )
        if isinstance(error, duckdb.IOException):
            if path is not None and _is_something_else(path):
                return UnreachableError(
                    f"{path} is no DuckDB database: it is damaged, or another program's",
                    hint="restore the warehouse and state.duckdb from one backup; without one move "
                    # Raw holds what an API may never give again: it goes only when it is damaged.
                    + (
                        "it away, and the next run builds every model anew from raw"
                        if path.name == "state.duckdb"
                        else "both away, and the next run begins anew"
                    ),
                )
            return UnreachableError(
                f"{path or 'the warehouse'} cannot be opened or read: another process holds it, "
                "or it is damaged",
                hint="close other programs that have the file open",
            )
    return classify_os_error(error)


def _is_something_else(path: Path) -> bool:
    """True when the file does not begin as DuckDB's do; one that cannot be read is not told."""
    try:
        with path.open("rb") as f:
            return f.read(12)[8:] != b"DUCK"
    except OSError:
        return False


def can_write(folder: Path) -> bool:
    """True when a megabyte can be written there now."""
    if _room(folder) < FULL_DISK_BYTES:
        return False
    try:
        with tempfile.TemporaryFile(dir=folder) as f:
            f.write(bytes(1024 * 1024))
            f.flush()
    except OSError:
        return False
    return True


def _room(folder: Path) -> int:
    """How many bytes the disk has left, or the largest file there may still grow (`ulimit -f`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        free = shutil.disk_usage(folder).free
        if limit == resource.RLIM_INFINITY:
            return free
        return min(free, limit - max((f.stat().st_size for f in folder.iterdir()), default=0))
    except OSError:
        return 0


def refuse_foreign(path: Path, mode: int) -> EtlError | None:
    """The failure of a file that is somebody else's: DuckDB tells it as one that is in use.

    None when this user may read or write it, as `mode` of os.access says.
    """
    for file in (path, path.with_name(f"{path.name}.wal")):
        if file.exists() and not os.access(file, mode):
            return ResourcesError(
                f"{file}: this user may not {'write' if mode & os.W_OK else 'read'} it",
                hint=f"it belongs to user {file.stat().st_uid}: did another user run the job once? "
                "`chown -R` the data directory",
            )
    return None
