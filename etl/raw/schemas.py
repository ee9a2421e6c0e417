"""The schemas that dlt recorded, read without a pipeline: tables, types, keys, references."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dlt.common.schema import Schema
from dlt.common.schema.utils import is_complete_column

from etl.errors import ConfigError
from etl.raw.column_types import duckdb_type
from etl.settings import Settings, dataset_name
from etl.warehouse import connect, exists, quoted

# dlt keeps hints that start with x- as they are. It has none of its own for accepted values, and
# its `references` hold one reference to each table.
ACCEPTED = "x-accepted-values"
REFERENCES = "x-references"
Disposition = Literal["append", "merge", "scd2", "replace"]


@dataclass(frozen=True)
class RawColumn:
    """One column of a raw table; `type` is the warehouse's own."""

    name: str
    type: str
    nullable: bool = True
    description: str = ""
    is_key: bool = False
    is_unique: bool = False
    is_hard_delete: bool = False
    is_validity: bool = False
    accepted: tuple[Any, ...] = ()

    @property
    def is_bookkeeping(self) -> bool:
        """True for a column that dlt adds."""
        return self.name.startswith("_dlt") or self.is_validity


@dataclass(frozen=True)
class Reference:
    """Columns of a table that hold the key of a row of another table."""

    columns: tuple[str, ...]
    table: str
    referenced: tuple[str, ...]


@dataclass(frozen=True)
class Validity:
    """The columns of a scd2 table that tell when a version held.

    `active` is what `end` holds in the version that holds now; None: NULL.
    """

    start: str
    end: str
    active: str | None


