"""One staging model for each raw table, right for its write disposition (docs/adr/0009).

append    incremental by the commit time of the load package
merge     incremental by unique key; rows that left raw are deleted
scd2      full, every version as dlt keeps it
replace   full
Nested tables share the fate of their root, up the chain of parents.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl.errors import ConfigError
from etl.generate.sql import (
    COLUMNS_MARK,
    COMMITTED,
    LOADED_AT,
    Draft,
    describe,
    describe_column,
    identifier,
    listing,
    literal,
    model_block,
    model_sql,
    not_null,
    relationship,
    sql_type,
    staging_name,
    unique,
)
from etl.raw.schemas import RawSchema, RawTable, Validity

# File names end at 255 bytes; in SQLMesh's cache up to 100 stand around the name.
LONGEST_NAME = 150
DESCRIPTIONS = {
    LOADED_AT: "When the row's load package was committed.",
    "_dlt_load_id": "The load package that brought the row.",
    "_dlt_id": "Identifier of the raw row, given by dlt.",
    "_dlt_parent_id": "_dlt_id of the row that the list belongs to.",
    "_dlt_root_id": "_dlt_id of the row of the root table.",
    "_dlt_list_idx": "Position in the list, from 0.",
}
STORIES = {
    "append": "one row for each row that a committed load package brought, nothing removed",
    "merge": "the newest version of each row, rows that the source deleted left out",
    "scd2": "every version of each row, with the time that it held",
    "replace": "what the newest committed load package brought, nothing older",
}


def staging_model(schema: RawSchema, table: RawTable) -> Draft:
    """The staging model of a raw table.

    Raises:
        ConfigError: the table's name is too long, or a column has the name of one that is added.
    """
    name = staging_name(schema.source, table.name)
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{schema.dataset}.{table.name}: {name} would have {len(name)} characters; SQLMesh, "
            f"which names files by its models, takes {LONGEST_NAME}",
            subject=schema.source,
            hint="rename the field (`processing_steps`: docs/configuration.md), or keep the list "
            "as JSON (max_table_nesting) in the source's configuration",
        )
    if table.has(LOADED_AT):
        raise ConfigError(
            f"{schema.dataset}.{table.name}.{LOADED_AT}: staging models add a column of this name",
            subject=schema.source,
            hint="rename the field by `processing_steps` of the resource: docs/configuration.md",
        )
    descriptions = {c.name: describe_column(table, c) for c in table.data}
    descriptions |= {c: describe_bookkeeping(table, c) for c in _bookkeeping(table)}
    parts = [_block(schema, table), _query(schema, table) + ";", *_deletion(schema, table)]
    return Draft("\n\n".join(parts), describe(descriptions), _columns(table))


def grain(table: RawTable) -> tuple[str, ...]:
    """The columns that identify a row of the staging model."""
    if table.validity is not None:
        return ("_dlt_id", table.validity.start)
    keyed = table.is_root and table.disposition in ("merge", "replace")
    return table.key if keyed and table.key else ("_dlt_id",)


def parent_of(table: RawTable) -> str | None:
    """The raw table of the row that a nested row belongs to."""
    return table.chain[0] if table.chain else None


def describe_bookkeeping(table: RawTable, column: str) -> str:
    """What a column is for that dlt or the staging model adds."""
    if table.validity and column == table.validity.start:
        return "From when on this version holds."
    if table.validity and column == table.validity.end:
        return f"Until when this version held; {table.validity.active or 'NULL'} while it holds."
    return DESCRIPTIONS.get(column, "Kept by dlt.")


def is_current(validity: Validity) -> str:
    """The condition that a version holds now."""
    if validity.active is None:
        return f"{identifier(validity.end)} IS NULL"
    return f"{identifier(validity.end)} = {literal(validity.active)}::TIMESTAMPTZ"


def _kind(table: RawTable) -> str:
    if table.disposition == "append":
        return f"INCREMENTAL_BY_TIME_RANGE (time_column {LOADED_AT})"
    if table.disposition == "merge":
        return f"INCREMENTAL_BY_UNIQUE_KEY (unique_key {listing(grain(table))})"
    return "FULL"


def _block(schema: RawSchema, table: RawTable) -> str:
    filled = [c.name for c in table.data if not c.nullable or c.is_key]
    kept = [c for c in _bookkeeping(table) if not table.validity or c != table.validity.end]
    audits = [not_null([*filled, *kept]), unique(grain(table))]
    own = tuple(c.name for c in table.data if c.is_unique and (c.name,) != grain(table))
    if own and table.disposition in ("merge", "replace"):
        audits.append(f"unique_values(columns := {listing(own)})")
    for column in table.data:
        if column.accepted:
            values = ", ".join(literal(v) for v in column.accepted)
            audits.append(
                f'accepted_values("column" := {identifier(column.name)}, is_in := ({values}))'
            )
    depends: list[str] = []
    if (parent := parent_of(table)) is not None:
        depends.append(staging_name(schema.source, parent))
        audits.append(relationship(("_dlt_parent_id",), depends[0], ("_dlt_id",), blocking=True))
    for reference in table.references:
        other = schema.table(reference.table)
        if other is None:
            continue  # no row of it came yet
        model = staging_name(schema.source, other.name)
        if other.name != table.name:
            depends.append(model)
        # Rows may arrive before what they refer to: that is worth a warning, not a night's data.
        audits.append(relationship(reference.columns, model, reference.referenced, blocking=False))
    return model_block(
        staging_name(schema.source, table.name),
        kind=_kind(table),
        grain=grain(table),
        tags=(schema.source, "staging", "generated"),
        description=_describe(schema, table),
        audits=audits,
        depends_on=sorted(set(depends)),
        references=[*(["_dlt_parent_id"] if table.chain else []), *table.refers],
    )


def _describe(schema: RawSchema, table: RawTable) -> str:
    said = table.description.rstrip(".") or f"{table.name} of {schema.source}"
    return f"{said}: {STORIES[table.disposition]}."


def _bookkeeping(table: RawTable) -> list[str]:
    """The columns that follow the data: ours, then dlt's, the row's own identifier last."""
    kept = [c.name for c in table.columns
            if c.is_bookkeeping and (table.validity or not c.is_validity)]  # fmt: skip
    rest = sorted(c for c in kept if c not in ("_dlt_load_id", "_dlt_id"))
    return [LOADED_AT, "_dlt_load_id", *rest, "_dlt_id"]


def _columns(table: RawTable) -> tuple[str, ...]:
    types = {c.name: sql_type(c.type) for c in table.columns}
    places = {
        LOADED_AT: "packages.inserted_at::TIMESTAMPTZ",
        "_dlt_load_id": f"{_root(table)}._dlt_load_id::TEXT",
    }
    names = [*(c.name for c in table.data), *_bookkeeping(table)]
    return tuple(
        f"{places.get(n) or f'raw.{identifier(n)}::{types[n]}'} AS {identifier(n)}" for n in names
    )


def _query(schema: RawSchema, table: RawTable) -> str:
    joins, root = _joins(schema, table), _root(table)
    # A package that was resumed after a crash can be recorded twice: its first commit counts.
    committed = (
        f"{COMMITTED} AS (SELECT load_id, MIN(inserted_at) AS inserted_at "
        f"FROM {_raw(schema, '_dlt_loads')} WHERE status = 0 GROUP BY load_id)"
    )
    steps = [committed]
    if table.chain and table.disposition == "scd2":
        # A row that returns to an earlier state has two versions with one identifier.
        steps.append(
            "roots AS (SELECT _dlt_id, MAX(_dlt_load_id) AS _dlt_load_id "
            f"FROM {_raw(schema, table.chain[-1])} GROUP BY _dlt_id)"
        )
    incremental = table.disposition in ("append", "merge")
    return (
        f"WITH {', '.join(steps)} SELECT {COLUMNS_MARK} "
        f"FROM {_raw(schema, table.name)} AS raw {' '.join(joins)} "
        f"INNER JOIN {COMMITTED} AS packages ON {root}._dlt_load_id = packages.load_id"
        + (" WHERE packages.inserted_at BETWEEN @start_tstz AND @end_tstz" if incremental else "")
    )


def _root(table: RawTable) -> str:
    """The alias of the root's rows in the query."""
    return "root" if table.chain else "raw"


