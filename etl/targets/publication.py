"""What is published and how it is named: publications, SQL names and the fate of each table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import duckdb

from etl.errors import ConfigError
from etl.records import LoadRun
from etl.settings import Strategy
from etl.warehouse import quoted

DEFAULT_SCHEMA = "main"

# Where a target of the kind is: a path, or settings.
Place_contra = TypeVar("Place_contra", contravariant=True)


def split_name(name: str, default_schema: str = DEFAULT_SCHEMA) -> tuple[str, str]:
    """Schema and table of `schema.table` or `table`; a table name may itself hold dots."""
    schema, dot, table = name.partition(".")
    return (schema, table) if dot else (default_schema, name)


def qualify(catalog: str, name: str) -> str:
    """The full SQL name of `schema.table` in a catalog."""
    return quoted(catalog, *split_name(name))


@dataclass(frozen=True)
class Publication:
    """One mart that goes to one table of a target.

    `model` is the mart's name in the warehouse and `table` its name at the target, both
    `schema.table`; `key` names the columns that identify a row, empty when there are none, and
    `columns` those that are published, empty for all. Whether the key is the table's primary key,
    and its indexes, are for servers only. `evaluated` says that this run has made the mart anew,
    so that it is likely to have changed.
    """

    model: str
    table: str
    key: tuple[str, ...] = ()
    strategy: Strategy = "replace"
    columns: tuple[str, ...] = ()
    primary_key: bool = True
    indexes: tuple[tuple[str, ...], ...] = ()
    evaluated: bool = False


class Publish(Protocol[Place_contra]):
    """Bring the marts to one target of this kind; all of them are checked before any is visible.

    `connection` is open on the warehouse and in no transaction. Raises ConfigError,
    UnreachableError, LoadError, ReconciliationError, ResourcesError; the target is then as it was,
    or (when only the count after the swap failed) holds the new version.
    """

    def __call__(
        self,
        connection: duckdb.DuckDBPyConnection,
        order: Order,
        place: Place_contra,
        /,
        *,
        dry_run: bool = False,
    ) -> list[LoadRun]: ...


@dataclass(frozen=True)
class Order:
    """What one call shall do: each table once, published or left in its present version."""

    target: str
    publish: tuple[Publication, ...]
    hold: tuple[Publication, ...]

    @property
    def tables(self) -> set[str]:
        """The tables that the target shall have, case-folded with their schema."""
        return {fold(p.table) for p in (*self.publish, *self.hold)}

    @property
    def needed(self) -> tuple[Publication, ...]:
        """What cannot be made anew from the warehouse alone: tables whose present rows stay."""
        return (*self.hold, *(p for p in self.publish if p.strategy != "replace"))

    def held_runs(self, rows: dict[str, int]) -> list[LoadRun]:
        """The records of what is held back; `rows` by table, as they stand at the target."""
        return [
            LoadRun(
                model=p.model,
                target=self.target,
                table=p.table,
                strategy=p.strategy,
                status="held_back",
                rows_at_target=rows.get(fold(p.table), 0),
            )
            for p in self.hold
        ]


def fold(table: str) -> str:
    """The name by which two tables are the same one: DuckDB's names ignore case."""
    return ".".join(split_name(table)).casefold()


def take_order(
    target: str,
    publications: Iterable[Publication],
    held_back: Iterable[Publication],
    default_schema: str = DEFAULT_SCHEMA,
) -> Order:
    """Sort out what to publish and what to hold back. Raises ConfigError on a bad table name.

    `default_schema` is where the target has tables that name none.
    """
    hold = tuple(held_back)
    held = {(p.model, fold(p.table)) for p in hold}
    # A mart named in both lists failed its audit: holding it back is the safe reading.
    ready = tuple(p for p in publications if (p.model, fold(p.table)) not in held)
    result = Order(target, ready, hold)
    seen: dict[str, Publication] = {}
    for p in (*result.publish, *result.hold):
        place = ".".join(split_name(p.table, default_schema))
        other = seen.setdefault(place.casefold(), p)
        if other is not p:
            raise ConfigError(
                f"{other.model} and {p.model} both go to table {p.table} of target {target}",
                subject=target,
                hint="give one of the loads another `table`",
            )
        if not all(split_name(p.table)) or "/" in p.table or "\0" in p.table:
            raise ConfigError(
                f"`{p.table}` is not a table name for {p.model} at target {target}",
                subject=target,
                hint="write `table` or `schema.table`, without `/`",
            )
    return result
