"""A SQL Server's address: as a URL or as an ODBC connection string, both without a driver."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from etl.errors import ConfigError

# In two parts: as one address its user and password would be masked.
EXAMPLE = "mssql:// and user:password@host:1433/database?Encrypt=yes, special characters as %XX"
_DEFAULT_PORT = 1433
# `key = value` or `key = {value}`, in which a closing brace is doubled.
_PART = re.compile(r"\s*([^={};]+?)\s*=\s*(?:\{((?:[^}]|\}\})*)\}|([^;{}]*))\s*(?:;|$)")
_OURS = {"driver", "app", "usefmtonly"}


def read_address(dsn: str, target: str) -> dict[str, str]:
    """The attributes of a connection. Raises ConfigError, which shows nothing of it."""
    found = _read_url(dsn) if "://" in dsn else _read_parts(dsn)
    named = {k.casefold() for k in found or {}}
    if not found or not named & {"server", "addr", "address"}:
        # No cause is attached: its text would quote the address.
        raise ConfigError(
            f"the `dsn` of target {target} cannot be read", subject=target, hint=f"write {EXAMPLE}"
        )
    # The driver is the one that the extra brings, for one.
    return {k: v for k, v in found.items() if k.casefold() not in _OURS}


def write_address(attributes: dict[str, str]) -> str:
    """An ODBC connection string; every value in braces, whatever it holds."""
    return ";".join(f"{k}={{{v.replace('}', '}}')}}}" for k, v in attributes.items())


def _read_url(dsn: str) -> dict[str, str] | None:
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname, parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None
    if not host or parts.scheme.partition("+")[0] not in {"mssql", "sqlserver"}:
        return None
    found = {"Server": f"tcp:{host},{port or _DEFAULT_PORT}"}
    database = unquote(parts.path.strip("/"))
    if database:
        found["Database"] = database
    if parts.username:
        found["UID"] = unquote(parts.username)
    if parts.password is not None:
        found["PWD"] = unquote(parts.password)
    return found | dict(query)


def _read_parts(dsn: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    place = 0
    while place < len(dsn.rstrip()):
        part = _PART.match(dsn, place)
        if part is None:
            return None
        key, quoted, plain = part.groups()
        found[key] = quoted.replace("}}", "}") if quoted is not None else plain.strip()
        place = part.end()
    return found
