"""Refuses settings by which rows would go, or double, that a run does not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlt.extract import DltResource, DltSource

from etl.errors import ConfigError
from etl.raw.hints import root_hints
from etl.sources.monitor import Monitor


def check_ways(built: DltSource, name: str) -> None:
    """Hold the resources of a table to one write disposition.

    Raises:
        ConfigError: they say several, of which dlt heeds one.
    """
    ways: dict[str, Any] = {}
    for resource in built.selected_resources.values():
        table, way = table_of(resource), resource.write_disposition
        if not callable(resource.table_name) and way != ways.setdefault(table, way):
            raise ConfigError(
                f"sources.{name}: resources of the table {table} say `{ways[table]}` and `{way}`: "
                "dlt would heed one",
                subject=f"{name}.{resource.name}",
                hint="give them one `write_disposition`, or a `table_name` for each",
            )


def follow_parents(built: DltSource, monitor: Monitor) -> None:
    """What is asked for each row of a parent is asked for its new rows only, if it brings no other.

    Raises:
        ConfigError: what is read would replace, retire or double rows that it does not bring.
    """
    resources = built.resources
    known = [n for n in resources if n in monitor.incremental and not _is_replaced(resources[n])]
    for name, resource in resources.items():
        # dlt tells no other way whose rows a resource reads.
        parent = resource._pipe.parent
        while parent and parent.name not in known:
            parent = parent.parent
        if parent:
            monitor.incremental.add(name)
        table = root_hints(monitor.source, resource) if resource.selected else None
        read = f"new rows of {parent.name}" if parent else "its new rows" if name in known else ""
        # What a factory's own cursor leaves out is its affair.
        cursor = None if monitor.settings.factory else cursor_of(resource)
        if table is not None and (found := _find_losses(table, cursor, read)):
            what, hint = found
            raise ConfigError(
                f"sources.{monitor.source}: {name} says {what}",
                subject=f"{monitor.source}.{name}",
                hint=hint,
            )


def _find_losses(table: Mapping[str, Any], cursor: Any, read: str) -> tuple[str, str] | None:
    """Why rows would go or double that a run does not read, and what to do; None where none would.

    `table` is what a resource's hints make of it, `cursor` its own if it has one, `read` the part
    that is read of it; nothing for all.
    """
    way, strategy = str(table.get("write_disposition")), table.get("x-merge-strategy")
    columns = table.get("columns", {}).items()
    keys = [n for n, c in columns if c.get("primary_key")]
    parts = [n for n, c in columns if c.get("merge_key")]
    if way == "skip":
        return (
            "`skip`, and dlt loads no row of such a table",
            "`selected: false` reads a resource for those that ask by its rows, and loads none",
        )
    if way == "merge" and strategy in {"scd2", "cdc"} and not parts:
        way = str(strategy)
    elif way == "merge" and strategy != "scd2" and not keys and not parts:
        if "x-merge-destination-scope" in table:
            return None
        return (
            "`merge` and has no key: dlt would append its rows",
            "name its `primary_key`, or say `append`",
        )
    if read and way in {"replace", "scd2", "cdc"}:
        return (
            f"`{way}`, and is read for {read} only (`incremental`): all others would go",
            "merge it by a `primary_key`, or read all of it: without `incremental`",
        )
    if cursor is None:
        return None
    is_whole = parts == [cursor.cursor_path] and (cursor.lag or cursor.primary_key == [])
    if way == "merge" and strategy != "scd2" and parts and not is_whole:
        said = f"`merge_key` {', '.join(parts)}, and is read for {read} only (`incremental`)"
        return (
            f"{said}: all others that share theirs would go",
            "merge it by a `primary_key` alone, or read all of it: without `incremental`",
        )
    missing = cursor.on_cursor_value_missing
    again = {"lag": cursor.lag, "end_value": cursor.end_value is not None,
             "on_cursor_value_missing: include": missing == "include"}  # fmt: skip
    if way == "append" and any(again.values()):
        which = next(name for name, said in again.items() if said)
        return (
            f"`append`, and `{which}` reads rows again in each run: they would be doubled",
            "merge it by a `primary_key`",
        )
    return None


def cursor_of(resource: DltResource) -> Any:
    """The incremental cursor of a resource that settings describe; None without one."""
    return resource.explicit_args.get("incremental_object")


def _is_replaced(resource: DltResource) -> bool:
    """True for what dlt reads from its start in each run, with or without a cursor."""
    given = resource.write_disposition
    return (given.get("disposition") if isinstance(given, dict) else given) == "replace"


def table_of(resource: DltResource) -> str:
    """The table of a resource; its name, where each row says its own."""
    return resource.table_name if isinstance(resource.table_name, str) else resource.name