@dataclass(frozen=True)
class RawTable:
    """One raw table with what its rows hang on.

    `disposition` is the root table's: nested tables share its fate. `chain` are the tables from the
    parent up to the root; empty for a root.
    """

    name: str
    disposition: Disposition
    columns: tuple[RawColumn, ...]
    chain: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    validity: Validity | None = None
    description: str = ""

    @property
    def is_root(self) -> bool:
        """True for a table of a resource, False for one of a nested list."""
        return not self.chain

    @property
    def data(self) -> tuple[RawColumn, ...]:
        """The columns that the source sent: the key, then by name.

        dlt keeps the order in which columns first held a value, which depends on the data.
        """
        sent = (c for c in self.columns if not c.is_bookkeeping)
        return tuple(sorted(sent, key=lambda c: "" if c.is_key else c.name))

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key; empty without one."""
        return tuple(c.name for c in self.columns if c.is_key)

    @property
    def refers(self) -> dict[str, str]:
        """Columns that refer to another table, each with the `table.column` that it refers to."""
        return {
            c: f"{r.table}.{other}"
            for r in self.references
            for c, other in zip(r.columns, r.referenced, strict=False)
        }

    def has(self, column: str) -> bool:
        """True when the table has the column."""
        return any(c.name == column for c in self.columns)


@dataclass(frozen=True)
class RawSchema:
    """All raw tables of a source, and those that dlt knows by name only (no row came yet)."""

    source: str
    tables: tuple[RawTable, ...]
    declared: frozenset[str] = frozenset()

    @property
    def dataset(self) -> str:
        """The schema of the raw tables in the warehouse."""
        return dataset_name(self.source)

    def table(self, name: str) -> RawTable | None:
        """A table by name, None for one without columns."""
        return next((t for t in self.tables if t.name == name), None)


def read_schema(settings: Settings, source: str) -> RawSchema | None:
    """What dlt recorded of a source; None before its first extraction.

    dlt's working directory is asked first; when it was lost, the copy in the warehouse.
    """
    stored = _from_files(settings, source) or _from_warehouse(settings, source)
    if not stored:
        return None
    tables: dict[str, RawTable] = {}
    declared: set[str] = set()
    for one in stored:
        schema = Schema.from_stored_schema(one)
        for table in _tables(schema):
            tables[table.name] = table
        declared |= {n for n in schema.tables if not n.startswith("_dlt")}
    return RawSchema(
        source,
        tuple(tables[n] for n in sorted(tables)),
        frozenset(declared - tables.keys()),
    )


def _from_files(settings: Settings, source: str) -> list[Any]:
    folder = settings.dlt_dir / source / "schemas"
    found = []
    for path in sorted(folder.glob("*.schema.json")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as e:
            raise ConfigError(
                f"{path}: is no schema of dlt: {type(e).__name__}",
                subject=source,
                hint=f"remove {folder.parent}; the next run reads the schema from the warehouse",
            ) from e
    return found


def _from_warehouse(settings: Settings, source: str) -> list[Any]:
    if not settings.warehouse.exists():
        return []
    dataset = dataset_name(source)
    with connect(settings.warehouse, read_only=True) as connection:
        if not exists(connection, dataset, "_dlt_version"):
            return []
        rows = connection.execute(
            f"SELECT schema FROM {quoted(dataset, '_dlt_version')} "  # noqa: S608
            "QUALIFY row_number() OVER (PARTITION BY schema_name ORDER BY inserted_at DESC) = 1"
        ).fetchall()
    return [json.loads(r[0]) for r in rows]


def _tables(schema: Schema) -> Iterable[RawTable]:
    for name, table in schema.tables.items():
        if name.startswith("_dlt"):
            continue
        columns = tuple(
            _column(c, duckdb_type(c, name))
            for c in table.get("columns", {}).values()
            if is_complete_column(c)
        )
        # A nested table exists with its first row only; a table of our own columns holds nothing.
        if not any(c.name == "_dlt_id" for c in columns):
            continue
        chain = parents_of(schema.tables, name)
        disposition = _disposition(schema.tables[chain[-1] if chain else name])
        # A table that kept versions once has the columns still, and nothing fills them.
        validity = _validity(table["columns"].values()) if disposition == "scd2" else None
        yield RawTable(
            name=name,
            disposition=disposition,
            columns=columns,
            chain=chain,
            references=_references(table),
            validity=validity,
            description=str(table.get("description") or ""),
        )  # fmt: skip


def _column(column: Mapping[str, Any], kind: str) -> RawColumn:
    return RawColumn(
        name=str(column["name"]),
        type=kind,
        nullable=bool(column.get("nullable", True)),
        description=str(column.get("description") or ""),
        is_key=bool(column.get("primary_key")),
        is_unique=bool(column.get("unique")),
        is_hard_delete=bool(column.get("hard_delete")),
        is_validity=bool(column.get("x-valid-from") or column.get("x-valid-to")),
        accepted=tuple(column.get(ACCEPTED) or ()),
    )


def _references(table: Mapping[str, Any]) -> tuple[Reference, ...]:
    found = [
        Reference(
            _listed(r["columns"]), str(r["referenced_table"]), _listed(r["referenced_columns"])
        )
        for r in table.get("references") or ()
    ]
    for name, column in table["columns"].items():
        if not (written := str(column.get(REFERENCES) or "")):
            continue
        other, _, key = written.partition(".")
        if (one := Reference((name,), other, (key,) if key else ())) not in found:
            found.append(one)
    return tuple(found)


def _validity(columns: Iterable[Mapping[str, Any]]) -> Validity | None:
    start = next((c["name"] for c in columns if c.get("x-valid-from")), None)
    end = next((c for c in columns if c.get("x-valid-to")), None)
    if start is None or end is None:
        return None
    active = end.get("x-active-record-timestamp")
    return Validity(str(start), str(end["name"]), None if active is None else str(active))


def parents_of(tables: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The tables that one is nested in, of dlt's schema: its parent first, the root last."""
    chain: list[str] = []
    while (parent := tables[chain[-1] if chain else name].get("parent")) is not None:
        chain.append(str(parent))
    return tuple(chain)


def _disposition(root: Mapping[str, Any]) -> Disposition:
    """What becomes of the table's rows, which is not always what is written there.

    A merge without any key appends: dlt says so in a warning, and nowhere else.
    """
    written = root.get("write_disposition")
    if written != "merge":
        return "replace" if written == "replace" else "append"
    if root.get("x-merge-strategy") == "scd2":
        return "scd2"
    keyed = any(c.get("primary_key") or c.get("merge_key") for c in root["columns"].values())
    return "merge" if keyed else "append"


def _listed(value: Any) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str) else tuple(str(v) for v in value)
