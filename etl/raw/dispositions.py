"""Write dispositions and types that change: what raw tables cannot take on where they stand.

A merge finds the rows of nested tables by `_dlt_root_id`, and what that is depends on how the root
table was written: dlt 1.31 adds the column, which DuckDB refuses, or finds none of the old rows by
it, which then stay beside the new ones. Versions (scd2) are kept of rows with a time from which
they hold: rows that stand have none, and nobody knows it. Rows of one key that stand several times
stay so until the source brings that key again. And a REST source knows the rows where its cursor
stands, which come again each time, by all their fields for a merge, and by their key for an append.
A column keeps the type that it was made with: DuckDB rounds, cuts or refuses what comes in another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dlt.common.schema.utils import get_nested_tables, has_table_seen_data

from etl.errors import ConfigError
from etl.raw.column_types import Retyped
from etl.raw.hints import root_hints
from etl.raw.schemas import ACCEPTED, REFERENCES

if TYPE_CHECKING:
    from dlt import Schema
    from dlt.extract import DltResource, DltSource

DEFAULT: Literal["delete-insert"] = "delete-insert"
# Where the id of a root row is made of its key; the default finds rows with any.
_BY_KEY = {"upsert", "insert-only"}
_VERSIONS = "scd2"
_DEMANDS = ("primary_key", "merge_key", "unique", "hard_delete", ACCEPTED, REFERENCES)
# Whether a table has rows that share their values in these columns.
HasDoubled = Callable[[str, Collection[str]], bool]


def settle_dispositions(
    name: str,
    source: DltSource,
    recorded: Schema | None,
    has_doubled: HasDoubled,
    *,
    cursors: Collection[str],
    retyped: Sequence[Retyped],
    refresh: bool,
) -> None:
    """Refuse what tables cannot change to where they stand, unless they are read anew.

    `cursors` are the resources of a REST source that read on from a cursor, `retyped` the columns
    that stand in raw with another type than the settings say.

    Raises:
        ConfigError: rows that stand would be lost track of, or be versions without a beginning; or
            values that come would be cast.
    """
    if recorded is None:
        return
    _name_strategies(source, recorded)
    _forget_sorts(source, recorded)
    if refresh:
        return
    changed = [
        *_find_changed(source, recorded, cursors),
        *_find_doubled(source, recorded, has_doubled),
    ]
    what = ""
    if changed:
        what = f"the write disposition or key changed of {', '.join(changed)}"
    elif retyped:
        listed = ", ".join(map(str, retyped[:20])) + (", …" if len(retyped) > 20 else "")
        what = f"the type changed of {listed}, and raw's column would round, cut or refuse values"
    if what:
        raise ConfigError(
            f"{name}: {what}",
            subject=name,
            hint=f"`etl run --full-refresh --source {name}` makes the source's tables anew and "
            "reads everything again; or put back what was there",
        )


def how_to_refresh(
    source: DltSource, recorded: Schema | None, retyped: Sequence[Retyped]
) -> Literal["drop_resources", "drop_data"]:
    """Whether a full refresh makes the tables anew, or empties them.

    Emptied, a table keeps its columns, also those that models read and no row brings; and all that
    the settings ever said of them, a key that is none any more among it.
    """
    if recorded is None:
        return "drop_data"
    changed = (
        any(_find_changed(source, recorded, ()))
        or bool(retyped)
        or _has_earlier_hints(source, recorded)
    )
    return "drop_resources" if changed else "drop_data"


def _has_earlier_hints(source: DltSource, recorded: Schema) -> bool:
    """True when dlt has recorded of a column what the settings do not say any more."""
    for name, _, asked in _asked(source, recorded):
        now = {recorded.naming.normalize_path(n): _hints(c) for n, c in asked["columns"].items()}
        table = recorded.tables.get(name)
        for column, known in (table["columns"] if table else {}).items():
            if not column.startswith("_dlt") and _hints(known) - now.get(column, set()):
                return True
    return False


def _hints(column: Any) -> set[str]:
    """What a column has to be, beside its type."""
    said = {hint for hint in _DEMANDS if column.get(hint)}
    return said | ({"nullable"} if column.get("nullable") is False else set())


def _name_strategies(source: DltSource, recorded: Schema) -> None:
    """Let a merge that names no strategy be the default one, whatever it was before.

    dlt goes on with the strategy that it recorded.
    """
    for name, resource, asked in _asked(source, recorded):
        known: dict[str, Any] = dict(recorded.tables.get(name) or {})
        is_unnamed = asked.get("write_disposition") == "merge" and "x-merge-strategy" not in asked
        if is_unnamed and known.get("x-merge-strategy", DEFAULT) != DEFAULT:
            resource.apply_hints(write_disposition={"disposition": "merge", "strategy": DEFAULT})


def _forget_sorts(source: DltSource, recorded: Schema) -> None:
    """Let the newest row of a key be found by what the settings say now.

    dlt takes one column for it, and goes on with the one that it recorded as well.
    """
    for name, resource, asked in _asked(source, recorded):
        columns = asked["columns"].items()
        now = {recorded.naming.normalize_path(n) for n, c in columns if c.get("dedup_sort")}
        known = recorded.tables.get(name, {}).get("columns", {})
        for column in [n for n, c in known.items() if now and c.get("dedup_sort")]:
            if column not in now:
                resource.apply_hints(columns={column: {"name": column, "dedup_sort": None}})


def _find_changed(source: DltSource, recorded: Schema, cursors: Collection[str]) -> Iterator[str]:
    """Root tables whose rows do not bear the change: each with what was, what is, and why."""
    for name, resource, asked in _asked(source, recorded):
        table = recorded.tables.get(name)
        if table is None:
            continue
        before, now = _strategy(dict(table)), _strategy(asked)
        change = f"{name} from {before} to {now}"
        if now == _VERSIONS and before != now and has_table_seen_data(table):
            yield f"{change}, and nobody knows since when the rows hold that stand there"
        is_append = now == "append" and before not in {"append", "replace"}
        if is_append and resource.name in cursors and _key(asked["columns"], recorded):
            yield f"{change}, and rows where its cursor stands would be appended again"
        nested = get_nested_tables(recorded.tables, name, include_self=False)
        if not any(t.get("columns") for t in nested):
            continue
        mends = now == DEFAULT and before in _BY_KEY
        if now in _BY_KEY | {DEFAULT} and not (before == now or mends or {before, now} <= _BY_KEY):
            yield f"{change}, and rows that stand in its nested tables would be lost track of"


def _find_doubled(source: DltSource, recorded: Schema, has_doubled: HasDoubled) -> Iterator[str]:
    """Root tables that are merged by a key from now on and have rows that share theirs."""
    for name, _, asked in _asked(source, recorded):
        table = recorded.tables.get(name)
        before, now = _strategy(dict(table or {})), _strategy(asked)
        if table is None or now not in _BY_KEY | {DEFAULT} or not has_table_seen_data(table):
            continue
        key, known = _key(asked["columns"], recorded), _key(table["columns"], recorded)
        if not key or (before == now and key == known) or not key <= table["columns"].keys():
            continue
        if has_doubled(name, sorted(key)):
            change = f"{name} from {before} to {now} by {', '.join(sorted(key))}"
            yield f"{change}, of which rows stand there several times"


def _key(columns: Mapping[str, Any], schema: Schema) -> set[str]:
    """The columns of the primary key, as dlt writes them."""
    return {schema.naming.normalize_path(n) for n, c in columns.items() if c.get("primary_key")}


def _asked(
    source: DltSource, recorded: Schema
) -> Iterator[tuple[str, DltResource, dict[str, Any]]]:
    """Each resource with its table's name in raw and the hints that it has now."""
    for resource in source.selected_resources.values():
        asked = root_hints(source.name, resource)
        if asked is not None:
            yield recorded.naming.normalize_tables_path(str(asked["name"])), resource, asked


def _strategy(table: dict[str, Any]) -> str:
    disposition = str(table.get("write_disposition"))
    strategy = table.get("x-merge-strategy") or DEFAULT
    return str(strategy) if disposition == "merge" else disposition
