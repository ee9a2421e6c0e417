"""Names failures inside dlt: from the types in a chain of causes to a class of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigurationException,
)
from dlt.common.exceptions import DictValidationException, MissingDependencyException
from dlt.common.json import _orjson
from dlt.common.schema.exceptions import (
    DataValidationError,
    SchemaException,
)
from dlt.common.schema.typing import DLT_NAME_PREFIX
from dlt.extract.exceptions import (
    CreatePipeException,
    DltSourceException,
    PipeGenInvalid,
    ResourceExtractionError,
)
from dlt.normalize.exceptions import NormalizeJobFailed

from etl.causes import causes, first_line, is_lost, is_refusal, is_rejected, raised_in
from etl.duckdb_failures import classify_machine
from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    ExtractError,
    LoadError,
    SchemaError,
    UnreachableError,
)
from etl.raw.collisions import describe_collision
from etl.raw.contracts import describe_breach, earlier_hints
from etl.raw.request_failures import CURSOR_ERRORS, requested


def classify(
    error: BaseException, source: str, step: str, folder: Path, pii: Iterable[str] = ()
) -> EtlError:
    """The class of a failure inside dlt, by the types in its chain of causes.

    `folder` is where DuckDB writes. A row that is shown as a cause has the columns of `pii` masked.
    """
    chain = causes(error)
    named = (ResourceExtractionError, *CURSOR_ERRORS)
    resource = next((c.pipe_name for c in chain if isinstance(c, named)), None)
    subject = f"{source}.{resource}" if resource else source
    for cause in chain:
        if isinstance(cause, EtlError):
            if not cause.subject:
                cause.subject = subject
                if cause.message.startswith(f"{resource},"):
                    cause.message = f"{source}.{cause.message}"
                elif subject not in cause.message:
                    cause.message = f"{subject}: {cause.message}"
            return cause
    for cause in chain:
        if (collision := describe_collision(cause, source, pii)) is not None:
            return collision
        # In the load step it is no row's fault.
        if isinstance(cause, DataValidationError) or (
            isinstance(cause, SchemaException) and step == "normalize"
        ):
            return describe_breach(cause, subject, step, pii)
    found = (
        requested(chain, subject)
        or config_error(
            chain,
            subject,
            f"`sources.{source}.arguments` gives it to a factory, as a setting, a variable or a "
            "secrets file; dlt itself looks into its own variables, and into .dlt/ in the folder "
            "where the run starts",
        )
        or classify_machine(error, folder)
        or _depth(chain, subject, step)
        or (_of_function(chain, subject) if step == "extract" else None)
        or (_of_row(chain, subject) if step == "normalize" else None)
    )
    if found is not None:
        return found
    root = chain[-1]
    if step == "load":
        return LoadError(
            f"{subject}: the warehouse refused a load package: {first_line(root)}",
            subject=subject,
            hint="the package is kept in data/quarantine; a table or column of raw that somebody "
            f"dropped comes back by `etl run --full-refresh --source {source}`",
        )
    return EtlError(
        f"{subject}: {step} failed: {type(root).__name__}: {first_line(root)}",
        subject=subject,
        hint="did a function of your own raise it (factory, processing_steps)? mend it there; else "
        "it has no class yet: please report it with the run's log",
    )


def _of_row(chain: list[BaseException], subject: str) -> EtlError | None:
    """A value that its file's column does not allow: a null key, none at all, too long a number."""
    from pyarrow import ArrowException

    root = chain[-1]
    if not isinstance(root, ArrowException | OverflowError | KeyError):
        return None
    job = next((c.job_id for c in chain if isinstance(c, NormalizeJobFailed)), "")
    table = job.partition(".")[0]
    # Rows are written some time after they were read: dlt names the table that it was at then.
    place = f".{table}" if table and not table.startswith(DLT_NAME_PREFIX) else ""
    return SchemaError(
        f"{subject}{place}: a value does not fit its column: "
        f"{type(root).__name__}: {first_line(root)}",
        subject=subject,
        hint="a key without a value or with one of another type, a number too long for its "
        "column? mend the source, or the column's hints in its settings (`data_type`); the "
        "package is kept in data/quarantine; " + earlier_hints(subject),
    )


