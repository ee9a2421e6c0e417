"""Secrets: which values of the configuration are secret, and how a text is freed of them."""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

MASK = "**********"

_SECRET_KEY = re.compile(
    r"(token|secret|passw(or)?d|pwd|api[_-]?key|apikey|authori[sz]ation|credential|signature"
    r"|private[_-]?key|access[_-]?key|session[_-]?id|cookie)|^(sig|key|code)$",
    re.IGNORECASE,
)
# Keys that look like a secret's name and hold none: names of fields, paths and places.
_HARMLESS_KEY = re.compile(
    r"(_path|_param|_name|_url|_type|_field|_expiration|^location|^type|^grant_type)$"
    r"|^(primary|merge|foreign|sort)_key$",
    re.IGNORECASE,
)
# Inside `auth` everything is secret but these.
_OPEN_IN_AUTH = {"type", "name", "location", "access_token_url", "token_url", "scopes", "audience"}
# The names of SQLAlchemy's and of ODBC's drivers.
_OPEN_IN_CREDENTIALS = {"driver", "drivername"}
_OPEN_HEADERS = {"accept", "accept-language", "content-type", "user-agent", "accept-encoding"}
_DSN_PASSWORD = re.compile(r"\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s&']+))")
# An ODBC connection string's, in which a closing brace is doubled.
_ODBC_PASSWORD = re.compile(r"\bpwd\s*=\s*(?:\{((?:[^}]|\}\})*)\}|([^;{}]+))", re.IGNORECASE)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")


def is_secret_key(key: str) -> bool:
    """True for a name under which a secret is to be expected."""
    return bool(_SECRET_KEY.search(key)) and not _HARMLESS_KEY.search(key)


