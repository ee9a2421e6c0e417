"""What stands in a raw table, counted; and whether it can be compared with what the API gave."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from etl.raw.pipeline import Raw
from etl.warehouse import quoted

if TYPE_CHECKING:
    from dlt.common.schema import Schema

# Hints of a merge that leaves rows of the API out.
PARTIAL_MERGES = (
    "x-merge-source-filter", "x-merge-destination-scope", "x-merge-skip-unchanged-rows",
)  # fmt: skip


class RootTable:
    """A root table of a source, named as the source names it."""

    def __init__(self, raw: Raw, schema: Schema, table: str) -> None:
        self._raw = raw
        self._schema = schema
        self.name = str(schema.naming.normalize_tables_path(table))
        self._known: Mapping[str, Any] = schema.tables.get(self.name) or {}

    def __str__(self) -> str:
        return f"{self._raw.dataset}.{self.name}"

    @property
    def keeps_rows(self) -> bool:
        """True when every row that no contract refused must stand in raw: append or replace."""
        return self._known.get("write_disposition") in ("append", "replace")

    @property
    def may_discard_rows(self) -> bool:
        """True when its contract leaves out rows without an error."""
        contract = self._schema.resolve_contract_settings_for_table(self.name)
        return "discard_row" in contract.values()

    @property
    def is_replaced(self) -> bool:
        """True when each extraction replaces the table."""
        return self._known.get("write_disposition") == "replace"

    @property
    def merged_by(self) -> frozenset[str]:
        """The columns by which it is merged, if each key of the API must stand in raw once.

        Empty for what cannot be counted: `scd2` keeps versions, `insert-only` and `cdc` leave rows
        with their earlier load id, and so do filters and unchanged rows that are skipped; a
        `merge_key` replaces groups of rows, and a merge without a key appends.
        """
        known = self._known
        strategy = known.get("x-merge-strategy") or "delete-insert"
        columns: dict[str, Any] = known.get("columns", {})
        if (
            known.get("write_disposition") != "merge"
            or strategy not in ("delete-insert", "upsert")
            or any(known.get(hint) for hint in PARTIAL_MERGES)
            or any(c.get("merge_key") for c in columns.values())
        ):
            return frozenset()
        return frozenset(n for n, c in columns.items() if c.get("primary_key"))

    def column(self, name: str) -> str:
        """A column's name as dlt writes it."""
        return str(self._schema.naming.normalize_path(name))

    def count_rows(self, load_ids: Collection[str]) -> int:
        """Rows that these load packages brought and that are there."""
        return self._count("_dlt_load_id IN (SELECT unnest(?))", [list(load_ids)])

    def count_keys(self, columns: Sequence[str], keys: Collection[tuple[str, ...]]) -> int:
        """Rows that have one of these keys; the values are compared as text."""
        texts = ", ".join(f"CAST({quoted(self.column(c))} AS VARCHAR)" for c in columns)
        lists = ", ".join("unnest(?)" for _ in columns)
        return self._count(
            f"({texts}) IN (SELECT ({lists}))", [list(v) for v in zip(*keys, strict=True)]
        )

    def _count(self, condition: str, parameters: list[list[str]]) -> int:
        with self._raw.connection() as connection:
            try:
                row = connection.execute(
                    # The names are quoted, and values are parameters.
                    f"SELECT count(*) FROM {quoted(self._raw.dataset, self.name)} "  # noqa: S608
                    f"WHERE {condition}",
                    parameters,
                ).fetchone()
            except duckdb.CatalogException:  # there is no such table
                return 0
        return int(row[0]) if row else 0


def root_tables(raw: Raw, names: Collection[str]) -> dict[str, RootTable]:
    """The root tables by the names that the source gives them."""
    if not names:
        return {}
    # Once for all: dlt takes the checksum of the whole schema each time it is asked.
    schema = raw.pipeline.default_schema
    return {name: RootTable(raw, schema, name) for name in names}
