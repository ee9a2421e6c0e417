"""dlt's REST configuration of a source: for each value, without credentials in URLs, guarded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import unquote, urlsplit

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import PaginatorFactory, single_entity_path
from dlt.sources.helpers.rest_client.paginators import BasePaginator, SinglePagePaginator
from dlt.sources.rest_api.config_setup import create_paginator
from requests import Response

from etl.api_fields import FieldPaths
from etl.causes import first_line
from etl.errors import ConfigError
from etl.secrets import reveal, safe_url
from etl.sources.answers import ENDS, letters
from etl.sources.asked import endpoint_of
from etl.sources.cursors import newest, whole_row
from etl.sources.homes import find_homes
from etl.sources.http import ApiSession
from etl.sources.monitor import Monitor
from etl.sources.paginator import GuardedPaginator
from etl.sources.parents import as_text, whole_in


def rest_config(
    monitor: Monitor, session: ApiSession
) -> tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, FieldPaths]]:
    """dlt's configuration with our parts in it; per resource its stamped columns and its fields.

    The session learns which addresses the settings name: they get the credentials.

    Raises:
        ConfigError: dlt cannot make a paginator or a selector of what a resource names, or a value
            of `for_each` leads to another path.
    """
    name, source = monitor.source, monitor.settings
    client = _without_credentials(reveal(deepcopy(source.client))) | {"session": session}
    defaults = reveal(deepcopy(source.resource_defaults))
    resources: list[dict[str, Any]] = []
    stamps: dict[str, dict[str, str]] = {}
    fields: dict[str, FieldPaths] = {}
    try:
        for given in source.resources:
            plain: dict[str, Any] = (
                {"name": given, "endpoint": {"path": given}}
                if isinstance(given, str)
                else reveal(given)
            )
            for resource, stamp in _expand(deepcopy(plain), source.for_each):
                resources.append(resource)
                stamps[str(resource.get("name"))] = stamp
                fields[str(resource.get("name"))] = _fields(plain, stamp)
        _refuse_children({r.partition("[")[0] for r, stamp in stamps.items() if stamp}, resources)
        for resource in resources:
            _guard(resource, defaults, client, monitor)
        paths = [str(r["endpoint"].get("path", "")) for r in resources]
        session.homes = find_homes(str(client.get("base_url", "")), paths)
    except Exception as e:
        raise ConfigError(
            f"sources.{name}: {first_line(e)}",
            subject=name,
            hint="see dlt's documentation of the REST API source",
        ) from e
    # The guards carry each resource's paginator now.
    client.pop("paginator", None)
    if isinstance(default_endpoint := defaults.get("endpoint"), dict):
        default_endpoint.pop("paginator", None)
    config: dict[str, Any] = {"client": client, "resources": resources}
    if defaults:
        config["resource_defaults"] = defaults
    return config, stamps, fields


def _without_credentials(client: dict[str, Any]) -> dict[str, Any]:
    """The client with `user:password@` of its URL moved to `auth`.

    dlt keeps URLs in its traces and error files as they are; credentials do not belong there.
    """
    parts = urlsplit(str(client.get("base_url", "")))
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return client
    name, _, password = user.partition(":")
    basic = {"type": "http_basic", "username": unquote(name), "password": unquote(password)}
    return {"auth": basic, **client, "base_url": parts._replace(netloc=host).geturl()}


def _fields(resource: dict[str, Any], stamp: Mapping[str, str]) -> FieldPaths:
    """What is known of a resource's fields beforehand: who is asked, what is added to its rows."""
    name = str(resource.get("name"))
    endpoint = endpoint_of(resource, name)
    path = str(endpoint.get("path") or name)
    asked = f"{str(endpoint.get('method', 'GET')).upper()} {safe_url(path)}"
    if resource.get("processing_steps"):
        asked += " (after processing_steps)"
    return FieldPaths(
        "",
        asked,
        added={key: f"for_each: the {key} that was asked for" for key in stamp},
        copied=tuple(map(str, resource.get("include_from_parent", ()))),
    )


def _expand(
    resource: dict[str, Any], for_each: dict[str, tuple[str, ...]]
) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """The resource once per value of each placeholder that it names; all feed one table."""
    expanded: list[tuple[dict[str, Any], dict[str, str]]] = [(resource, {})]
    for placeholder, values in for_each.items():
        mark = "{" + placeholder + "}"
        if mark not in repr(resource.get("endpoint")):
            continue
        if len(set(values)) < max(1, len(values)):
            raise ConfigError(f"for_each.{placeholder} names {'one twice' if values else 'none'}")
        expanded = [
            (
                _substitute(_in_path(r, mark, value), mark, value)
                | {
                    "name": f"{r.get('name')}[{value}]",
                    "table_name": r.get("table_name", resource.get("name")),
                },
                stamp | {placeholder: value},
            )
            for r, stamp in expanded
            for value in values
        ]
    return expanded


def _refuse_children(repeated: set[str], resources: list[dict[str, Any]]) -> None:
    for resource in resources:
        for parent in re.findall(r"\{resources\.([^.}]+)\.", repr(resource.get("endpoint"))):
            if parent in repeated:
                raise ConfigError(
                    f"{resource.get('name')} is asked for by rows of {parent}, which `for_each` "
                    "repeats: give each value a source of its own, or write a `factory`"
                )


def _in_path(resource: dict[str, Any], mark: str, value: str) -> dict[str, Any]:
    endpoint = resource["endpoint"]
    path = endpoint.get("path") if isinstance(endpoint, dict) else endpoint
    if not isinstance(path, str) or mark not in path:
        return resource
    path = path.replace(mark, whole_in(path, mark, value))
    return resource | {
        "endpoint": endpoint | {"path": path} if isinstance(endpoint, dict) else path
    }


