"""Names failures inside dlt: from the types in a chain of causes to a class of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_tb

from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.exceptions import DictValidationException, MissingDependencyException
from dlt.common.json import _orjson
from dlt.common.schema.exceptions import (
    DataValidationError,
    SchemaException,
)
from dlt.common.schema.typing import DLT_NAME_PREFIX
from dlt.extract.exceptions import ResourceExtractionError
from dlt.extract.incremental.exceptions import (
    IncrementalCursorInvalidCoercion,
    IncrementalCursorPathHasValueNone,
    IncrementalCursorPathMissing,
)
from dlt.normalize.exceptions import NormalizeJobFailed
from pendulum.parsing.exceptions import ParserError
from requests import HTTPError, RequestException, Response
from requests.exceptions import InvalidURL, MissingSchema

from etl.causes import causes
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
from etl.raw.places import UNREACHABLE, NotReachedError, is_busy, place_of
from etl.secrets import safe_url
from etl.warehouse import classify_machine

CURSOR_ERRORS = (
    IncrementalCursorPathMissing, IncrementalCursorPathHasValueNone,
    IncrementalCursorInvalidCoercion,
)  # fmt: skip
NOTHING_THERE = (
    "; where 404 means that there is nothing, the endpoint says so: `response_actions: "
    "[{status_code: 404, action: ignore}]`"
)


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
        _http(chain, subject)
        or config_error(chain, subject)
        or classify_machine(error, folder)
        or _depth(chain, subject, step)
    )
    if found is not None:
        return found
    root = chain[-1]
    if step == "normalize" and isinstance(root, _row_errors()):
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


def _row_errors() -> tuple[type[BaseException], ...]:
    """What writing rows raises when one of them has a value, or lacks one, that its file's
    columns do not allow: a null key, a key that no row has, a number that is too long."""
    from pyarrow import ArrowException

    return ArrowException, OverflowError, KeyError


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type; at most 500 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _http(chain: list[BaseException], subject: str) -> EtlError | None:
    for cause in chain:
        if isinstance(cause, MissingSchema | InvalidURL):
            return ConfigError(
                f"{subject}: the URL is not valid: {first_line(cause)}",
                subject=subject,
                hint="correct the source's `base_url` and the `path` of the endpoint",
            )
        if isinstance(cause, HTTPError) and cause.response is not None:
            return _answered(cause.response, subject)
        if isinstance(cause, RequestException):
            return _unanswered(cause, subject)
        if isinstance(cause, CURSOR_ERRORS):
            return ExtractError(
                f"{subject}: rows lack the incremental cursor, or it is of "
                f"another type than before: {type(cause).__name__}",
                subject=subject,
                hint="dlt's `on_cursor_value_missing` says what becomes of rows without a cursor",
            )
        if isinstance(cause, ParserError):
            return ExtractError(
                f"{subject}: a text is no date or time: {first_line(cause)}",
                subject=subject,
                hint="with a `lag` the incremental cursor has to be one as ISO 8601 writes it, or "
                "a number: `processing_steps` can turn it into one",
            )
    return None


def _answered(response: Response, subject: str) -> EtlError:
    """What an answer's status means."""
    status, page = response.status_code, place_of(response.request).page
    told = f"{subject}{f', page {page}' if page else ''}: {status}"
    url = safe_url(response.url)
    if is_busy(response):
        return UnreachableError(
            f"{told} until the retries ran out ({url})",
            subject=subject,
            hint="the API is busy or broken, or its limit is used up: run again later, or set the "
            "source's `rate_limit`",
        )
    if status in (401, 403):
        return AuthError(
            f"{told}, the credentials were rejected ({url})",
            subject=subject,
            hint="check the secret of this source and what it may read",
        )
    return ExtractError(
        f"{told} ({url})",
        subject=subject,
        hint="the API refuses this request: compare it with the API's documentation"
        + NOTHING_THERE * (status == 404),
    )


def _unanswered(error: RequestException, subject: str) -> EtlError:
    """What it means that there is no answer, or none to its end."""
    request, kind = error.request, type(error).__name__
    url = safe_url((request.url or "") if request is not None else "")
    if isinstance(error, UNREACHABLE):
        page = place_of(request).page
        return NotReachedError(
            f"{subject}{f', page {page}' if page else ''}: {url or 'the API'} cannot be reached "
            f"({kind})",
            subject=subject,
        )
    return ExtractError(
        f"{subject}: the answer cannot be used: {kind}{f' ({url})' if url else ''}",
        subject=subject,
        hint="the API redirects in a circle, names a link that is none, or sends a body that is "
        "not encoded as it says",
    )


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
    if step == "extract" and any(isinstance(c, RecursionError) or _is_of_orjson(c) for c in chain):
        return ExtractError(
            f"{subject}: a row cannot be written down: {type(root).__name__}: {first_line(root)}",
            subject=subject,
            hint="it is nested more than 250 levels deep, or holds a value that JSON has not: look "
            "at the source's answer; a `factory` can leave the field out",
        )
    return None


def _is_of_orjson(error: BaseException) -> bool:
    """True for what orjson cannot write: it raises a mere TypeError, and only dlt's module asks it.

    So the place where it was raised tells it from a mistake in a program.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    where = frames[-1].f_globals["__name__"] if frames else ""
    return isinstance(error, TypeError) and where == _orjson.__name__


def config_error(chain: list[BaseException], subject: str) -> EtlError | None:
    """What dlt says of settings, or of a package that they need; None when it says nothing."""
    for cause in chain:
        if isinstance(
            cause, ConfigurationException | DictValidationException | MissingDependencyException
        ):
            hint = ""
            if isinstance(cause, MissingDependencyException):
                hint = " ".join(["pip install", *(f"'{d}'" for d in cause.dependencies)])
            return ConfigError(f"{subject}: {first_line(cause)}", subject=subject, hint=hint)
    return None