def _joins(schema: RawSchema, table: RawTable) -> list[str]:
    """From a nested table to its root."""
    if not table.chain:
        return []
    root = "roots" if table.disposition == "scd2" else _raw(schema, table.chain[-1])
    if table.has("_dlt_root_id"):
        return [f"INNER JOIN {root} AS root ON raw._dlt_root_id = root._dlt_id"]
    joins, below = [], "raw"
    for level, parent in enumerate(table.chain, start=1):
        last = level == len(table.chain)
        alias = "root" if last else f"parent_{level}"
        place = root if last else _raw(schema, parent)
        joins.append(f"INNER JOIN {place} AS {alias} ON {below}._dlt_parent_id = {alias}._dlt_id")
        below = alias
    return joins


def _deletion(schema: RawSchema, table: RawTable) -> Sequence[str]:
    """After a merge, what raw no longer holds goes: deleted rows, old versions, their lists."""
    if table.disposition != "merge":
        return ()
    gone = f"NOT _dlt_id IN (SELECT _dlt_id FROM {_raw(schema, table.name)})"
    return (f"@IF(@runtime_stage = 'evaluating', DELETE FROM @this_model WHERE {gone});",)


def _raw(schema: RawSchema, table: str) -> str:
    return model_sql(f"{schema.dataset}.{table}")
