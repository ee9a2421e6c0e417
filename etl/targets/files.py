"""The file system under a target: durable writes, foreign locks, and what an I/O error means."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from etl.errors import (
    ConnectionFailed,
    EtlError,
    LoadError,
    ResourcesError,
    Stopped,
    causes,
    classify_os_error,
)

_PROBE_BYTES = 1 << 20


def sync(path: Path) -> None:
    """Bring a file, or a directory's entries, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_writer(path: Path, target: str) -> None:
    """Raise ConnectionFailed when another process has the DuckDB file open for writing.

    Call it only while this process does not have the file open: closing the descriptor gives up
    all POSIX locks that the process holds on the file.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise ConnectionFailed(
                f"{path} of target {target} is open for writing in another process",
                subject=target,
                hint="open it read-only to read it (duckdb -readonly); "
                "end the process that writes, then run again",
            ) from error


@contextmanager
def translating(
    cursor: duckdb.DuckDBPyConnection, target: str, doing: str, written: Path
) -> Iterator[None]:
    """Turn errors of DuckDB and of the system into ours; `written` is what was being written.

    Raises ResourcesError, LoadError; Stopped when a stop request interrupted a query.
    """
    try:
        yield
    except EtlError:
        raise
    except RuntimeError as error:
        # DuckDB answers a signal handler's exception with RuntimeError. Until interrupt() is
        # called, the next statement of this cursor waits for the interrupted one (1.5).
        cursor.interrupt()
        for cause in causes(error):
            if isinstance(cause, Stopped | KeyboardInterrupt):
                raise cause from None
        raise
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise ResourcesError(
            f"{doing} for target {target}: out of memory",
            subject=target,
            hint="give the job more memory, or free the disk of the warehouse's directory",
        ) from error
    except (duckdb.Error, OSError) as error:
        # DuckDB's IOException carries no errno: ask the system by writing once more, to the very
        # file (its size may be limited) and to where DuckDB spills.
        for place in (error, _probe(written), _probe(_spill_directory(cursor))):
            found = classify_os_error(place) if place is not None else None
            if found is not None:
                raise ResourcesError(
                    f"{doing} for target {target}: {found.message}",
                    subject=target,
                    hint=found.hint,
                ) from error
        raise LoadError(
            f"{doing} for target {target} failed: {type(error).__name__}: {error}", subject=target
        ) from error


def _spill_directory(cursor: duckdb.DuckDBPyConnection) -> Path | None:
    try:
        row = cursor.execute("SELECT current_setting('temp_directory')").fetchone()
    except duckdb.Error:
        return None
    return Path(str(row[0])) if row and row[0] else None


def _probe(path: Path | None) -> OSError | None:
    """The error of writing 1 MiB to a file, or into a directory; None when it goes well."""
    if path is None or not path.parent.is_dir():
        return None
    place = path / f".probe.{os.getpid()}" if path.is_dir() else path
    existed = place.exists()
    try:
        with place.open("ab") as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        # What stood there before is a part file that its owner throws away.
        if not existed:
            place.unlink(missing_ok=True)
    return None
