"""What a request's failure means: no answer, a status, rows without what dlt asks by."""

from __future__ import annotations

from urllib.parse import parse_qs

from dlt.extract.incremental.exceptions import (
    IncrementalCursorInvalidCoercion,
    IncrementalCursorPathHasValueNone,
    IncrementalCursorPathMissing,
)
from pendulum.parsing.exceptions import ParserError
from requests import HTTPError, PreparedRequest, RequestException, Response
from requests.exceptions import InvalidURL, MissingSchema

from etl.causes import first_line
from etl.errors import AuthError, ConfigError, EtlError, ExtractError, UnreachableError
from etl.raw.places import UNREACHABLE, NotReachedError, is_busy, place_of
from etl.secrets import safe_url

CURSOR_ERRORS = (
    IncrementalCursorPathMissing, IncrementalCursorPathHasValueNone,
    IncrementalCursorInvalidCoercion,
)  # fmt: skip
NOTHING_THERE = (
    "; where 404 means that there is nothing, the endpoint says so: `response_actions: "
    "[{status_code: 404, action: ignore}]`"
)


def requested(chain: list[BaseException], subject: str) -> EtlError | None:
    """The class of what went wrong between a request and the rows of its answer; None if nothing.

    `chain` is an error and all that caused it.
    """
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
    # A log-in that is refused is 400 (RFC 6749, 5.2).
    if status in (401, 403) or (status == 400 and _is_login(response.request)):
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


def _is_login(request: PreparedRequest) -> bool:
    """True for one that asks for a token by OAuth 2."""
    body = request.body if isinstance(request.body, str) else ""
    return "grant_type" in parse_qs(body)


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
