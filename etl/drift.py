"""Schema drift: what a source's raw tables hold now, compared with what they held before."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import exp, lgamma

from etl.records import SchemaChange

# Fewer rows than this say nothing about a column without values.
MIN_ROWS = 3
# A column is called vanished when chance would leave it empty less often than this.
MAX_CHANCE = 0.01
# From here on two names look like one that was changed: created and created_at, price and prices.
SIMILAR = 0.6


@dataclass(frozen=True)
class Column:
    """A raw column: dlt's type, and for a variant the column whose values did not fit."""

    type: str
    variant_of: str = ""


@dataclass(frozen=True)
class Table:
    """A raw table with its columns; dlt's own are left out."""

    name: str
    parent: str | None
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class Count:
    """Rows that load packages brought to a table, values by column, parents that have rows."""

    rows: int = 0
    values: Mapping[str, int] = field(default_factory=dict)
    parents: int = 0


@dataclass(frozen=True)
class Seen:
    """What was seen of a column so far: rows that could have had a value, and those that had.

    `is_gone`: it was reported as vanished and no value has come since.
    """

    type: str
    rows: int = 0
    values: int = 0
    is_gone: bool = False


# By (table, column); the column "" stands for the table among its parent's rows.
Known = dict[tuple[str, str], Seen]
Shape = Mapping[str, Table]


@dataclass(frozen=True)
class Drift:
    """What a run found in one source's raw tables; `is_first`: nothing was known before."""

    changes: tuple[SchemaChange, ...]
    known: Known
    is_first: bool


def is_vanished(before: Seen, rows: int) -> bool:
    """True when `rows` new rows without a value cannot well be chance.

    Of `before.rows` rows `before.values` had one. The chance that the next ones have none, with
    nothing else known (a beta-binomial over a flat prior), must be below MAX_CHANCE: 4 rows after
    4 full ones are enough, a column that 1 row in 100 fills needs about 500.
    """
    if before.is_gone or not before.values or rows < MIN_ROWS:
        return False
    empty, seen = before.rows - before.values, before.rows
    chance = (
        lgamma(empty + rows + 1) - lgamma(empty + 1) + lgamma(seen + 2) - lgamma(seen + rows + 2)
    )
    return exp(chance) < MAX_CHANCE


def remember(known: Known, shape: Shape, counts: Mapping[str, Count]) -> Known:
    """What is known after these packages, without what was reported as vanished meanwhile."""
    found: Known = {}
    for table in shape.values():
        count = counts.get(table.name, Count())
        asked = counts.get(table.parent, Count()).rows if table.parent else count.rows
        present = count.parents if table.parent else count.rows
        seen = {"": ("", asked, present)} | {
            name: (column.type, count.rows, count.values.get(name, 0))
            for name, column in table.columns.items()
        }
        for name, (kind, rows, values) in seen.items():
            old = known.get((table.name, name), Seen(kind))
            found[table.name, name] = Seen(
                kind, old.rows + rows, old.values + values, old.is_gone and not values
            )
    return found


def compare(
    known: Known,
    shape: Shape,
    counts: Mapping[str, Count],
    complete: Collection[str],
    brought: Collection[str],
) -> tuple[list[SchemaChange], Known]:
    """What changed in the schema and with these packages, and what is known from now on.

    Args:
        known: what was seen before; empty before the first load.
        shape: the tables as dlt records them after the load.
        counts: what this run's packages brought; tables that are missing are not judged.
        complete: root tables that the run read whole: no row means that none is left.
        brought: root tables that are known to have a resource still.
    """
    after = remember(known, shape, counts)
    changes = [SchemaChange(kind="new", table=name) for name in shape if (name, "") not in known]
    gone = [*_vanished_tables(known, shape, counts, complete)]
    lost = {change.table for change in gone}
    for table in shape.values():
        if (table.name, "") in known and table.name not in lost:
            changes += _new_columns(known, table)
            gone += _vanished_columns(known, table, counts.get(table.name, Count()))
    left = [c for c in _left_tables(known, shape, counts, brought) if c.table not in lost]
    told = sorted(_pair(changes, gone, left, shape), key=lambda c: (c.table, c.column or ""))
    for change in told:
        if change.kind in ("vanished", "renamed"):
            place = (change.table, change.column or "")
            after[place] = replace(after[place], is_gone=True)
    return told, after


def _new_columns(known: Known, table: Table) -> Iterator[SchemaChange]:
    for name, column in table.columns.items():
        before = known.get((table.name, name))
        if before is None and column.variant_of in table.columns:
            yield SchemaChange(
                kind="retyped",
                table=table.name,
                column=column.variant_of,
                type_before=table.columns[column.variant_of].type,
                type_after=column.type,
                new_name=name,
            )
        elif before is None:
            yield SchemaChange(kind="new", table=table.name, column=name, type_after=column.type)
        elif before.type != column.type:
            yield SchemaChange(
                kind="retyped",
                table=table.name,
                column=name,
                type_before=before.type,
                type_after=column.type,
            )


