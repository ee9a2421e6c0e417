"""Builds a dlt source from its settings, with our session, guards and counters in place."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dlt.common import jsonpath
from dlt.extract import DltResource, DltSource
from dlt.extract.hints import make_nested_hints
from dlt.sources.helpers.rest_client.detector import PaginatorFactory, single_entity_path
from dlt.sources.helpers.rest_client.paginators import BasePaginator, SinglePagePaginator
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.config_setup import create_paginator
from requests import Response

from etl.api_fields import FieldPaths
from etl.errors import ConfigError
from etl.secrets import reveal, safe_url
from etl.settings import Source
from etl.sources.http import ApiSession
from etl.sources.keys import merge_keys
from etl.sources.limiter import RateLimiter
from etl.sources.monitor import GuardedPaginator, Monitor, PageStep


def build_source(
    name: str,
    source: Source,
    monitor: Monitor,
    *,
    project: Path,
    snapshot_date: date,
    wait: Callable[[float], None],
    first: bool = False,
) -> tuple[DltSource, ApiSession | None]:
    """The dlt source of these settings, and its session when it is a declarative one.

    `first` says that raw has no table of it yet.

    Raises:
        ConfigError: the settings name no importable factory, or dlt does not accept them.
    """
    stamp = dict.fromkeys(source.stamp, snapshot_date)
    if source.factory is not None:
        built = _call_factory(name, source, project, monitor)
        for resource in built.resources.values():
            endpoint = f"{source.factory} resource {resource.name}"
            _watch(resource, monitor, stamp, FieldPaths(_table(resource), endpoint))
            if resource.incremental is not None:
                monitor.incremental.add(resource.name)
        _hold_contract(built, source, first)
        return built, None
    limit = source.rate_limit
    session = ApiSession(
        RateLimiter(limit.requests if limit else None, limit.seconds if limit else 0.0, wait=wait),
        attempts=source.attempts,
        timeout=source.timeout_seconds,
        wait=wait,
    )
    config, stamps, fields = _rest_config(name, source, monitor, session)
    try:
        # Only the argument of the source makes resources run side by side: the same key inside
        # the configuration is ignored by dlt without a word.
        built = rest_api_source(config, name=name, parallelized=True)  # type: ignore[arg-type]
        for resource in built.resources.values():
            _reach_nested(resource)
    except Exception as e:
        # dlt raises a dozen types here, ValueError and KeyError among them; nothing has been
        # requested yet, so all of them speak of the configuration.
        raise ConfigError(
            f"sources.{name}: dlt does not accept it: {_first_line(e)}",
            subject=name,
            hint="see dlt's documentation of the REST API source",
        ) from e
    for resource in built.resources.values():
        found = fields.get(resource.name, FieldPaths("", ""))
        found.table = _table(resource)
        _watch(resource, monitor, stamp | stamps.get(resource.name, {}), found)
    _hold_contract(built, source, first)
    return built, session


def import_factories(sources: Mapping[str, Source], project: Path) -> None:
    """Import the modules of all factories; what cannot be imported fails when it is built.

    For the thread that starts the others: dlt takes a pandas that another thread is still
    importing for a whole one.
    """
    for name, source in sources.items():
        if source.factory is not None:
            with suppress(ConfigError):
                find_factory(name, source, project)


def _reach_nested(resource: DltResource) -> None:
    """Let `nested_hints` work in a REST configuration, and name deeper tables: `lines.discounts`.

    dlt accepts the key but takes the hints as if `make_nested_hints` had made them, and for deeper
    tables wants a tuple, which is no key of YAML's and which its own check refuses.
    """
    given = resource.nested_hints
    if isinstance(given, dict):
        resource.apply_hints(
            nested_hints={
                tuple(str(path).split(".")): make_nested_hints(**hints)
                for path, hints in given.items()
            }
        )


def _hold_contract(built: DltSource, source: Source, first: bool) -> None:
    """Hold all tables of the source to the schema contract of its settings.

    The first extraction makes the tables that the contract then holds.
    """
    contract = source.schema_contract
    if contract is None:
        return
    entities = ("tables", "columns", "data_type")
    modes = dict.fromkeys(entities, contract) if isinstance(contract, str) else dict(contract)
    if first:
        modes["tables"] = "evolve"
    built.schema_contract = modes  # type: ignore[assignment]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


def _watch(
    resource: DltResource, monitor: Monitor, stamp: dict[str, Any], fields: FieldPaths
) -> None:
    if not resource.selected:
        return
    monitor.tables[resource.name] = fields.table
    fields.added = dict.fromkeys(stamp, "this run's snapshot date") | dict(fields.added)
    monitor.fields[resource.name] = fields
    keys = monitor.watch_keys(fields.table, merge_keys(resource))
    resource.add_step(PageStep(monitor, fields.table, stamp, fields, keys))


def _table(resource: DltResource) -> str:
    return resource.table_name if isinstance(resource.table_name, str) else resource.name


def _call_factory(name: str, source: Source, project: Path, monitor: Monitor) -> DltSource:
    """What the factory returns, as a source.

    One that has a parameter `monitor` is given this extraction's, to count pages, to name resources
    that read only what is new, and to contain the failure of a part.
    """
    function = find_factory(name, source, project)
    try:
        given = reveal(source.arguments)
        if "monitor" in inspect.signature(function).parameters:
            given["monitor"] = monitor
        built = function(**given)
    except TypeError as e:
        raise ConfigError(
            f"sources.{name}.arguments: {source.factory} does not accept them: {_first_line(e)}",
            subject=name,
        ) from e
    if isinstance(built, DltResource):
        from dlt.common.schema import Schema

        built = DltSource(Schema(name), name, [built])
    if not isinstance(built, DltSource):
        raise ConfigError(
            f"sources.{name}.factory: {source.factory} returned {type(built).__name__}, "
            "not a dlt source or resource",
            subject=name,
        )
    return built


def find_factory(name: str, source: Source, project: Path) -> Callable[..., Any]:
    module_name, _, attribute = (source.factory or "").partition(":")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            f"sources.{name}.factory: {source.factory} cannot be imported: {_first_line(e)}",
            subject=name,
            hint=f"modules are looked up in {project} and among the installed packages",
        ) from e
    return found


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


def _rest_config(
    name: str, source: Source, monitor: Monitor, session: ApiSession
) -> tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, FieldPaths]]:
    """dlt's configuration with our parts in it; per resource its stamped columns and its fields."""
    client = _without_credentials(reveal(deepcopy(source.client))) | {"session": session}
    defaults = reveal(deepcopy(source.resource_defaults))
    resources: list[dict[str, Any]] = []
    stamps: dict[str, dict[str, str]] = {}
    fields: dict[str, FieldPaths] = {}
    for given in source.resources:
        plain: dict[str, Any] = (
            {"name": given, "endpoint": {"path": given}}
            if isinstance(given, str)
            else reveal(given)
        )
        for resource, stamp in _expand(deepcopy(plain), source.for_each):
            resources.append(resource)
            stamps[str(resource.get("name"))] = stamp
            fields[str(resource.get("name"))] = _fields(given, stamp)
    try:
        for resource in resources:
            _guard(resource, defaults, client, monitor)
    except Exception as e:
        raise ConfigError(
            f"sources.{name}: {_first_line(e)}",
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


def _fields(given: dict[str, Any] | str, stamp: Mapping[str, str]) -> FieldPaths:
    """What is known of a resource's fields beforehand: who is asked, what is added to its rows."""
    resource = {"name": given} if isinstance(given, str) else given
    endpoint = resource.get("endpoint") or resource.get("name")
    if not isinstance(endpoint, dict):
        endpoint = {"path": endpoint}
    path = str(endpoint.get("path") or resource.get("name"))
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
        expanded = [
            (
                _substitute(r, mark, value)
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
    endpoint = resource.get("endpoint")
    if endpoint is None or isinstance(endpoint, str):
        endpoint = {"path": endpoint or str(resource.get("name"))}
        resource["endpoint"] = endpoint
    default_endpoint = defaults.get("endpoint")
    default_endpoint = default_endpoint if isinstance(default_endpoint, dict) else {}
    selector = endpoint.get("data_selector", default_endpoint.get("data_selector"))
    if selector is not None:
        selector = jsonpath.compile_path(selector)
        endpoint["data_selector"] = selector
    configured = endpoint.get("paginator", default_endpoint.get("paginator"))
    if configured is None and single_entity_path(str(endpoint.get("path", ""))):
        # As dlt does: a path to one thing has one page, whatever the client's paginator.
        configured = SinglePagePaginator()
    inner = create_paginator(configured if configured is not None else client.get("paginator"))
    params = default_endpoint.get("params", {}) | endpoint.get("params", {})
    if endpoint.get("incremental", default_endpoint.get("incremental")) or any(
        isinstance(p, dict) and p.get("type") == "incremental" for p in params.values()
    ):
        monitor.incremental.add(str(resource.get("name")))
    endpoint["paginator"] = GuardedPaginator(
        inner, monitor, str(resource.get("name")), selector, _detect
    )


def _detect(response: Response) -> BasePaginator:
    """dlt's own guess, for a source that names no paginator."""
    paginator, _ = PaginatorFactory().create_paginator(response)
    if paginator is None:
        raise ConfigError(
            "dlt does not recognise the API's pagination",
            hint="name a `paginator` in the source's client or endpoint",
        )
    return paginator
