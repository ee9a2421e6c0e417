"""Builds a dlt source from its settings, with our session, guards and counters in place."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from dlt.common.normalizers.naming import NamingConvention
from dlt.common.schema.typing import C_DLT_ID
from dlt.extract import DltResource, DltSource
from dlt.extract.hints import make_nested_hints
from dlt.extract.items_transform import LimitItem
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.config_setup import make_parent_key_name

from etl.api_fields import FieldPaths
from etl.raw.hints import root_hints
from etl.settings import Settings, Source
from etl.sources.cursors import (
    InOrder,
    begin_once,
    bind_once,
    know_by_whole_rows,
)
from etl.sources.functions import call_factory, find_steps
from etl.sources.http import ApiSession
from etl.sources.keys import merge_keys
from etl.sources.limiter import RateLimiter
from etl.sources.losses import check_ways, cursor_of, follow_parents, table_of
from etl.sources.monitor import Monitor
from etl.sources.page_step import PageStep
from etl.sources.parents import ask_by_whole_values, ask_once
from etl.sources.refusals import check_credentials, refused
from etl.sources.rest import rest_config
from etl.sources.tokens import use_tokens


def build_source(
    monitor: Monitor,
    *,
    project: Path,
    snapshot_date: date,
    wait: Callable[[float], None],
    first: bool = False,
) -> tuple[DltSource, ApiSession | None]:
    """The dlt source of a monitor's settings, and its session when it is a declarative one.

    `first` says that raw has no table of it yet.

    Raises:
        ConfigError: the settings name no importable factory, dlt does not accept them, or they
            would lose rows.
        EtlError: a factory fails when it is called.
    """
    stamp = dict.fromkeys(monitor.settings.stamp, snapshot_date)
    built, session = (
        (_call(monitor, project, stamp), None)
        if monitor.settings.factory is not None
        else _describe(monitor, project, stamp, wait)
    )
    check_ways(built, monitor.source)
    _let_end(built)
    follow_parents(built, monitor)
    _hold_contract(built, monitor.settings, first)
    monitor.naming = built.schema.naming
    return built, session


def _call(monitor: Monitor, project: Path, stamp: dict[str, Any]) -> DltSource:
    """The source that a factory makes."""
    built = call_factory(monitor, project)
    for resource in built.resources.values():
        endpoint = f"{monitor.settings.factory} resource {resource.name}"
        by_row = _table_by_row(resource, built.schema.naming)
        _watch(resource, monitor, stamp, FieldPaths(table_of(resource), endpoint), by_row)
        _note_cursor(resource, monitor)
        is_limited = any(isinstance(step, LimitItem) for step in resource._pipe.steps)
        if is_limited and resource.incremental is None:
            monitor.limited.add(resource.name)
    return built


def _describe(
    monitor: Monitor, project: Path, stamp: dict[str, Any], wait: Callable[[float], None]
) -> tuple[DltSource, ApiSession]:
    """The source that settings describe, and the session with its API."""
    name, source = monitor.source, monitor.settings
    limit = source.rate_limit
    session = ApiSession(
        RateLimiter(limit.requests if limit else None, limit.seconds if limit else 0.0, wait=wait),
        attempts=source.attempts,
        timeout=source.timeout_seconds,
        wait=wait,
    )
    session.ignored = monitor.ignored
    ask_by_whole_values()
    config, stamps, fields = rest_config(monitor, session)
    check_credentials(name, config)
    for given in (config.get("resource_defaults", {}), *config["resources"]):
        find_steps(name, given, project)
    try:
        use_tokens(config)
        # Only the argument of the source makes resources run side by side: the same key inside
        # the configuration is ignored by dlt without a word.
        built = rest_api_source(config, name=name, parallelized=True)  # type: ignore[arg-type]
        for resource in built.resources.values():
            _prepare(resource, monitor)
    except Exception as e:
        # dlt raises a dozen types here, ValueError and KeyError among them; nothing has been
        # requested yet, so all of them speak of the configuration.
        raise refused(name, e, config) from e
    for resource in built.resources.values():
        found = fields.get(resource.name, FieldPaths("", ""))
        found.table = table_of(resource)
        _watch(resource, monitor, stamp | stamps.get(resource.name, {}), found)
    return built, session


def _prepare(resource: DltResource, monitor: Monitor) -> None:
    """Make of a resource what its settings mean by it."""
    _reach_nested(resource)
    _note_copied(resource)
    ask_once(resource, monitor)
    cursor = cursor_of(resource)
    if cursor is not None and resource.is_transformer:
        begin_once(resource, cursor)
    elif cursor is not None and cursor.row_order:
        resource.add_step(InOrder(cursor))
    if resource.name in monitor.cursors:
        _keep_newest(resource, monitor.cursors[resource.name])


def declare_source(
    settings: Settings, name: str, *, first: bool = False
) -> tuple[DltSource, Monitor]:
    """The dlt source of a job for who reads no row of it, and a monitor that knows its tables.

    Raises: as `build_source`.
    """
    monitor = Monitor(name, settings.sources[name])
    built, _ = build_source(
        monitor, project=settings.project, snapshot_date=settings.snapshot_date(),
        wait=time.sleep, first=first,
    )  # fmt: skip
    return built, monitor


def _let_end(built: DltSource) -> None:
    """Let all resources end one right after another: dlt 1.31 calls itself for each that does."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 2 * len(built.resources)))


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