def _of_function(chain: list[BaseException], subject: str) -> EtlError | None:
    """What a factory's own client lacks, could not reach, or was refused: a database's, say."""
    # SQLAlchemy wraps it.
    if rejected := next(filter(is_rejected, chain), None):
        return AuthError(
            f"{subject}: the source rejects the log-in: {first_line(rejected)}",
            subject=subject,
            hint="check user and password of this source, and what they may connect to",
        )
    for cause in chain:
        if isinstance(cause, ModuleNotFoundError):
            return ConfigError(
                f"{subject}: a module is missing: {cause.name}",
                subject=subject,
                hint="install the package that has it where the job runs, a driver say",
            )
        told = f"{type(cause).__name__}: {first_line(cause)}"
        if is_lost(cause):
            return UnreachableError(
                f"{subject}: the source cannot be reached: {told}",
                subject=subject,
                hint="run again; is it up, and are the address and the log-in right? drivers do "
                "not always tell them apart",
            )
        if is_refusal(cause):
            return ExtractError(
                f"{subject}: the source refuses what it was asked: {told}",
                subject=subject,
                hint="compare the tables, columns and rights there with what the factory asks for",
            )
    return None


def _depth(chain: list[BaseException], subject: str, step: str) -> EtlError | None:
    """Rows that are nested too deep: for Python, for orjson, for the names of files."""
    root = chain[-1]
    if step == "normalize" and isinstance(root, OSError) and root.errno == errno.ENAMETOOLONG:
        table = Path(str(root.filename)).name
        return SchemaError(
            f"{subject}: nested so deep that the name of its table is too long for a file: "
            f"{table[:60]}…",
            subject=subject,
            hint="`max_table_nesting` of the resource says from which depth on raw keeps JSON; the "
            "package is kept in data/quarantine",
        )
    if step == "extract" and any(map(_is_unwritable, chain)):
        return ExtractError(
            f"{subject}: a row cannot be written down: {type(root).__name__}: {first_line(root)}",
            subject=subject,
            hint="it is nested more than 250 levels deep, or holds a value that JSON or Arrow has "
            "not: look at the source's answer; a `factory` can leave the field out, or make a "
            "text, and gives all Arrow tables of a resource the same columns and types",
        )
    return None


def _is_unwritable(error: BaseException) -> bool:
    """True for what says that a row, or a table of Arrow's, cannot be written to a package."""
    from dlt.common.libs.pyarrow import UnsupportedArrowTypeException
    from pyarrow import ArrowException

    if isinstance(error, RecursionError | ArrowException | UnsupportedArrowTypeException):
        return True
    # orjson raises a mere TypeError, and only dlt's module asks it: so the place where it was
    # raised tells it from a mistake in a program.
    return isinstance(error, TypeError) and raised_in(error) == _orjson.__name__


def config_error(chain: list[BaseException], subject: str, lacking: str = "") -> EtlError | None:
    """What dlt says of settings, or of a package that they need; None when it says nothing.

    `lacking` is the hint where dlt finds no value.
    """
    for cause in chain:
        if isinstance(
            cause,
            ConfigurationException
            | DictValidationException
            | MissingDependencyException
            | DltSourceException
            | CreatePipeException
            | PipeGenInvalid,
        ):
            hint = ""
            if isinstance(cause, MissingDependencyException):
                hint = install(cause)
            elif isinstance(cause, ConfigFieldMissingException):
                hint = lacking
            return ConfigError(f"{subject}: {first_line(cause)}", subject=subject, hint=hint)
    return None


def install(error: MissingDependencyException) -> str:
    """The command that brings what dlt misses."""
    return " ".join(["pip install", *(f"'{d}'" for d in error.dependencies)])
