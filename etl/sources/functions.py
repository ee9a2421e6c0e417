"""Functions of the project that its settings name: factories of sources, and processing steps."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from dlt.common.exceptions import MissingDependencyException
from dlt.extract import DltResource, DltSource

from etl.causes import first_line
from etl.errors import ConfigError, EtlError, ExtractError
from etl.raw.failures import classify, install
from etl.secrets import reveal
from etl.settings import Source
from etl.sources.monitor import Monitor


def import_factories(sources: Mapping[str, Source], project: Path) -> None:
    """Import the modules of all factories; what cannot be imported fails when it is built.

    For the thread that starts the others: dlt takes a pandas that another thread is still
    importing for a whole one.
    """
    for name, source in sources.items():
        if source.factory is not None:
            with suppress(ConfigError):
                find_factory(name, source, project)


def call_factory(monitor: Monitor, project: Path) -> DltSource:
    """What the factory returns, as a source.

    One that has a parameter `monitor` is given this extraction's, to count pages, to name resources
    that read only what is new, and to contain the failure of a part.

    Raises:
        ConfigError: it does not take the arguments, or returns neither a source nor resources.
        EtlError: it fails, with the class of an extraction that fails so.
    """
    name, source = monitor.source, monitor.settings
    function = find_factory(name, source, project)
    given = reveal(source.arguments)
    try:
        if "monitor" in inspect.signature(function).parameters:
            given["monitor"] = monitor
        return _make_source(name, source.factory, function(**given))
    except EtlError:
        raise
    except Exception as e:
        # What it raises itself, of a call of its own, speaks of no setting.
        if isinstance(e, TypeError) and not _accepts(function, given):
            raise ConfigError(
                f"sources.{name}.arguments: {source.factory} does not accept them: {first_line(e)}",
                subject=name,
            ) from e
        raise classify(e, name, "extract", project) from e


def _make_source(name: str, factory: str | None, returned: Any) -> DltSource:
    """The source of what a factory returned; dlt refuses two resources of one name."""
    from dlt.common.schema import Schema

    if isinstance(returned, DltSource):
        return returned
    resources = returned if isinstance(returned, list | tuple) else [returned]
    if others := {type(r).__name__ for r in resources if not isinstance(r, DltResource)}:
        of = f"{type(returned).__name__} of " if resources is returned else ""
        raise ConfigError(
            f"sources.{name}.factory: {factory} returned {of}{', '.join(sorted(others))}, "
            "not a dlt source, a resource or a list of resources",
            subject=name,
            hint="rows become a resource by `dlt.resource(rows, name=...)`",
        )
    return DltSource(Schema(name), name, list(resources))


def _accepts(function: Callable[..., Any], given: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**given)
    except TypeError:
        return False
    return True


def find_steps(name: str, resource: dict[str, Any], project: Path) -> None:
    """Let settings name functions, as `factory` does, where dlt takes them alone.

    These are `processing_steps` of a resource, and `convert` of its incremental cursor.
    """
    where = f"sources.{name}.resources[{resource.get('name')}]"
    steps = resource.get("processing_steps")
    for step in steps if isinstance(steps, list) else ():
        for kind, given in step.items() if isinstance(step, dict) else ():
            if isinstance(given, str):
                found = _find_function(given, f"{where}.processing_steps", name, project)
                step[kind] = _returning(found, given) if kind == "map" else found
    endpoint = resource.get("endpoint")
    endpoint = endpoint if isinstance(endpoint, dict) else {}
    for cursor in (endpoint.get("incremental"), *(endpoint.get("params") or {}).values()):
        if isinstance(cursor, dict) and isinstance(given := cursor.get("convert"), str):
            cursor["convert"] = _find_function(given, f"{where}.endpoint", name, project)


def _returning(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A `map` that has to give something for each row: dlt would take None for one without values.

    Raises:
        ExtractError: it gave None.
    """

    @wraps(function)  # by its signature dlt knows whether it takes `meta`
    def mapped(row: Any, *meta: Any) -> Any:
        found = function(row, *meta)
        if found is None and row is not None:
            raise ExtractError(
                f"{name}, a `map` of the `processing_steps`, gave None for a row",
                hint="let it return the row; a `filter` leaves rows out",
            )
        return found

    return mapped


def find_factory(name: str, source: Source, project: Path) -> Callable[..., Any]:
    """The function that a source names.

    Raises:
        ConfigError: there is none of this name.
    """
    return _find_function(source.factory or "", f"sources.{name}.factory", name, project)


def _find_function(given: str, where: str, source: str, project: Path) -> Callable[..., Any]:
    module_name, _, attribute = given.partition(":")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except MissingDependencyException as e:
        raise ConfigError(
            f"{where}: {given} needs what is not installed: {', '.join(e.dependencies)}",
            subject=source,
            hint=install(e),
        ) from e
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(
            f"{where}: {given} cannot be imported: {first_line(e)}",
            subject=source,
            hint=f"name it as package.module:function; modules are looked up in {project} and "
            "among the installed packages",
        ) from e
    return found
