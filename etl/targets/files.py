"""The file system under a target: durable writes, foreign locks, and what an I/O error means."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from etl.causes import causes, classify_os_error
from etl.errors import (
    ConfigError,
    EtlError,
    LoadError,
    ResourcesError,
    Stopped,
    UnreachableError,
)

_PROBE_BYTES = 1 << 20


def warehouse_folder(connection: duckdb.DuckDBPyConnection) -> Path:
    """The folder of the warehouse, which DuckDB writes into."""
    row = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchone()
    return Path(str(row[0]) if row and row[0] else ".").parent


def sync(path: Path) -> None:
    """Bring a file, or a directory's entries, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_other_kind(path: Path, target: str, *, folder: bool) -> None:
    """Raise ConfigError when a folder stands where a file is to be, or the other way round."""
    if path.exists() and path.is_dir() != folder:
        raise ConfigError(
            f"{path} of target {target} is {'no' if folder else 'a'} folder",
            subject=target,
            hint="name another `path`",
        )


def refuse_writer(path: Path, target: str) -> None:
    """Raise UnreachableError when another process has the DuckDB file open for writing.

    Call it only while this process does not have the file open: closing the descriptor gives up
    all POSIX locks that the process holds on the file.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UnreachableError(
                f"{path} of target {target} is open for writing in another process",
                subject=target,
                hint="open it read-only to read it (duckdb -readonly); "
                "end the process that writes, then run again",
            ) from error


@contextmanager
def translating(
    cursor: duckdb.DuckDBPyConnection, target: str, doing: str, directory: Path, written: str
) -> Iterator[None]:
    """Turn errors of DuckDB and of the system into ours.

    `written` is a pattern for the files in `directory` that are being written. Raises
    ResourcesError, LoadError; Stopped when a stop request interrupted a query.
    """
    try:
        yield
    except EtlError:
        raise
    except RuntimeError as error:
        # DuckDB answers the exception of a signal handler with a RuntimeError. Until interrupt()
        # is called, the cursor's next statement waits for the interrupted one to end (1.5).
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
        # DuckDB's IOException carries no errno: ask the system by writing once more, here and
        # where DuckDB spills.
        for seen in (error, _probe(directory, written), _probe(_spill_directory(cursor), "*")):
            found = classify_os_error(seen) if seen is not None else None
            if found is not None:
                raise ResourcesError(
                    f"{doing} for target {target}: {found.message}",
                    subject=target,
                    hint=found.hint,
                ) from error
        raise LoadError(
            f"{doing} for target {target} failed: {type(error).__name__}: {error}",
            subject=target,
            hint="mend what the message names; the next run publishes all of it again",
        ) from error


def _spill_directory(cursor: duckdb.DuckDBPyConnection) -> Path | None:
    try:
        row = cursor.execute("SELECT current_setting('temp_directory')").fetchone()
    except duckdb.Error:
        return None
    return Path(str(row[0])) if row and row[0] else None


def _probe(directory: Path | None, written: str) -> OSError | None:
    """The error of writing 1 MiB into a directory, None when it goes well.

    It is written as far into a new file as the largest of the `written` ones reaches, so that a
    limit on the size of files is met again too.
    """
    if directory is None or not directory.is_dir():
        return None
    probe = directory / f".probe.{os.getpid()}"
    try:
        reached = max((f.stat().st_size for f in directory.glob(written)), default=0)
        with probe.open("wb") as file:
            file.seek(reached)
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        probe.unlink(missing_ok=True)
    return None
