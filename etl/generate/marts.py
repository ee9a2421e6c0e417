"""Dimensions, one for each root table, and fact tables with the keys of all that they refer to."""

from __future__ import annotations

from collections.abc import Mapping

from etl.errors import ConfigError
from etl.generate.references import Hop, reach
from etl.generate.sql import (
    COLUMNS_MARK,
    LOADED_AT,
    Draft,
    describe,
    describe_column,
    identifier,
    mart_name,
    model_block,
    model_sql,
    not_null,
    staging_name,
    unique,
)
from etl.generate.staging import describe_bookkeeping, grain, is_current
from etl.raw.schemas import RawSchema, RawTable

COMMITTED_AT = "When the load package that brought the row was committed."


def dimension(schema: RawSchema, table: RawTable) -> Draft:
    """The dimension of a root table: a row for each key as it stands now.

    Without a key, a row for each raw row; with `scd2`, a row for each version.
    """
    columns = {c.name: identifier(c.name) for c in table.data} | {LOADED_AT: LOADED_AT}
    descriptions = {c.name: describe_column(table, c) for c in table.data}
    descriptions[LOADED_AT] = COMMITTED_AT
    key = table.key or ("_dlt_id",)
    if not table.key:
        columns["_dlt_id"] = "_dlt_id"
        descriptions["_dlt_id"] = "Identifier of the raw row, given by dlt."
    validity = table.validity
    if validity is not None:
        key = (*key, "valid_from_at")
        columns |= {
            "valid_from_at": identifier(validity.start),
            "valid_to_at": identifier(validity.end),
            "is_current": is_current(validity),
        }
        descriptions |= {
            "valid_from_at": describe_bookkeeping(table, validity.start),
            "valid_to_at": describe_bookkeeping(table, validity.end),
            "is_current": "Whether this version holds now.",
        }
    name = mart_name("dim", schema.source, table.name)
    story = "each version" if validity is not None else "each one as it stands now"
    if not table.key:
        story = "each row"
    block = model_block(
        name,
        kind="FULL",
        grain=key,
        tags=(schema.source, "marts", "generated"),
        description=f"{table.description.rstrip('.') or table.name.capitalize()}: {story}.",
        audits=[not_null(key), unique(key)],
    )
    source = model_sql(staging_name(schema.source, table.name))
    text = f"{block}\n\nSELECT {COLUMNS_MARK} FROM {source}{_newest(table)};"
    return Draft(text, describe(descriptions), _listed(columns))


def fact(schema: RawSchema, table: RawTable) -> Draft:
    """The fact table on a raw table: its rows, and the keys of every row that they refer to.

    Raises:
        ConfigError: two of its columns would have one name.
    """
    hops = reach(schema, table)
    staged = {h.table.name: model_sql(staging_name(schema.source, h.table.name)) for h in hops}
    steps = [
        f"{identifier(_step(t))} AS (SELECT * FROM {staged[t.name]}{_newest(t, current=True)})"
        for t in {h.table.name: h.table for h in hops}.values()
        if _newest(t, current=True)
    ]
    columns = {c.name: f"base.{identifier(c.name)}" for c in table.data}
    described = {c.name: describe_column(table, c) for c in table.data}
    for hop in hops:
        for column, text in _keys(hop).items():
            name = f"{hop.alias}__{column}"
            if name in columns:
                raise ConfigError(
                    f"fact on {table.name}: two columns would be called {name}",
                    subject=schema.source,
                )
            columns[name] = f"{identifier(hop.alias)}.{identifier(column)}"
            described[name] = text
    own = [LOADED_AT, *(c for c in grain(table) if c not in columns)]
    columns |= {c: f"base.{c}" for c in own}
    described |= dict.fromkeys(own, "Kept by dlt; part of what identifies the row.")
    described[LOADED_AT] = COMMITTED_AT
    joins = " ".join(_join(hop, staged) for hop in hops)
    base = staging_name(schema.source, table.name)
    block = model_block(
        mart_name("fact", schema.source, table.name),
        kind="FULL",
        grain=grain(table),
        tags=(schema.source, "marts", "generated"),
        description=f"Each row of {table.name} once, with the keys of all that it refers to; "
        "NULL where that is not loaded.",
        audits=[
            not_null(grain(table)),
            unique(grain(table)),
            f"same_row_count(base_model := {model_sql(base)})",
        ],
    )
    with_steps = f"WITH {', '.join(steps)} " if steps else ""
    text = f"{block}\n\n{with_steps}SELECT {COLUMNS_MARK} FROM {model_sql(base)} AS base {joins};"
    return Draft(text, describe(described), _listed(columns))


def _listed(columns: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{expression} AS {identifier(name)}" for name, expression in columns.items())


def _newest(table: RawTable, *, current: bool = False) -> str:
    """The clause that leaves one row for each key; empty when staging has no more than one."""
    if table.validity is not None:
        return f" WHERE {is_current(table.validity)}" if current else ""
    if table.disposition != "append" or not table.key or not table.is_root:
        return ""
    keys = ", ".join(identifier(c) for c in table.key)
    return (
        f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} "
        f"ORDER BY {LOADED_AT} DESC, _dlt_load_id DESC, _dlt_id DESC) = 1"
    )


def _step(table: RawTable) -> str:
    return f"newest_{table.name}"


def _join(hop: Hop, staged: Mapping[str, str]) -> str:
    place = (
        identifier(_step(hop.table)) if _newest(hop.table, current=True) else staged[hop.table.name]
    )
    left, alias = identifier(hop.left), identifier(hop.alias)
    on = " AND ".join(
        f"{left}.{identifier(a)} = {alias}.{identifier(b)}"
        for a, b in zip(hop.columns, hop.referenced, strict=True)
    )
    return f"LEFT JOIN {place} AS {alias} ON {on}"


def _keys(hop: Hop) -> dict[str, str]:
    """The columns that a joined table adds: its key and its own references."""
    table = hop.table
    keys = dict.fromkeys(table.key, f"Primary key of the row of {table.name} that is referred to.")
    refer = {c: f"Refers to {to}, by the row of {table.name}." for c, to in table.refers.items()}
    return refer | keys
