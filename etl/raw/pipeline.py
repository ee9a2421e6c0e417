"""One source's raw tables and its dlt pipeline: from extraction to commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import duckdb
from dlt.destinations.exceptions import DatabaseTransientException

from etl.causes import causes
from etl.drift import Count, Shape
from etl.errors import EtlError, Stopped
from etl.memory import in_little_memory, limited_memory
from etl.raw.column_types import LOADS, Retyped, declared_types, find_retyped, refuse_casts
from etl.raw.destination import let_row_ids_rise
from etl.raw.discards import count_discards
from etl.raw.dispositions import how_to_refresh
from etl.raw.failures import classify
from etl.raw.moved import hand_over_tables
from etl.raw.opening import SourcePipeline
from etl.raw.retiring import retire_last_rows
from etl.raw.shapes import count_values, drop_placeholders, read_shape
from etl.records import Discarded
from etl.warehouse import ensure_tables, quoted, read_types

if TYPE_CHECKING:
    from dlt import Schema
    from dlt.common.pipeline import LoadInfo
    from dlt.extract import DltSource

LEAN_MEGABYTES_PER_THREAD = 80


@dataclass(frozen=True)
class Committed:
    """Load packages that stand in raw now, and what a schema contract left out of them."""

    load_ids: tuple[str, ...] = ()
    discarded: tuple[Discarded, ...] = ()

    def __add__(self, other: Committed) -> Committed:
        return Committed(self.load_ids + other.load_ids, self.discarded + other.discarded)


class Raw(SourcePipeline):
    """One source's raw tables and its dlt pipeline.

    Order of a run: `finish_pending`, `extract`, accept or reject its packages, `commit`, and, once
    raw was counted, forget what was accepted. A package that was extracted but not accepted when
    the process died was never checked by the guards: it is dropped, its rows come again with the
    next extraction. An accepted one is finished first.
    """

    @property
    def is_new(self) -> bool:
        """True when no extraction of this source has ever been normalised."""
        schemas = self.pipeline.schemas
        return not any(schemas[name].data_tables(seen_data_only=True) for name in schemas)

    # -- packages ------------------------------------------------------------------------

    def finish_pending(self) -> Committed:
        """Commit what a crashed run had accepted; drop what it had not."""
        self.match_warehouse()
        self.packages.reject_unaccepted()
        return self.commit() if self.packages.pending() else Committed()

    def extract(
        self, source: DltSource, *, workers: int, refresh: bool
    ) -> tuple[list[str], tuple[Discarded, ...]]:
        """Read the source into a package on disk; nothing reaches the warehouse.

        Returns:
            Load ids of the new package, and what a schema contract left out of it.
        """
        retire_last_rows()
        if refresh and source.schema.name in self.pipeline.schemas:
            hand_over_tables(source, self.pipeline.schemas[source.schema.name])
        with self._translated("extract"), count_discards() as discards:
            info = self.pipeline.extract(
                source,
                workers=workers,
                max_parallel_items=max(20, workers * 2),
                loader_file_format="parquet",
                refresh=how_to_refresh(
                    source, self.recorded, self.find_retyped(source, recorded=True)
                )
                if refresh
                else None,
            )
        return list(info.loads_ids), discards.records()

    def commit(self) -> Committed:
        """Normalise and load every pending package.

        A package that can never be loaded (it breaks the contract, or the warehouse refuses it) is
        moved to quarantine, so that the next run is not poisoned by it.

        Raises:
            SchemaError, LoadError, UnreachableError, ResourcesError
        """
        self.packages.drop_normalized_twice()
        let_row_ids_rise()
        waited = self.packages.extracted
        try:
            with self._translated("normalize"), count_discards() as discards:
                self.pipeline.normalize()
        except EtlError as e:
            # What no retry mends would fail in every later run as well.
            if not e.code.retryable:
                self.packages.put_in_quarantine(self.packages.extracted)
            raise
        self.packages.note_discards(waited, discards.records())
        loaded = set(self._take_back())
        self._drop_placeholders()
        try:
            self._refuse_casts()
            info = self._load()
        except EtlError as e:
            if not e.code.retryable:
                self._take_back()
                self.packages.put_in_quarantine(self.packages.normalized)
            raise
        if info is not None:
            loaded |= set(info.loads_ids)
        self.packages.drop_old(loaded)
        accepted = self.packages.accepted
        return Committed(tuple(sorted(loaded)), (accepted and accepted.discarded) or ())

    def _drop_placeholders(self) -> None:
        if tables := self.packages.tables():
            with self.connection() as connection:
                drop_placeholders(connection, self.dataset, sorted({*tables, LOADS}))

    def _load(self) -> LoadInfo | None:
        """Load with little memory; with as much as DuckDB likes when that was too little.

        Without a limit DuckDB keeps what it has written in memory: the more rows, the more of it.
        dlt tries five times with too little, each time with an error in the log: so long values
        get more of it at once. A commit that lacks memory fails as any that cannot be made.
        """
        megabytes = LEAN_MEGABYTES_PER_THREAD + (2 * self.packages.largest_vector() >> 20)
        with self.connection() as connection:
            connection.execute("SET preserve_insertion_order = false")
            try:
                with limited_memory(connection, megabytes), self._translated("load"):
                    return self.pipeline.load()
            except EtlError as e:
                if not any(isinstance(c, DatabaseTransientException) for c in causes(e)):
                    raise
                self._take_back()
                with self._translated("load"):
                    return self.pipeline.load()
            finally:
                connection.execute("RESET preserve_insertion_order")

    def _take_back(self) -> list[str]:
        """Make half-loaded packages loadable again; returns those that proved to be complete."""
        if not self.packages.normalized:
            return []
        with self.connection() as connection:
            return self.packages.take_back(
                connection, self.dataset, self.client.staging_dataset_name
            )

    # -- the schema ------------------------------------------------------------------------

    @property
    def recorded(self) -> Schema | None:
        """The schema as dlt recorded it; None before the first extraction."""
        return self.pipeline.default_schema if self.pipeline.schema_names else None

    def shape(self) -> Shape:
        """The tables that were loaded so far, as dlt records them."""
        return read_shape(self.recorded) if self.recorded is not None else {}

    def count_values(
        self, shape: Shape, load_ids: Iterable[str], *, others: bool = False
    ) -> dict[str, Count]:
        """Rows and values that these load packages brought, or all others did.

        As a load, with little memory where that will do: nested rows are joined with their parents.
        """
        wanted = self.dataset, shape, tuple(load_ids)
        with self.connection() as connection:
            attempt = partial(count_values, connection, *wanted, others=others)
            return in_little_memory(connection, attempt, LEAN_MEGABYTES_PER_THREAD)

    def has_doubled(self, table: str, columns: Collection[str]) -> bool:
        """True when rows of a raw table share their values in these columns."""
        names = ", ".join(quoted(c) for c in columns)
        place = quoted(self.dataset, table)
        with self.connection() as connection:
            try:
                found = connection.execute(
                    f"SELECT 1 FROM {place} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - quoted
                ).fetchone()
            except (duckdb.CatalogException, duckdb.BinderException):  # no such table, or column
                return False
        return found is not None

    def find_retyped(self, source: DltSource | None, *, recorded: bool = False) -> list[Retyped]:
        """Columns of loaded tables that stand with another type than the source declares.

        With `recorded` also those of which dlt has noted another one: of Arrow tables it does.
        """
        if (schema := self.recorded) is None:
            return []
        asked = declared_types(source, schema, recorded=recorded)
        with self.connection() as connection:
            return find_retyped(connection, self.dataset, read_shape(schema), asked)

    def _refuse_casts(self) -> None:
        if self.packages.normalized and (found := self.find_retyped(None, recorded=True)):
            files = self.packages.files_of_standing_tables()
            with self.connection() as connection:
                refuse_casts(connection, self.source, self.dataset, found, files)

    def ensure_tables(self, source: DltSource) -> list[str]:
        """Make, empty, what the source declares or has recorded and the warehouse lacks."""
        schema = self.recorded if self.recorded is not None else source.schema
        declared = declared_types(source, schema, recorded=True)
        with self.connection() as connection:
            present = read_types(connection, self.dataset)
            lacking = [
                {"name": f"{self.dataset}.{name}", "columns": columns}
                for name, columns in declared.items()
                if name not in present
            ]
            return ensure_tables(connection, lacking)

    # -- errors --------------------------------------------------------------------------

    @contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            stopped = next((c for c in causes(e) if isinstance(c, Stopped)), None)
            if stopped is not None:
                raise stopped from e
            found = classify(e, self.source, step, self.settings.data, self.settings.transform.pii)
            # dlt's own words quote the row: where it is shown masked they must not follow.
            raise found from None if found.sample else e
