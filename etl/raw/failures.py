"""Names failures inside dlt: from the types in a chain of causes to a class of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_tb

from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination.exceptions import (
    DestinationTransientException,
    UnknownDestinationModule,
)
from dlt.common.exceptions import DictValidationException, MissingDependencyException
from dlt.common.json import _orjson
from dlt.common.schema.exceptions import (
    DataValidationError,
    SchemaException,
)
from dlt.common.schema.typing import DLT_NAME_PREFIX
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.extract.exceptions import ResourceExtractionError
from dlt.extract.incremental.exceptions import (
    IncrementalCursorInvalidCoercion,
    IncrementalCursorPathHasValueNone,
    IncrementalCursorPathMissing,
)
from dlt.load.exceptions import LoadClientJobException
from dlt.normalize.exceptions import NormalizeJobFailed
from pendulum.parsing.exceptions import ParserError
from requests import HTTPError, RequestException, Response
from requests.exceptions import InvalidURL, MissingSchema

from etl.causes import causes, classify_os_error
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
        or _config(chain, subject)
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
            hint="a key without a value, a number too long for its column? mend the source, or the "
            "column's hints in its settings; the package is kept in data/quarantine; "
            + earlier_hints(subject),
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


def classify_delivery(error: BaseException, target: str) -> EtlError:
    """The class of a failure while dlt brings marts to a target, by types as well."""
    chain = causes(error)
    # A load job's own error hangs on it beside the chain.
    jobs = [c for c in chain if isinstance(c, LoadClientJobException)]
    chain += [c for job in jobs for c in causes(job.client_exception)]
    for cause in chain:
        if isinstance(cause, EtlError):
            return cause
    # A job is named after its table.
    where = "".join(f"{j.job_id.partition('.')[0]} at " for j in jobs[:1]) + f"target {target}"
    for cause in chain:
        if isinstance(cause, UnknownDestinationModule):
            return ConfigError(
                f"{where}: dlt has no destination of this name",
                subject=target,
                hint="write it as dlt's documentation does, such as filesystem or bigquery",
            )
    failures = (chain[0], *(job.client_exception for job in jobs))
    machine = next(filter(None, map(classify_os_error, failures)), None)
    if (found := _config(chain, target) or machine) is not None:
        return found
    # A machine's own has a number, a store's has none.
    if (denied := next((c for c in chain if isinstance(c, PermissionError)), None)) is not None:
        return AuthError(
            f"{where}: the credentials were rejected: {first_line(denied)}",
            subject=target,
            hint="check the target's `credentials` and what they may do there",
        )
    # dlt takes most of what a database or its driver refuses for a failure that passes, and tries
    # it again a few times.
    refusal = next((c for c in chain if _refuses(c)), None)
    unconnected = next((c for c in chain if isinstance(c, DestinationConnectionError)), None)
    lost = unconnected.inner_exc if unconnected else next((c for c in chain if _is_lost(c)), None)
    passes = lost or any(isinstance(c, DestinationTransientException) for c in chain)
    if unconnected or (passes and refusal is None):
        told = f" cannot be reached: {first_line(lost)}" if lost else f": {first_line(chain[-1])}"
        return UnreachableError(
            f"{where}{told}",
            subject=target,
            hint="run again; is it up, and are the target's `options` right? dlt does not tell the "
            "two apart",
        )
    said = refusal or chain[-1]
    return LoadError(
        f"{where}: {type(said).__name__}: {first_line(said)}",
        subject=target,
        hint="correct the model, or the table at the target, or drop the table there: the next run "
        "sends the whole mart",
    )


def _refuses(error: BaseException) -> bool:
    """True for what says that a value or a statement is not taken.

    Drivers have exceptions of their own, but their bases have the names that PEP 249 gives them.
    """
    refusing = {"DataError", "IntegrityError", "ProgrammingError", "NotSupportedError"}
    return isinstance(error, ArithmeticError | TypeError | ValueError) or _is_named(error, refusing)


def _is_lost(error: BaseException) -> bool:
    """True for a driver's exception that tells of the connection or the server, not of a value."""
    broken = isinstance(error, ConnectionError | TimeoutError)
    return broken or _is_named(error, {"OperationalError", "InterfaceError"})


def _is_named(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


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


def _config(chain: list[BaseException], subject: str) -> EtlError | None:
    for cause in chain:
        if isinstance(
            cause, ConfigurationException | DictValidationException | MissingDependencyException
        ):
            hint = ""
            if isinstance(cause, MissingDependencyException):
                hint = " ".join(["pip install", *(f"'{d}'" for d in cause.dependencies)])
            return ConfigError(f"{subject}: {first_line(cause)}", subject=subject, hint=hint)
    return None
