"""Names failures inside SQLMesh: from the types in a chain of causes to a class of ours."""

from __future__ import annotations

import re

import duckdb
from sqlglot.errors import SqlglotError
from sqlmesh.core.snapshot import SnapshotId
from sqlmesh.utils.concurrency import NodeExecutionFailedError
from sqlmesh.utils.errors import ConfigError as SQLMeshConfigError
from sqlmesh.utils.errors import SignalEvalError, SQLMeshError

from etl.causes import causes, classify_os_error
from etl.duckdb_failures import classify_duckdb
from etl.errors import EtlError, ExitCode, TransformError
from etl.project.listener import bare_name
from etl.settings import Settings
from etl.warehouse import connect

_SPOKEN = (SQLMeshError, SqlglotError, duckdb.Error)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BrokenAuditError(SQLMeshError):
    """An audit of this name cannot be run; its cause says why."""


class BrokenCodeError(SQLMeshError):
    """This line of a model in Python failed; its cause says why."""


def classify(error: BaseException, settings: Settings, what: str, subject: str = "") -> EtlError:
    """The class of a failure inside SQLMesh, by the types in its chain of causes."""
    # A worker process of SQLMesh's parser sends its traceback along as a cause.
    chain = [c for c in causes(error) if type(c).__name__ != "_RemoteTraceback"]
    for cause in chain:
        if isinstance(cause, EtlError):
            return cause
    for cause in chain:
        if not isinstance(cause, duckdb.Error):
            continue
        if (found := classify_duckdb(cause, settings.data)) is not None:
            # The warehouse is open by then: what a model cannot open is a file that it names.
            if subject and type(cause) is duckdb.IOException and found.code is ExitCode.CONNECTION:
                break
            return found
    if not subject and (refused := classify_os_error(error)) is not None:
        return refused  # SQLMesh's cache, too
    root = chain[-1]
    # SQLMesh itself says in which file, and of which model; below it only the parser speaks.
    told = error if isinstance(error, SQLMeshConfigError | SignalEvalError) else root
    text = " ".join(ANSI.sub("", str(told)).split())[:1000]
    if not isinstance(told, _SPOKEN):
        # Models in Python, macros and Jinja may raise anything: it is the project's failure still.
        text = f"{type(root).__name__}: {text}" if text else type(root).__name__
    text += "".join(f", at {c}" for c in chain if isinstance(c, BrokenCodeError))
    for audit in (str(c) for c in chain if isinstance(c, BrokenAuditError)):
        what = what if audit == subject else f"its audit {audit} cannot be run"
    hint = "mend the model, then `etl retry`" if any(isinstance(c, _SPOKEN) for c in chain) else ""
    nodes = [c.node for c in chain if isinstance(c, NodeExecutionFailedError)]
    subject = subject or next((bare_name(n.name) for n in nodes if isinstance(n, SnapshotId)), "")
    where = f"{subject}: " if subject else ""
    return TransformError(f"{where}{what}: {text}", subject=subject, hint=hint)


def closed_state(settings: Settings) -> EtlError | None:
    """Why the state cannot be opened; None when it can. SQLMesh's error does not say which file."""
    if settings.state.exists():
        try:
            with connect(settings.state):
                return None
        except EtlError as e:
            # One that this process has open with other settings is no file's fault.
            return e if isinstance(e.__cause__, duckdb.IOException) else None
    return None
