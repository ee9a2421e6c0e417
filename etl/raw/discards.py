"""Counts what a schema contract leaves out: dlt drops rows and values without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dlt.extract.extract
import dlt.normalize.worker
from dlt.extract.extractors import ArrowExtractor, ObjectExtractor
from dlt.normalize.items_normalizers import JsonLItemsNormalizer

from etl.raw.coercions import coerce_exactly
from etl.raw.collisions import CollisionError, MisfitError, refuse_collisions
from etl.records import Discarded

# (table, column) → number; the column is "" when the contract refuses the whole table.
Place = tuple[str, str]


class Discards:
    """Rows and values that were left out, counted where dlt decides."""

    def __init__(self) -> None:
        self.rows: Counter[Place] = Counter()
        self.values: Counter[Place] = Counter()

    def records(self) -> tuple[Discarded, ...]:
        """One record for each table and column that the contract refused."""
        return tuple(
            Discarded(
                table=table,
                column=column,
                rows=self.rows[table, column],
                values=self.values[table, column],
            )
            for table, column in sorted(self.rows.keys() | self.values.keys())
        )


_counting: ContextVar[Discards | None] = ContextVar("discards", default=None)


@contextmanager
def count_discards() -> Iterator[Discards]:
    """Count what dlt discards in this thread, while it extracts or normalises.

    dlt has no hook for it and its own metrics only know what was written: its classes that apply
    a contract are replaced, for the whole process, by ones that count.
    """
    for module, kind in (
        (dlt.normalize.worker, _CountingNormalizer),
        (dlt.extract.extract, _CountingObjectExtractor),
        (dlt.extract.extract, _CountingArrowExtractor),
    ):
        setattr(module, kind.__bases__[-1].__name__, kind)
    found = Discards()
    token = _counting.set(found)
    try:
        yield found
    finally:
        _counting.reset(token)


class _RefusedTables(set[str]):
    """The tables that a contract refuses; each question that ends a row's way is counted."""

    def __init__(self, discards: Discards) -> None:
        super().__init__()
        self._discards = discards

    def add(self, name: str) -> None:
        """The first row of a refused table."""
        self._discards.rows[name, ""] += 1
        super().add(name)

    def __contains__(self, name: object) -> bool:
        """True for a refused table: dlt leaves out the row that it asks for."""
        found = super().__contains__(name)
        if found:
            self._discards.rows[str(name), ""] += 1
        return found


class _CountingNormalizer(JsonLItemsNormalizer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_collisions(self.schema.data_item_normalizer)
        self._coerce_type = coerce_exactly
        # Columns of values that another column cannot hold, in the row at hand, and that column.
        self._variants: dict[str, str] = {}
        self._discards = _counting.get() or Discards()
        self._filtered_tables = _RefusedTables(self._discards)

    def _coerce_row(self, table_name: str, parent_table: str, row: Any) -> Any:
        self._variants.clear()
        found = super()._coerce_row(table_name, parent_table, row)
        for column, field in self._variants.items():
            hints = self.schema.tables[table_name]["columns"].get(field, {})
            if hints.get("nullable") is False and self._takes_types(table_name):
                raise MisfitError(table_name, field, hints.get("data_type"), row)
            if row.get(column) is not None:
                what = f"the field {column} and {field}, of another type, of one row would go there"
                raise CollisionError(f"{table_name}.{column}", what, row)
        return found

    def _takes_types(self, table_name: str) -> bool:
        """Whether a value of another type gets a column of its own; the contract may forbid it."""
        contract = self.schema.resolve_contract_settings_for_table(table_name)
        return contract["data_type"] == "evolve"

    def _coerce_non_null_value(
        self, table_columns: Any, table_name: str, col_name: str, *value: Any, **options: Any
    ) -> Any:
        found = super()._coerce_non_null_value(
            table_columns, table_name, col_name, *value, **options
        )
        if found[0] != col_name:
            self._variants[found[0]] = col_name
        return found

    def _filter_columns(self, filtered_columns: Any, row: Any) -> Any:
        refused = [(n, mode) for n, mode in filtered_columns.items() if n in row]
        kept: Any = super()._filter_columns(filtered_columns, row)
        if refused:
            # dlt hands over the very dictionary that it keeps for the table.
            table = next(
                t for t, c in self._filtered_tables_columns.items() if c is filtered_columns
            )
            if kept is None:
                column = next(n for n, mode in refused if mode == "discard_row")
                self._discards.rows[table, column] += 1
            else:
                self._discards.values.update((table, n) for n, _ in refused)
        return kept


class _CountingTables:
    """What both extractors share: rows of a table that the contract refuses as a whole."""

    _filtered_tables: set[str]

    def _write_to_static_table(self, resource: Any, table_name: str, items: Any, meta: Any) -> None:
        super()._write_to_static_table(resource, table_name, items, meta)  # type: ignore[misc]
        self._count_refused(table_name, items)

    def _write_to_dynamic_table(self, resource: Any, items: Any, meta: Any) -> None:
        super()._write_to_dynamic_table(resource, items, meta)  # type: ignore[misc]
        for item in items if isinstance(items, list) else [items]:
            name = self._get_dynamic_table_name(resource, item)  # type: ignore[attr-defined]
            self._count_refused(name, item)

    def _count_refused(self, table: str, items: Any) -> None:
        discards = _counting.get()
        if discards is not None and table in self._filtered_tables:
            pages = items if isinstance(items, list) else [items]
            discards.rows[table, ""] += sum(getattr(p, "num_rows", 1) for p in pages)


class _CountingObjectExtractor(_CountingTables, ObjectExtractor):
    pass


class _CountingArrowExtractor(_CountingTables, ArrowExtractor):
    def _apply_contract_filters(
        self, item: Any, resource: Any, static_table_name: str | None
    ) -> Any:
        kept = super()._apply_contract_filters(item, resource, static_table_name)
        discards = _counting.get()
        if discards is not None and kept is not item:
            table = static_table_name or self._get_dynamic_table_name(resource, item)
            modes = self._filtered_columns.get(table, {})
            if kept.num_rows < item.num_rows:
                column = next((n for n, m in modes.items() if m == "discard_row"), "")
                discards.rows[table, column] += item.num_rows - kept.num_rows
            for name in set(item.column_names) - set(kept.column_names):
                column = self.naming.normalize_identifier(name)
                if modes.get(column) == "discard_value":
                    filled = item.num_rows - item.column(name).null_count
                    discards.values[table, column] += filled
        return kept
