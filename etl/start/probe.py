"""One request to an API, and its answer; what it fails with has a class."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson
import requests
from requests.exceptions import InvalidURL, MissingSchema, RequestException

from etl.errors import AuthError, ConfigError, EtlError, ExtractError, UnreachableError
from etl.raw.places import is_busy
from etl.secrets import is_secret_key, safe_url
from etl.start.answer import Answer

CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 10, 30, 60
MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class Address:
    """A URL taken apart, so that no secret of it gets into a file.

    `auth` is dlt's configuration of the credentials without their values, `secrets` the values.
    """

    url: str
    params: dict[str, str] = field(default_factory=dict)
    auth: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


def read_address(text: str, secrets: dict[str, str]) -> Address:
    """The URL's parts; `secrets` are those of `auth` that the environment has.

    Raises:
        ConfigError: it is no URL of HTTP, or it carries more than one kind of credential.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        if not host or parts.scheme not in {"http", "https"} or not text.isprintable():
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"--base-url {safe_url(text)}: is no address of an API",
            hint="write it whole, as https://api.example.com/v1/orders",
        ) from None
    place = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}"
    given = parse_qsl(parts.query, keep_blank_values=True)
    # A page token is a place in a list.
    hidden = {k: v for k, v in given if is_secret_key(k) and "page" not in k.lower()}
    params = {k: v for k, v in given if k not in hidden}
    if len(hidden) + (parts.username is not None) > 1:
        raise ConfigError(
            f"--base-url {safe_url(text)}: carries more than one secret",
            hint="leave them out, and give them by variables (docs/start.md)",
        )
    if parts.username is not None:
        found = {"username": unquote(parts.username), "password": unquote(parts.password or "")}
        return Address(url, params, {"type": "http_basic"}, found)
    if hidden:
        ((name, value),) = hidden.items()
        auth = {"type": "api_key", "name": name, "location": "query"}
        return Address(url, params, auth, {"api_key": value})
    if "token" in secrets:
        return Address(url, params, {"type": "bearer"}, {"token": secrets["token"]})
    if "username" in secrets and "password" in secrets:
        return Address(url, params, {"type": "http_basic"}, dict(secrets))
    return Address(url, params)


def ask(address: Address, variable: str) -> Answer:
    """What the API answers to one request.

    `variable` is how the variables of its credentials begin, for the hint when they are missing.

    Raises:
        UnreachableError: no connection, too slow, 429 or 5xx.
        AuthError: 401 or 403.
        ExtractError: another status than 2xx, no JSON, or more than 50 MB of it.
    """
    shown = safe_url(address.url)
    params = dict(address.params)
    headers = {"Accept": "application/json", "User-Agent": "etl-init"}
    basic = None
    if address.auth.get("type") == "api_key":
        params[address.auth["name"]] = address.secrets["api_key"]
    elif address.auth.get("type") == "bearer":
        headers["Authorization"] = f"Bearer {address.secrets['token']}"
    elif address.auth:
        basic = (address.secrets["username"], address.secrets["password"])
    try:
        with requests.get(
            address.url, params=params, headers=headers, auth=basic, stream=True,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        ) as response:  # fmt: skip
            _check_status(response, shown, variable)
            content = _read(response, shown)
            links = {k: str(v.get("url", "")) for k, v in response.links.items() if k}
            answered = {k.lower(): v for k, v in response.headers.items()}
            final = _bare(response.url)
    except (InvalidURL, MissingSchema, UnicodeError) as e:
        raise ConfigError(f"--base-url {shown}: is no address of an API") from e
    except (RequestException, OSError) as e:
        raise UnreachableError(
            f"{shown} cannot be reached ({type(e).__name__})",
            hint="check the address and the network; without --base-url no request is made",
        ) from e
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        kind = answered.get("content-type", "no content type")
        raise ExtractError(
            f"{shown}: the answer is no JSON ({kind}, {len(content)} bytes)",
            hint="name the URL of the API itself, as its documentation writes it; what is no JSON, "
            "CSV say, is read by a `factory`: docs/apis.md",
        ) from None
    # Led to another host, the API is still the one that was named.
    same = urlsplit(final).hostname == urlsplit(address.url).hostname
    return Answer(final if same else address.url, body, address.params, links, answered)


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _check_status(response: requests.Response, shown: str, variable: str) -> None:
    error: EtlError
    status = response.status_code
    if 200 <= status < 300:
        return
    if is_busy(response):
        error = UnreachableError(
            f"{shown}: {status}",
            hint="the API is busy or broken, or its limit is used up: try later",
        )
    elif status in (401, 403):
        error = AuthError(
            f"{shown}: {status}, it asks for credentials or rejects them",
            hint=f"set {variable}TOKEN (bearer), or {variable}USERNAME and …PASSWORD; a key in a "
            "header of its own: docs/start.md, Credentials",
        )
    else:
        error = ExtractError(
            f"{shown}: {status}", hint="compare the URL with the API's documentation"
        )
    raise error


def _read(response: requests.Response, shown: str) -> bytes:
    """The whole body, within bounds of time and size."""
    until = time.monotonic() + WHOLE_SECONDS
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65536):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise ExtractError(
                f"{shown}: the answer has more than {MAX_BYTES:,} bytes",
                hint="ask for a smaller page (?limit=100)",
            )
        if time.monotonic() > until:
            raise UnreachableError(f"{shown}: the answer takes more than {WHOLE_SECONDS} seconds")
    return b"".join(parts)