def _note_copied(resource: DltResource) -> None:
    """Tell the guard of a resource's pages what `include_from_parent` will put into rows."""
    given = resource.explicit_args
    if fields := given.get("include_from_parent"):
        parent = given["resolved_params"][0].resolve_config["resource"]
        given["paginator"].copied = frozenset(make_parent_key_name(parent, f) for f in fields)


def _keep_newest(resource: DltResource, cursor: str) -> None:
    """Of the versions of a row that one extraction brings keep the one with the highest cursor.

    A row that is changed while its pages are read may come twice. The one that was read last is
    kept where cursors say nothing else (`etl.raw.destination`).
    """
    table = resource.compute_table_schema()
    columns = table.get("columns", {})
    if (
        table.get("write_disposition") == "merge"
        and re.fullmatch(r"\w+(\.\w+)*", cursor)
        and not any(c.get("dedup_sort") for c in columns.values())
    ):
        column = cursor.replace(".", "__")  # as dlt names what lies in an object
        resource.apply_hints(columns={column: {"name": column, "dedup_sort": "desc"}})


def _note_cursor(resource: DltResource, monitor: Monitor) -> None:
    """Let the cursor of a factory's resource be known, and begin once in a run."""
    if resource.incremental is not None:
        monitor.incremental.add(resource.name)
        if resource.compute_table_schema().get("write_disposition") == "merge":
            know_by_whole_rows(resource)
        if resource.is_transformer and hasattr(resource.incremental, "incremental"):
            bind_once(resource.incremental)


def _hold_contract(built: DltSource, source: Source, first: bool) -> None:
    """Hold all tables of the source to the schema contract of its settings, and of its resources.

    The first extraction makes the tables that a contract then holds.
    """
    if source.schema_contract is not None:
        built.schema_contract = _modes(source.schema_contract, first)
    for resource in built.resources.values() if first else ():
        if isinstance(given := resource.schema_contract, str | dict):
            resource.apply_hints(schema_contract=_modes(given, first))


def _modes(contract: Any, first: bool) -> Any:
    entities = ("tables", "columns", "data_type")
    modes = dict.fromkeys(entities, contract) if isinstance(contract, str) else dict(contract)
    return modes | {"tables": "evolve"} if first else modes


def _watch(
    resource: DltResource,
    monitor: Monitor,
    stamp: dict[str, Any],
    fields: FieldPaths,
    by_row: Callable[[Any], str] | None = None,
) -> None:
    if not resource.selected:
        return
    monitor.tables[resource.name] = fields.table
    fields.added = dict.fromkeys(stamp, "this run's snapshot date") | dict(fields.added)
    monitor.fields[resource.name] = fields
    keys = merge_keys(monitor.source, resource)
    if keys is not None and not keys.is_merged and monitor.settings.factory:
        keys = None  # pages do not overlap there, and tables may be large
    keys = monitor.watch_keys(fields.table, keys)
    columns = (root_hints(monitor.source, resource) or {}).get("columns", {})
    # Of a table of versions it is a hash of the row, unless another column is named for that.
    has_ids = bool(columns.get(C_DLT_ID, {}).get("x-row-version"))
    typed = {n: c for n, c in columns.items() if c.get("data_type")}
    resource.add_step(
        PageStep(monitor, fields.table, stamp, fields, keys, by_row, has_ids=has_ids, typed=typed)
    )


def _table_by_row(resource: DltResource, naming: NamingConvention) -> Callable[[Any], str] | None:
    """What tells the table of a row; None when all go to one."""
    named = resource.table_name
    if isinstance(named, str):
        return None
    # Named as in raw: what two rows name may be one table.
    return lambda row: naming.normalize_tables_path(named(row))
