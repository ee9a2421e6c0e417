"""Write dispositions that change: which of them raw tables cannot take on where they stand.

A merge finds the rows of nested tables by `_dlt_root_id`, and what that is depends on how the root
table was written: dlt 1.31 adds the column, which DuckDB refuses, or finds none of the old rows by
it, which then stay beside the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from dlt.common.schema.utils import get_nested_tables

from etl.errors import ConfigError
from etl.raw.hints import root_hints

if TYPE_CHECKING:
    from dlt import Schema
    from dlt.extract import DltResource, DltSource

DEFAULT: Literal["delete-insert"] = "delete-insert"
# Where the id of a root row is made of its key; the default finds rows with any.
_BY_KEY = {"upsert", "insert-only"}


def settle_dispositions(
    name: str, source: DltSource, recorded: Schema | None, *, refresh: bool
) -> None:
    """Refuse what tables cannot change to where they stand, unless they are made anew.

    Raises:
        ConfigError: nested rows would be lost track of.
    """
    if recorded is not None:
        _name_strategies(source, recorded)
        if not refresh:
            _check(name, source, recorded)


def how_to_refresh(
    source: DltSource, recorded: Schema | None
) -> Literal["drop_resources", "drop_data"]:
    """Whether a full refresh makes the tables anew, or empties them.

    Emptied, a table keeps its columns, also those that models read and no row brings.
    """
    changed = recorded is not None and any(_find_changed(source, recorded))
    return "drop_resources" if changed else "drop_data"


def _name_strategies(source: DltSource, recorded: Schema) -> None:
    """Let a merge that names no strategy be the default one, whatever it was before.

    dlt goes on with the strategy that it recorded.
    """
    for name, resource, asked in _asked(source, recorded):
        known: dict[str, Any] = dict(recorded.tables.get(name) or {})
        is_unnamed = asked.get("write_disposition") == "merge" and "x-merge-strategy" not in asked
        if is_unnamed and known.get("x-merge-strategy", DEFAULT) != DEFAULT:
            resource.apply_hints(write_disposition={"disposition": "merge", "strategy": DEFAULT})


def _check(name: str, source: DltSource, recorded: Schema) -> None:
    """Refuse to go on with tables whose nested rows would be lost track of.

    Raises:
        ConfigError: names the tables, and what was asked for and is.
    """
    if changed := list(_find_changed(source, recorded)):
        raise ConfigError(
            f"{name}: the write disposition changed of {', '.join(changed)}: rows that stand in "
            "their nested tables would be lost track of",
            subject=name,
            hint=f"`etl run --full-refresh --source {name}` makes the source's tables anew and "
            "reads everything again; or put the disposition back",
        )


def _find_changed(source: DltSource, recorded: Schema) -> Iterator[str]:
    """Root tables whose nested rows a load would lose track of: each with what was, what is."""
    for name, _, asked in _asked(source, recorded):
        known: dict[str, Any] = dict(recorded.tables.get(name) or {})
        if not any(t.get("columns") for t in _nested(recorded, name)):
            continue
        before, now = _strategy(known), _strategy(asked)
        mends = now == DEFAULT and before in _BY_KEY
        if now in _BY_KEY | {DEFAULT} and not (before == now or mends or {before, now} <= _BY_KEY):
            yield f"{name} from {before} to {now}"


def _asked(
    source: DltSource, recorded: Schema
) -> Iterator[tuple[str, DltResource, dict[str, Any]]]:
    """Each resource with its table's name in raw and the hints that it has now."""
    for resource in source.selected_resources.values():
        asked = root_hints(source.name, resource)
        if asked is not None:
            yield recorded.naming.normalize_tables_path(str(asked["name"])), resource, asked


def _nested(schema: Schema, table: str) -> list[Any]:
    if table not in schema.tables:
        return []
    return get_nested_tables(schema.tables, table, include_self=False)


def _strategy(table: dict[str, Any]) -> str:
    disposition = str(table.get("write_disposition"))
    strategy = table.get("x-merge-strategy") or DEFAULT
    return str(strategy) if disposition == "merge" else disposition