def hide_secrets(value: Any, key: str = "", inside: str = "") -> Any:
    """The same structure with every secret leaf as SecretStr.

    Secret is: what stands below `auth` (but its kind and names), every header that is not
    known to be harmless, every value whose key says so, and all that stands below such a key
    (below `credentials` all but the driver's name).
    A number is left alone below `auth` unless its own key says that it is secret.
    """
    if isinstance(value, dict):
        below = inside
        if key.lower() in {"auth", "headers", "credentials"}:
            below = key.lower()
        elif is_secret_key(key):
            below = "secret"
        return {k: hide_secrets(v, str(k), below) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [hide_secrets(v, key, inside) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, SecretStr):
        return value
    named = (
        is_secret_key(key)
        or inside == "secret"
        or (inside == "credentials" and key.lower() not in _OPEN_IN_CREDENTIALS)
    )
    if isinstance(value, str):
        secret = (
            (inside == "auth" and key.lower() not in _OPEN_IN_AUTH)
            or (inside == "headers" and key.lower() not in _OPEN_HEADERS)
            or (named and not _is_placeholder(value))
        )
    else:
        secret = named
    return SecretStr(str(value)) if secret else value


def _is_placeholder(text: str) -> bool:
    """dlt fills `{resources.…}` and `{incremental.…}` in itself: these are names, no secrets."""
    return text.startswith("{") and text.endswith("}")


def secrets_of_dlt() -> dict[str, Any]:
    """What dlt finds without our settings, in variables and its secrets files, by each own key."""
    variables = {k: v for k, v in os.environ.items() if "__" in k and not k.startswith("ETL_")}
    found = {k: hide_secrets(v, k.rpartition("__")[2]) for k, v in variables.items()}
    for place in (".dlt/secrets.toml", "~/.dlt/secrets.toml"):
        # It is absent, dlt tells what is wrong with it, or the user has no home.
        with suppress(OSError, ValueError, RuntimeError):
            text = Path(place).expanduser().read_text(encoding="utf-8")
            found[place] = _by_own_key(tomllib.loads(text))
    return found


def _by_own_key(value: Any, key: str = "") -> Any:
    """A database's host and name below `credentials` are in many a text that must be read."""
    if isinstance(value, dict):
        return {k: _by_own_key(v, k) for k, v in value.items()}
    return hide_secrets(value, key)


def reveal(value: Any) -> Any:
    """The structure with plain values again, for the one library call that needs them."""
    if isinstance(value, dict):
        return {k: reveal(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [reveal(v) for v in value]
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def safe_url(url: str) -> str:
    """The URL without user, password, fragment and the values of secret-looking parameters."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if "@" in parts.netloc:
            host = f"{MASK}@{host}"
        query = "&".join(
            f"{quote_plus(k)}={MASK if is_secret_key(k) else quote_plus(v)}"
            for k, v in parse_qsl(parts.query, keep_blank_values=True)
        )
        return parts._replace(netloc=host, query=query, fragment="").geturl()
    except ValueError:  # not a URL, or one that no encoding can write
        return MASK


def mask(value: Any) -> Any:
    """The structure as it may be shown: secrets masked, URLs without credentials."""
    if isinstance(value, dict):
        return {k: mask(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask(v) for v in value]
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str) and "://" in value:
        return _URL.sub(lambda m: safe_url(m.group()), value)
    return value


def _plain_secrets(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from _plain_secrets({k: getattr(value, k) for k in type(value).model_fields})
    elif isinstance(value, dict):
        plain = {k: v.get_secret_value() for k, v in value.items() if isinstance(v, SecretStr)}
        user = plain.get("username") or value.get("username")
        if "password" in plain and user:
            yield base64.b64encode(f"{user}:{plain['password']}".encode()).decode()
        for item in value.values():
            yield from _plain_secrets(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _plain_secrets(item)
    elif isinstance(value, SecretStr):
        secret = value.get_secret_value()
        yield secret
        # "Bearer abc": the part after the scheme appears alone, too.
        if " " in secret:
            yield secret.split(" ", 1)[1]
        # A database's address is secret as a whole; its password appears alone, too.
        if "://" in secret:
            yield from _secrets_of_url(secret)
        yield from (m.group(1) or m.group(2) for m in _DSN_PASSWORD.finditer(secret))
        for m in _ODBC_PASSWORD.finditer(secret):
            yield m.group(1) or m.group(2) or ""
            yield (m.group(1) or "").replace("}}", "}")
    elif isinstance(value, str) and "://" in value:
        yield from _secrets_of_url(value)


def _secrets_of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
        query = parse_qsl(parts.query)
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
        yield base64.b64encode(f"{user}:{password}".encode()).decode()
    for k, v in query:
        if is_secret_key(k):
            yield v


def _forms(secret: str) -> set[str]:
    """Every way in which a secret may be written in a text."""
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms.add(repr(secret)[1:-1])
    try:
        for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
            forms |= {encoded, re.sub(r"%[0-9A-F]{2}", lambda m: m.group().lower(), encoded)}
        forms.add(base64.b64encode(secret.encode()).decode())
    except UnicodeEncodeError:
        pass
    return forms


def redactor(*values: Any) -> Callable[[str], str]:
    """A function that masks, in any text, every secret found in these structures.

    Plain, escaped, URL-encoded and Base64 forms are known, and credentials in any URL are masked
    whether they were configured or not. Values of fewer than 4 characters are left: masking
    them would destroy the text and hide nothing.
    """
    found: set[str] = set()
    for value in values:
        for secret in _plain_secrets(value):
            if len(secret) >= 4 and set(secret) != {"*"}:
                found |= _forms(secret)
    pattern = (
        re.compile("|".join(re.escape(s) for s in sorted(found, key=len, reverse=True)))
        if found
        else None
    )

    def redact(text: str) -> str:
        if pattern is not None:
            text = pattern.sub(MASK, text)
        if "://" in text and ("@" in text or "=" in text):
            text = _URL.sub(
                lambda m: safe_url(m.group()) if _carries(m.group()) else m.group(), text
            )
        return text

    return redact


def _carries(url: str) -> bool:
    """True when the URL has user information or an open secret-looking parameter."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query + "&" + parts.fragment)
    except ValueError:
        return True
    open_user = "@" in parts.netloc and not parts.netloc.startswith(f"{MASK}@")
    return open_user or any(is_secret_key(k) and v != MASK for k, v in query)
