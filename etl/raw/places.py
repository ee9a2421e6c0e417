"""The place of a request (resource, page), and which failures mean that its API is away or busy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from requests import PreparedRequest, Request, Response
from requests.exceptions import ChunkedEncodingError, Timeout
from requests.exceptions import ConnectionError as RequestsConnectionError

from etl.errors import UnreachableError

UNREACHABLE = (RequestsConnectionError, Timeout, ChunkedEncodingError)


def is_busy(response: Response) -> bool:
    """True for answers that mean: ask again later.

    A 403 does when its headers speak of a limit that is used up, as GitHub's do.
    """
    status, headers = response.status_code, response.headers
    is_used_up = limit_header(headers, "remaining") == "0"
    is_limit = status == 403 and ("Retry-After" in headers or is_used_up)
    return is_limit or status == 429 or 500 <= status < 600


def limit_header(headers: Mapping[str, str], name: str) -> str | None:
    """What an API says of its limit under the name, such as `remaining`."""
    return headers.get(f"ratelimit-{name}") or headers.get(f"x-ratelimit-{name}")


class NotReachedError(UnreachableError):
    """A host did not answer, or not to the end."""

    def __init__(self, message: str, *, subject: str = "") -> None:
        hint = "is it the network, a proxy, the address? `etl doctor` asks each source once"
        super().__init__(message, subject=subject, hint=hint)


@dataclass(frozen=True)
class Place:
    """Where a request belongs: resource, and number of the page within it (from 1).

    `is_promised` says that the API itself led to this page.
    """

    resource: str = ""
    page: int = 0
    is_promised: bool = False

    def __str__(self) -> str:
        """How a message about it begins; empty for a request that nobody marked."""
        return f"{self.resource}, page {self.page}: " if self.resource else ""


NOWHERE = Place()


def mark_place(request: Request, place: Place) -> None:
    """Let a request carry its place, so that every error can name it."""
    vars(request)["place"] = place


def place_of(request: PreparedRequest | Request | None) -> Place:
    """The place of a request; empty for one that nobody marked."""
    found = vars(request).get("place") if request is not None else None
    return found if isinstance(found, Place) else NOWHERE
