"""Where a source's credentials may go: to the hosts that its settings name, and to no other."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from requests import PreparedRequest, Request
from requests.sessions import SessionRedirectMixin

from etl.errors import ExtractError
from etl.raw.places import place_of
from etl.secrets import is_secret_key, safe_url

# What a request says of itself and its body, not of who sends it.
PUBLIC_HEADERS = {
    "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent",
}  # fmt: skip


def find_homes(base_url: str, paths: Iterable[str]) -> tuple[str, ...]:
    """The addresses that the settings name: the base URL, and each path that is one by itself.

    Not a path whose host is a placeholder: that comes from the API.

    Raises:
        ValueError: a port or a host is none, or paths cannot follow the base URL.
    """
    if {"?", "#"} & set(base_url):
        raise ValueError(
            "`base_url` has a ? or # in it, and paths follow it: name what comes behind in `params`"
        )
    named = [p for p in paths if urlsplit(p).scheme in ("http", "https")]
    homes = (base_url, *(p for p in named if "{" not in urlsplit(p).netloc))
    for home in homes:
        _ = urlsplit(home).port
    return homes


def has_credentials(request: Request) -> bool:
    """Whether a request tells who sends it: by `auth`, a header, or a field named like a secret."""
    fields = [f for f in (request.params, request.json, request.data) if isinstance(f, dict)]
    return (
        request.auth is not None
        or any(name.lower() not in PUBLIC_HEADERS for name in request.headers)
        or any(is_secret_key(str(name)) for given in fields for name in given)
    )


def keep_at_home(request: PreparedRequest, homes: tuple[str, ...]) -> None:
    """Let a request with credentials go to a home only; to one of https by nothing but https.

    Links of the API and addresses in its rows may name any host. Those of an API behind a proxy
    often say http where it is asked by https.

    Raises:
        ExtractError: its address is of another host, port or scheme.
    """
    # As it was prepared: this is how it will be sent, whatever it looked like before.
    url = request.url or ""
    secure = f"https:{url.partition(':')[2]}" if url.startswith("http:") else url
    for address in (url, secure):
        if any(is_same_origin(home, address) for home in homes):
            request.url = address
            return
    raise ExtractError(
        f"{place_of(request)}the API leads to {_origin(url)}, and the credentials are for "
        f"{' and '.join(dict.fromkeys(map(_origin, homes)))}: nothing was sent",
        hint="if that host is the API's own, let `base_url` or the `path` of an endpoint name it; "
        "else page by a parameter (cursor, offset, page_number) in place of the API's links",
    )


def is_same_origin(home: str, url: str) -> bool:
    """Whether what is meant for one address may be sent to another: as requests judges it.

    The same host, port and scheme; from http to https is allowed on their own ports.
    """
    return not SessionRedirectMixin().should_strip_auth(home, url)  # type: ignore[no-untyped-call]


def _origin(url: str) -> str:
    parts = urlsplit(safe_url(url))
    return f"{parts.scheme}://{parts.netloc}"