def _vanished_tables(
    known: Known, shape: Shape, counts: Mapping[str, Count], complete: Collection[str]
) -> Iterator[SchemaChange]:
    for table in shape.values():
        before = known.get((table.name, ""))
        if before is None or before.is_gone or counts.get(table.name, Count()).rows:
            continue
        if table.parent is not None:
            parent = counts.get(table.parent, Count()).rows
            if table.name in counts and is_vanished(before, parent):
                yield SchemaChange(kind="vanished", table=table.name)
        elif table.name in complete and before.values:
            yield SchemaChange(kind="vanished", table=table.name)


def _left_tables(
    known: Known, shape: Shape, counts: Mapping[str, Count], brought: Collection[str]
) -> Iterator[SchemaChange]:
    """Root tables without rows that no resource is known to bring, with what is nested in them.

    Their resource was removed, or rows name their tables and none named these: no news by itself.
    """
    for table in shape.values():
        root = up_to_root(table.name, shape)[-1]
        before, count = known.get((table.name, "")), counts.get(root)
        if root in brought or before is None or before.is_gone or not before.values:
            continue
        if count is not None and not count.rows:
            yield SchemaChange(kind="vanished", table=table.name)


def up_to_root(table: str, shape: Shape) -> list[str]:
    """The table and all that it is nested in, the root last."""
    chain = [table]
    while (parent := shape[chain[-1]].parent) is not None and parent in shape:
        chain.append(parent)
    return chain


def _vanished_columns(known: Known, table: Table, count: Count) -> Iterator[SchemaChange]:
    # Values that went to a variant did not vanish: that column is told as retyped.
    moved = {c.variant_of for n, c in table.columns.items() if count.values.get(n)}
    for name, column in table.columns.items():
        before = known.get((table.name, name))
        if before is None or count.values.get(name) or name in moved or column.variant_of:
            continue
        if is_vanished(before, count.rows):
            yield SchemaChange(
                kind="vanished", table=table.name, column=name, type_before=column.type
            )


def _pair(
    changes: list[SchemaChange], gone: list[SchemaChange], left: list[SchemaChange], shape: Shape
) -> Iterator[SchemaChange]:
    """Changes with each pair that looks like a rename as one; the most alike are paired first.

    What is `left` is told in a pair only. Root tables come first: nested ones follow theirs.
    """
    arrived = [c for c in changes if c.kind == "new"]
    paired: list[SchemaChange] = []
    moved: dict[str, str] = {}
    for roots in (True, False):
        pairs = sorted(
            (
                (likeness, old, new)
                for old in [*gone, *left]
                if (old.column is None and shape[old.table].parent is None) is roots
                for new in arrived
                if (likeness := _likeness(old, new, gone, arrived, shape, moved)) > 0
            ),
            key=lambda p: -p[0],
        )
        for _, old, new in pairs:
            if old in paired or new in paired:
                continue
            paired += [old, new]
            if roots:
                moved[old.table] = new.table
            yield old.model_copy(
                update={
                    "kind": "renamed",
                    "type_after": new.type_after,
                    "new_name": new.column or new.table,
                }
            )
    yield from (c for c in [*changes, *gone] if c not in paired)


def _likeness(
    old: SchemaChange,
    new: SchemaChange,
    gone: list[SchemaChange],
    arrived: list[SchemaChange],
    shape: Shape,
    moved: Mapping[str, str],
) -> float:
    """How much a thing that came looks like one that went; 0 when it does not."""
    if old.column is None and new.column is None:
        return _alike_tables(shape[old.table], shape[new.table], shape, moved)
    kind = (old.table, old.type_before)
    if old.column is None or new.column is None or kind != (new.table, new.type_after):
        return 0.0
    alike = _similarity(old.column, new.column)
    alone = (
        sum((c.table, c.type_before) == kind for c in gone) == 1
        and sum((c.table, c.type_after) == kind for c in arrived) == 1
    )
    return alike if alike >= SIMILAR else 0.01 * alone


def _alike_tables(here: Table, there: Table, shape: Shape, moved: Mapping[str, str]) -> float:
    """How much a table that came looks like one that went, in its columns or its name."""
    parent = here.parent
    if parent is not None and (root := up_to_root(parent, shape)[-1]) in moved:
        parent = moved[root] + parent.removeprefix(root)
    if parent != there.parent:
        return 0.0
    ours, theirs = here.columns.keys(), there.columns.keys()
    shared = len(ours & theirs) / max(1, len(ours | theirs))
    names = here.name.removeprefix(f"{here.parent}__"), there.name.removeprefix(f"{parent}__")
    alike = max(shared, _similarity(*names))
    return alike if alike >= SIMILAR else 0.0


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
