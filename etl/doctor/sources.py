"""Whether the sources can be read: dlt accepts their settings, their host answers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from etl.doctor.findings import Finding, ask
from etl.errors import ConfigError, UnreachableError
from etl.secrets import reveal, safe_url
from etl.settings import Settings, Source

CONNECT_SECONDS = 10
# What a factory calls the address that it reads from.
_BASE_URL = "base_url"


def check_sources(settings: Settings) -> Iterator[Finding]:
    """One request to each source's base URL: any answer shows that it is there."""
    for name, source in settings.active_sources.items():
        yield ask("source", name, partial(_reach, settings, name, source))


def _reach(settings: Settings, name: str, source: Source) -> str:
    url = _address(settings, name, source)
    if settings.demo:
        return "the replay serves it while a run lasts"
    if url is None:
        return f"{source.factory} can be imported; it names no address to try"
    return _request(name, url)


def _address(settings: Settings, name: str, source: Source) -> str | None:
    """The base URL; what the source needs besides is asked for. Raises ConfigError."""
    from etl.sources.build import declare_source
    from etl.sources.functions import find_factory

    if source.client is not None:
        declare_source(settings, name)
        return str(reveal(source.client.get(_BASE_URL)))
    function = find_factory(name, source, settings.project)
    require = getattr(inspect.getmodule(function), "require_extra", None)
    if require is not None:
        require()
    return _argument(source.arguments, function)


def _argument(given: dict[str, Any], function: Any) -> str | None:
    if _BASE_URL in given:
        return str(reveal(given[_BASE_URL]))
    parameter = inspect.signature(function).parameters.get(_BASE_URL)
    return parameter.default if parameter and isinstance(parameter.default, str) else None


def _request(name: str, url: str) -> str:
    import requests

    shown = safe_url(url)
    try:
        with requests.get(
            url, stream=True, timeout=CONNECT_SECONDS, headers={"User-Agent": "etl-doctor"}
        ) as response:
            # Without credentials and below no path, 401 or 404 is a good answer.
            return f"{shown} answers with {response.status_code}"
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeError) as e:
        raise ConfigError(
            f"{shown} is no address of an API", subject=name, hint=f"sources.{name}.client.base_url"
        ) from e
    except (requests.RequestException, OSError) as e:
        raise UnreachableError(
            f"{shown} cannot be reached ({type(e).__name__})",
            subject=name,
            hint="check the address, the network and its proxy",
        ) from e