def _substitute(value: Any, mark: str, by: str) -> Any:
    if isinstance(value, dict):
        return {k: _substitute(v, mark, by) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, mark, by) for v in value]
    return value.replace(mark, by) if isinstance(value, str) else value


def _guard(
    resource: dict[str, Any], defaults: dict[str, Any], client: dict[str, Any], monitor: Monitor
) -> None:
    """Compile the resource's selector once and put the guard around its paginator."""
    endpoint = resource["endpoint"] = endpoint_of(resource, str(resource.get("name")))
    default_endpoint = defaults.get("endpoint")
    default_endpoint = default_endpoint if isinstance(default_endpoint, dict) else {}
    selector = endpoint.get("data_selector", default_endpoint.get("data_selector"))
    is_single = single_entity_path(str(endpoint.get("path", "")))
    if selector is None and is_single:
        selector = "$"  # as dlt does
    if selector is not None:
        selector = jsonpath.compile_path(selector)
        endpoint["data_selector"] = selector
    # Of its own: dlt shares those of `resource_defaults`, and puts a value of `start_param` there.
    endpoint.setdefault("params", {})
    for asking in (endpoint, default_endpoint):
        if isinstance(params := asking.get("params"), dict):
            asking["params"] = {name: as_text(value) for name, value in params.items()}
    configured = endpoint.get("paginator", default_endpoint.get("paginator"))
    passed_over = None
    if configured is None and is_single:
        # As dlt does: a path to one thing has one page, whatever the client's paginator.
        configured = SinglePagePaginator()
        passed_over = create_paginator(client.get("paginator"))
    named = configured if configured is not None else client.get("paginator")
    if isinstance(named, dict):
        _refuse_opposite(str(named.get("has_more_path", "")))
    inner = create_paginator(named)
    _note_cursors(resource, defaults, endpoint, default_endpoint, monitor)
    endpoint["paginator"] = GuardedPaginator(
        inner, monitor, str(resource.get("name")), selector, _detect, passed_over
    )


def _refuse_opposite(has_more_path: str) -> None:
    """dlt ends the pages where this is false; `end_of_stream` is, on every page but the last."""
    if letters(has_more_path.rpartition(".")[2]) in ENDS:
        raise ConfigError(
            f"has_more_path: by its name {has_more_path} is true on the last page, and dlt goes on "
            "while it is true: leave it out; `stop_after_empty_page: true` of a cursor ends pages"
        )


def _note_cursors(
    resource: dict[str, Any],
    defaults: dict[str, Any],
    endpoint: dict[str, Any],
    default_endpoint: dict[str, Any],
    monitor: Monitor,
) -> None:
    """Tell the monitor of incremental cursors, and dlt how they are compared.

    Those of a merge look at rows as wholes.
    """
    params = default_endpoint.get("params", {}) | endpoint.get("params", {})
    cursors: dict[str, Any] = {
        n: p for n, p in params.items() if isinstance(p, dict) and p.get("type") == "incremental"
    }
    whole = endpoint.get("incremental", default_endpoint.get("incremental"))
    disposition = resource.get("write_disposition", defaults.get("write_disposition"))
    if isinstance(disposition, dict):
        disposition = disposition.get("disposition")
    merged_by = resource.get("merge_key", defaults.get("merge_key"))
    named = [c.get("last_value_func") for c in (*cursors.values(), whole) if isinstance(c, dict)]
    if cursors and whole:
        raise ConfigError(
            f"{resource.get('name')}: `incremental` stands beside the parameter {min(cursors)} of "
            "this type, and dlt takes one of them"
        )
    said = whole if isinstance(whole, dict) else {}
    # In `json` no value is null.
    asked = repr(default_endpoint | endpoint | {"json": None})
    for value in re.findall(r"\{incremental\.(\w+)", asked):
        needed = "end_value" if value == "end_value" else "initial_value"
        if said.get(needed) is None:
            raise ConfigError(
                f"{resource.get('name')}: `{{incremental.{value}}}` would be the text None in a "
                f"first run: name an `{needed}`"
            )
    if cursors:
        cursors = {n: _compared(p, disposition, merged_by) for n, p in cursors.items()}
        endpoint["params"] = params | cursors
    if isinstance(whole, dict):
        whole = endpoint["incremental"] = _compared(whole, disposition, merged_by)
    found = [*cursors.values(), *([whole] if whole else [])]
    if found:
        monitor.incremental.add(str(resource.get("name")))
        if isinstance(found[-1], dict) and not named[-1]:
            monitor.cursors[str(resource.get("name"))] = str(found[-1].get("cursor_path"))
    elif disposition is None and not monitor.settings.stamp:
        monitor.appended.add(str(resource.get("name")))


def _compared(cursor: dict[str, Any], disposition: object, merged_by: object) -> dict[str, Any]:
    """A cursor that is compared by what it says; for a `lag` dlt has to know its order."""
    known: dict[str, Any] = {} if cursor.get("lag") else {"last_value_func": newest}
    if disposition == "merge":
        # dlt leaves out what has the cursor and key of a row that was read before. It may have
        # changed: by all of its fields it is another. And where rows of a cursor's value take the
        # place of all that stand (`merge_key`), all of them have to come.
        path = cursor.get("cursor_path")
        known["primary_key"] = [] if merged_by in (path, [path]) else whole_row
    return known | cursor


def _detect(response: Response) -> BasePaginator:
    """dlt's own guess, for a source that names no paginator."""
    paginator, _ = PaginatorFactory().create_paginator(response)
    if paginator is None:
        raise ConfigError(
            "dlt does not recognise the API's pagination",
            hint="name a `paginator` in the source's client or endpoint",
        )
    return paginator
