"""What dlt does not accept of a source's settings, in words: which setting, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dlt.common.configuration.exceptions import ConfigFieldMissingException
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
    absent = _absent_credentials(config["client"])
    if absent and isinstance(error, DictValidationException | ConfigFieldMissingException):
        what = " and ".join(f"client.auth.{key}" for key in absent)
        variables = ", ".join(f"ETL_SOURCES__{name}__CLIENT__AUTH__{k}".upper() for k in absent)
        return ConfigError(
            f"{where}: {what} {'is' if len(absent) == 1 else 'are'} missing",
            subject=name,
            hint=f"set {variables}, or put it into a file of that name: docs/configuration.md",
        )
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


def _cut(text: str) -> str:
    return text.splitlines()[0][:500]


def _absent_credentials(client: Mapping[str, Any]) -> list[str]:
    auth = client.get("auth")
    given = auth if isinstance(auth, dict) else {"type": auth}
    return [key for key in _CREDENTIALS.get(str(given.get("type")), ()) if not given.get(key)]


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
