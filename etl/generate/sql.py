"""The pieces that every generated model is written from: names, literals, the MODEL block."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
from sqlglot import exp

from etl.raw.schemas import RawColumn, RawTable
from etl.warehouse import literal as text_literal
from etl.warehouse import quoted

PLAIN = re.compile(r"^[a-z_][a-z0-9_]*$")
# Keywords that are plain names everywhere: in DuckDB, in SQLGlot and in SQLMesh's MODEL block.
SAFE = frozenset(
    {"comment", "content", "data", "day", "domain", "error", "event", "key", "label", "language"}
    | {"level", "location", "mode", "month", "name", "names", "object", "owner", "position", "role"}
    | {"source", "status", "text", "type", "user", "value", "version", "year"}
)
LOADED_AT = "_loaded_at"
COMMITTED = "committed_packages"
# What stands for a long list in a draft: one item, which the formatter leaves on a line of its own.
DESCRIPTIONS_MARK = "\"<descriptions>\" = ''"
COLUMNS_MARK = 'NULL AS "<columns>"'


@dataclass(frozen=True)
class Draft:
    """A model before it is formatted; its two long lists, already as the formatter leaves them.

    An item a line: true of lists wider than 80 characters, which those of every model are.
    Parsing and formatting a text costs as much as all else together, and most of a model's text is
    these lists.
    """

    text: str
    descriptions: tuple[str, ...]
    columns: tuple[str, ...]

    def fill(self, formatted: str) -> str:
        """The lists put in their places in the formatted text."""
        lists = {DESCRIPTIONS_MARK: self.descriptions, COLUMNS_MARK: self.columns}
        out = []
        for line in formatted.split("\n"):
            mark = line.lstrip()
            indent = line[: len(line) - len(mark)]
            items = lists.get(mark)
            out.append(line if items is None else ",\n".join(indent + item for item in items))
        return "\n".join(out)


@cache
def _keywords() -> frozenset[str]:
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    return frozenset(str(r[0]) for r in rows) - SAFE


def identifier(name: str) -> str:
    """A name as SQL; quoted when it is a keyword or needs it."""
    if PLAIN.match(name) and name not in _keywords():
        return name
    return quoted(name)


def literal(value: Any) -> str:
    """A value as SQL."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return str(value)
    return text_literal(str(value))


@cache
def sql_type(kind: str) -> str:
    """A type of the warehouse as the formatter writes it."""
    return exp.DataType.build(kind, dialect="duckdb").sql(dialect="duckdb")


def listing(names: Sequence[str]) -> str:
    """Names in parentheses."""
    return "(" + ", ".join(identifier(n) for n in names) + ")"


def one_or_list(names: Sequence[str]) -> str:
    """A single name as it is, several in parentheses."""
    return identifier(names[0]) if len(names) == 1 else listing(names)


def staging_name(source: str, table: str) -> str:
    """The staging model of a raw table."""
    return f"staging.stg_{source}__{table}"


def mart_name(kind: str, source: str, table: str) -> str:
    """The generated mart of a raw table; `kind` is dim or fact."""
    return f"marts.{kind}_{source}__{table}"


def model_sql(name: str) -> str:
    """A model's name as SQL."""
    return ".".join(identifier(part) for part in name.split("."))


def model_block(
    name: str,
    *,
    kind: str,
    grain: Sequence[str],
    tags: Sequence[str],
    description: str,
    audits: Sequence[str],
    depends_on: Sequence[str] = (),
    references: Sequence[str] = (),
) -> str:
    """The MODEL block; a mark stands for the columns' descriptions, `audits` are ready calls."""
    parts = [f"name {model_sql(name)}", f"kind {kind}", "cron '@daily'", "allow_partials TRUE"]
    if depends_on:
        parts.append(f"depends_on ({', '.join(model_sql(d) for d in depends_on)})")
    parts.append(f"grain {one_or_list(grain)}")
    if references:
        parts.append(f"references {one_or_list(references)}")
    parts.append(f"tags ({', '.join(literal(t) for t in tags)})")
    parts.append(f"description {literal(description)}")
    parts.append(f"column_descriptions ({DESCRIPTIONS_MARK})")
    parts.append(f"audits ({', '.join(audits)})")
    return f"MODEL ({', '.join(parts)});"


def describe(columns: Mapping[str, str]) -> tuple[str, ...]:
    """The columns' descriptions, an item of `column_descriptions` each."""
    return tuple(f"{identifier(c)} = {literal(d)}" for c, d in columns.items())


def not_null(columns: Sequence[str]) -> str:
    """The audit that these columns hold values."""
    return f"not_null(columns := {listing(columns)})"


def unique(columns: Sequence[str]) -> str:
    """The audit that these columns together identify a row."""
    return f"unique_combination_of_columns(columns := {listing(columns)})"


def relationship(
    columns: Sequence[str], parent: str, parent_columns: Sequence[str], *, blocking: bool
) -> str:
    """The audit that the columns' values are found in the parent model."""
    return (
        f"relationship(columns := {listing(columns)}, parent_model := {model_sql(parent)}, "
        f"parent_columns := {listing(parent_columns)}, blocking := {literal(blocking)})"
    )


def describe_column(table: RawTable, column: RawColumn) -> str:
    """What the source says of the column, else what its schema tells."""
    if column.description:
        return column.description
    path = column.name.replace("__", " → ")
    said = f"{path} of each row of {table.name}" + (", JSON" if column.type == "JSON" else "")
    variant = re.match(r"^(.+)__v_(\w+)$", column.name)
    if variant and table.has(variant[1]):
        said = f"values of {variant[1]} that came as {variant[2]}, not in its own type"
    if column.is_key:
        said += "; part of the primary key" if len(table.key) > 1 else "; the primary key"
    if column.name in table.refers:
        said += f"; refers to {table.refers[column.name]}"
    if column.is_hard_delete:
        said += "; marks a row that the source deleted"
    return said + "; as the source sends it."
