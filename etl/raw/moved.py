"""Refuses changes of names by which cursors and the rows that they stand for come apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlt.common.schema import Schema
from dlt.extract import DltSource

from etl.errors import ConfigError
from etl.raw.hints import root_hints


def refuse_other_name(name: str, source: DltSource, recorded: Schema | None) -> None:
    """Refuse a dlt source that is not called as the one that loaded raw's tables.

    dlt keeps schema and cursors under that name: all would be read anew beside what stands.

    Raises:
        ConfigError: names both.
    """
    if recorded is not None and source.schema.name != (before := recorded.name):
        raise ConfigError(
            f"{name}: raw's tables were loaded as dlt's source {before}, and this one is called "
            f"{source.schema.name}: its cursors would begin anew beside the rows that stand",
            subject=name,
            hint=f'`@dlt.source(name="{before}")` goes on from there (a source that settings '
            "describe is called as there); another name in `sources` begins anew, in a schema of "
            "its own",
        )


def refuse_moved_cursors(
    name: str, source: DltSource, state: Mapping[str, Any], cursors: Mapping[str, str]
) -> None:
    """Refuse to append by another cursor than before: dlt begins anew with it.

    `state` is the pipeline's, `cursors` the cursor of each resource that has one.

    Raises:
        ConfigError: names the resource, its cursor and the one before.
    """
    kept = cursors_kept(state)
    for resource, cursor in cursors.items():
        before = kept.get(resource, {})
        asked = source.selected_resources.get(resource)
        if asked is None or not before or cursor in before:
            continue
        if asked.write_disposition == "append":
            raise ConfigError(
                f"{name}: the cursor of {resource} is {cursor}, and its rows were read by "
                f"{', '.join(sorted(before))}: all would be read and appended again",
                subject=f"{name}.{resource}",
                hint=f"`etl run --full-refresh --source {name}` reads everything anew; or put back "
                "the cursor, or merge by a `primary_key`",
            )


def refuse_moved_tables(
    name: str,
    source: DltSource,
    state: Mapping[str, Any],
    before: Mapping[str, str],
    now: Mapping[str, str],
) -> None:
    """Refuse another table for a resource with a cursor, and another resource for its table.

    dlt keeps the cursor under the resource's name: the one table would begin with what is new, to
    the other one all would be appended again.

    Args:
        before: the table of each resource in the last extraction.
        now: in this one.

    Raises:
        ConfigError: names resource and table, and those before.
    """
    kept = cursors_kept(state)
    for resource, table in now.items():
        earlier = [r for r, t in before.items() if t == table and kept.get(r)]
        if kept.get(resource) and before.get(resource, table) != table:
            what = (
                f"the rows of {resource} went to {before[resource]} and would go to {table}, which "
                "would lack all that stand before the cursor"
            )
        elif (
            earlier
            and resource not in before
            and now.keys().isdisjoint(earlier)
            and source.resources[resource].write_disposition == "append"
        ):
            what = (
                f"the rows of {table} were read as {', '.join(earlier)}: as {resource} all would "
                "be read and appended again"
            )
        else:
            continue
        raise ConfigError(
            f"{name}: {what}",
            subject=f"{name}.{resource}",
            hint=f"`etl run --full-refresh --source {name}` reads everything anew; or put back "
            "the name",
        )


def hand_over_tables(source: DltSource, schema: Schema) -> None:
    """Let a full refresh make anew a table that a resource of another name has filled so far.

    dlt finds the tables by the resource's name that it recorded in the pipeline's `schema`.
    """
    for resource in source.selected_resources.values():
        asked = root_hints(source.name, resource)
        name = schema.naming.normalize_tables_path(str(asked["name"])) if asked else ""
        table = schema.tables.get(name)
        if table is not None and table.get("resource") not in source.resources:
            table["resource"] = resource.name


def cursors_kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """The cursors that the pipeline's state has of each resource."""
    found: dict[str, Any] = {}
    for one in state.get("sources", {}).values():
        found |= {r: kept.get("incremental", {}) for r, kept in one.get("resources", {}).items()}
    return found
