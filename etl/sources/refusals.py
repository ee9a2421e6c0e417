"""What dlt does not accept of a source's settings, in words: which setting, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dlt.common.exceptions import DictValidationException

from etl.causes import first_line
from etl.errors import ConfigError

# What each of dlt's ways to authenticate cannot do without.
_CREDENTIALS = {
    "bearer": ("token",),
    "api_key": ("api_key",),
    "http_basic": ("username", "password"),
    "oauth2_client_credentials": ("access_token_url", "client_id", "client_secret"),
}


def refused(name: str, error: Exception, config: Mapping[str, Any]) -> ConfigError:
    """The source whose configuration dlt refused with this error."""
    where, hint = f"sources.{name}", "see dlt's documentation of the REST API source"
    if isinstance(error, DictValidationException):
        first = _most_specific(error)
        place = where + _spelled(first.path, config.get("resources", ()))
        return ConfigError(f"{place}: {_cut(first.msg)}", subject=name, hint=hint)
    if isinstance(error, ValueError) and any(_has_body(r) for r in config.get("resources", ())):
        hint = "in `json`, a brace that is no placeholder is written twice: `{{`; else " + hint
    return ConfigError(
        f"{where}: dlt does not accept it: {first_line(error)}", subject=name, hint=hint
    )


def _has_body(resource: Mapping[str, Any]) -> bool:
    return bool(resource["endpoint"].get("json"))


def check_credentials(name: str, config: Mapping[str, Any]) -> None:
    """Hold every `auth` against what its type cannot do without.

    dlt would look for the rest in its own configuration, and find that of another project's API.

    Raises:
        ConfigError: names what is missing, and the variables that give it.
    """
    owners = [("client", config["client"])] + [
        (f"resources[{r.get('name')}].endpoint", r.get("endpoint")) for r in config["resources"]
    ]
    for where, owner in owners:
        auth = owner.get("auth") if isinstance(owner, dict) else None
        given = auth if isinstance(auth, dict) else {"type": auth}
        kind = given.get("type", "bearer")
        absent = [
            key
            for key in _CREDENTIALS.get(str(kind), ())
            # Of a name alone the password is empty.
            if given.get(key) is None or (given[key] == "" and key != "password")
        ]
        if not absent:
            continue
        what = " and ".join(f"{where}.auth.{key}" for key in absent)
        variables = ", ".join(f"ETL_SOURCES__{name}__CLIENT__AUTH__{k}".upper() for k in absent)
        raise ConfigError(
            f"sources.{name}: {what} {'is' if len(absent) == 1 else 'are'} missing",
            subject=name,
            hint=f"set {variables}, or put it into a file of that name: docs/configuration.md"
            if where == "client"
            else "name it there, or leave `auth` to the client: docs/configuration.md",
        )


def _cut(text: str) -> str:
    return text.splitlines()[0][:500]


def _most_specific(error: DictValidationException) -> DictValidationException:
    """The innermost of the errors that dlt gathered: it puts the one that fits best first."""
    while error.nested_exceptions:
        error = error.nested_exceptions[0]
    return error


def _spelled(path: str, resources: Any) -> str:
    """dlt's path as settings are written: `./resources[0]/endpoint`, the resource by its name."""

    def named(match: re.Match[str]) -> str:
        return f".resources[{resources[int(match[1])].get('name')}]"

    return re.sub(r"/resources\[(\d+)\]", named, path.removeprefix(".")).replace("/", ".")
