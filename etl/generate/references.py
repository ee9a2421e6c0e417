"""References between raw tables: whether they hold, and all that can be reached over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.errors import ConfigError, Problem
from etl.generate.staging import parent_of
from etl.raw.schemas import RawSchema, RawTable, Reference


@dataclass(frozen=True)
class Hop:
    """One join of a fact table: from the row named `left` to the one row of `table`.

    `path` are the columns followed from the fact's base table up to here.
    """

    left: str
    alias: str
    table: RawTable
    columns: tuple[str, ...]
    referenced: tuple[str, ...]


def check_references(schema: RawSchema) -> None:
    """Hold every reference of the source against its tables.

    Raises:
        ConfigError: references to a table or column that is not there, to columns that do not
            identify a row, between different types, or in a circle; one problem for each.
    """
    problems = [
        Problem(f"{schema.source}.{table.name} → {reference.table}", *found)
        for table in schema.tables
        for reference in table.references
        if (found := _wrong(schema, table, reference)) is not None
    ]
    circles: dict[frozenset[str], tuple[str, ...]] = {}
    for table in schema.tables:
        if (circle := _circle(schema, table, ())) is not None:
            circles.setdefault(frozenset(circle), circle)
    problems += [
        Problem(
            f"{schema.source}.{circle[0]}",
            f"references in a circle: {' → '.join(circle)}",
            "drop one of them",
        )
        for circle in circles.values()
    ]
    if problems:
        raise ConfigError(
            f"{len(problems)} wrong references" if len(problems) > 1 else "a wrong reference",
            subject=schema.source,
            problems=tuple(problems),
            hint="mend `references` of the source's resources, then run the extraction again",
        )


def reach(schema: RawSchema, base: RawTable) -> list[Hop]:
    """All joins of the fact table on `base`: parents up to the root, references at any distance."""
    found = list(_walk(schema, base, ()))
    counts: dict[str, int] = {}
    for _, _, table, _, _ in found:
        counts[table.name] = counts.get(table.name, 0) + 1
    aliases: dict[tuple[str, ...], str] = {(): "base"}
    hops = []
    for left, path, table, columns, referenced in found:
        # Reached twice, a table goes by the columns that lead to it.
        alias = table.name if counts[table.name] == 1 else "__".join((*path, table.name))
        aliases[path] = alias
        hops.append(Hop(aliases[left], alias, table, columns, referenced))
    return hops


_Step = tuple[tuple[str, ...], tuple[str, ...], RawTable, tuple[str, ...], tuple[str, ...]]


def _walk(schema: RawSchema, table: RawTable, path: tuple[str, ...]) -> Iterator[_Step]:
    parent = parent_of(table)
    if parent is not None and (above := schema.table(parent)) is not None:
        further = (*path, "_dlt_parent_id")
        yield path, further, above, ("_dlt_parent_id",), ("_dlt_id",)
        yield from _walk(schema, above, further)
    for reference in table.references:
        other = schema.table(reference.table)
        if other is None or other.name == table.name:
            continue
        further = (*path, "_".join(reference.columns))
        yield path, further, other, reference.columns, reference.referenced
        yield from _walk(schema, other, further)


def _wrong(schema: RawSchema, table: RawTable, reference: Reference) -> tuple[str, str] | None:
    """What is wrong with a reference and what to do, None for a good one."""
    missing = [c for c in reference.columns if not table.has(c)]
    if missing:
        return f"column {', '.join(missing)} is not in {table.name}", _names(table)
    if len(reference.columns) != len(reference.referenced):
        return (
            f"{len(reference.columns)} columns refer to {len(reference.referenced)}",
            "name as many in `columns` as in `referenced_columns`",
        )
    other = schema.table(reference.table)
    if other is None:
        if reference.table in schema.declared:
            return None
        return "no such table", "tables: " + ", ".join(t.name for t in schema.tables)
    missing = [c for c in reference.referenced if not other.has(c)]
    if missing:
        return f"column {', '.join(missing)} is not in {other.name}", _names(other)
    if set(reference.referenced) != set(other.key):
        named = ", ".join(reference.referenced)
        what = f"{named} does not identify a row of {other.name}: a join would multiply rows"
        return what, f"its primary key: {', '.join(other.key) or 'none'}"
    types = {(t.name, c.name): c.type for t in (table, other) for c in t.columns}
    for mine, its in zip(reference.columns, reference.referenced, strict=True):
        a, b = types[table.name, mine], types[other.name, its]
        if a != b:
            return f"{mine} is {a}, {other.name}.{its} is {b}", "give both one type in `columns`"
    return None


def _names(table: RawTable) -> str:
    names = [c.name for c in table.data]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"columns: {', '.join(names[:20])}{more}"


def _circle(schema: RawSchema, table: RawTable, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The first circle that starts and ends with a table; one to itself is a hierarchy."""
    path = (*path, table.name)
    for reference in table.references:
        if reference.table == table.name:
            continue
        if reference.table == path[0]:
            return (*path, path[0])
        other = schema.table(reference.table)
        if other is None or other.name in path:
            continue
        if (found := _circle(schema, other, path)) is not None:
            return found
    return None
