"""A mart's columns at PostgreSQL: their types, and each value as text, the same on both sides.

A value travels as the text that PostgreSQL itself would print. So one checksum over these texts,
taken in DuckDB before the journey and at the target after it, tells whether all arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
from duckdb.sqltypes import DuckDBPyType

from etl.errors import ConfigError
from etl.targets.publication import Publication, quote
from etl.targets.relation import Relation
from etl.targets.server import session

MAX_NAME_BYTES = 63

_TYPES = {
    "boolean": "boolean",
    "tinyint": "smallint",
    "utinyint": "smallint",
    "smallint": "smallint",
    "usmallint": "integer",
    "integer": "integer",
    "uinteger": "bigint",
    "bigint": "bigint",
    "ubigint": "numeric(20,0)",
    "hugeint": "numeric(39,0)",
    "uhugeint": "numeric(39,0)",
    "float": "real",
    "double": "double precision",
    "varchar": "text",
    "blob": "bytea",
    "uuid": "uuid",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamp_s": "timestamp",
    "timestamp_ms": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_NESTED = {"list", "array", "struct", "map"}
_BITS = {"real": ("FLOAT", "float4send", "7fc00000"),
         "double precision": ("DOUBLE", "float8send", "7ff8000000000000")}  # fmt: skip
_DATES = {"date", "timestamp", "timestamptz"}


@dataclass(frozen=True)
class Column(session.Column):
    """One column: its name and its type at the target."""

    @property
    def staged_type(self) -> str:
        """The type in the staging table: JSON stays text there, jsonb would rewrite it."""
        return "text" if self.type == "jsonb" else self.type

    @property
    def unstaged(self) -> str:
        """SQL at the target: the staged value in its final type, from alias `s`."""
        return f"s.{self.sql}::jsonb" if self.type == "jsonb" else f"s.{self.sql}"

    @property
    def sent(self) -> str:
        """SQL in DuckDB: the value as text."""
        if self.type == "bytea":
            return f"'\\x' || lower(hex({self.sql}))"
        if self.type == "jsonb":
            return f"to_json({self.sql})::VARCHAR"
        text = f"{self.sql}::VARCHAR"
        if self.type in _BITS:
            return f"CASE WHEN isnan({self.sql}) THEN 'NaN' ELSE {text} END"
        if self.type == "timestamptz":
            # The same text as that of the session's zone, which is UTC, in a fifth of the time.
            plain = f"make_timestamp(epoch_us({self.sql}))::VARCHAR || '+00'"
            text = f"CASE WHEN isfinite({self.sql}) THEN {plain} ELSE {text} END"
        if self.type in _DATES:
            # DuckDB writes the era after the date, PostgreSQL at the end.
            moved = f"regexp_replace({text}, ' \\(BC\\)(.*)$', '\\1 BC')"
            return f"CASE WHEN contains({text}, '(') THEN {moved} ELSE {text} END"
        return text

    @property
    def bits(self) -> str | None:
        """SQL in DuckDB: a float bit by bit, which its texts may not tell; None for others."""
        if self.type not in _BITS:
            return None
        kind, _, nan = _BITS[self.type]
        bits = f"lower(hex({self.sql}::{kind}::BIT::BLOB))"
        # Of the many NaN, PostgreSQL keeps one.
        return f"CASE WHEN isnan({self.sql}) THEN '{nan}' ELSE {bits} END"

    def line(self, text: str) -> str:
        """SQL in DuckDB: the value, of which `text` is the text, as a field of COPY's format."""
        if self.type in {"text", "jsonb"}:
            plain, tests = text, []
            for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
                tests.append(f"contains({plain}, {_literal(raw)})")
                text = f"replace({text}, {_literal(raw)}, '{escaped}')"
            # Asked first: four copies of every text cost more than four looks at it.
            text = f"CASE WHEN {' OR '.join(tests)} THEN {text} ELSE {plain} END"
        elif self.type == "bytea":
            text = f"'\\' || {text}"
        return f"coalesce({text}, '\\N')"

    def expected(self, text: str) -> str:
        """SQL in DuckDB: what `found` has to be, of the value's text or bits."""
        return f"coalesce({text}, '~')" if self.type in _BITS else self._delimited(text)

    @property
    def found(self) -> str:
        """SQL at the target: the staged value as text, NULL told from every text."""
        if self.type in _BITS:
            return f"coalesce(encode({_BITS[self.type][1]}({self.sql}), 'hex'), '~')"
        return self._delimited(f"{self.sql}::text")

    def _delimited(self, text: str) -> str:
        """The text as one part of a row: only free text may hold `|` or `~`, so it is counted."""
        if self.staged_type != "text":
            return f"coalesce({text}, '~')"
        return f"coalesce(length({text})::text || ':' || {text}, '~')"


def _literal(text: str) -> str:
    return f"chr({ord(text)})"


def map_columns(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> tuple[Column, ...]:
    """The columns at the target. Raises ConfigError for a name that PostgreSQL would cut."""
    described = cursor.execute(f"SELECT * FROM {mart.sql} LIMIT 0").description or []  # noqa: S608
    columns = tuple(Column(str(d[0]), _map_type(d[1])) for d in described)
    for column in columns:
        if len(column.name.encode()) > MAX_NAME_BYTES:
            raise ConfigError(
                f"column {column.name} is longer than the {MAX_NAME_BYTES} bytes of a name at "
                f"target {target}",
                subject=target,
                hint="give it a shorter name in the model",
            )
    return columns


def _map_type(kind: DuckDBPyType) -> str:
    """What has no type of its own at PostgreSQL (ENUM, INTERVAL, nanoseconds ...) goes as text."""
    if str(kind) == "JSON" or kind.id in _NESTED:
        return "jsonb"
    if kind.id == "decimal":
        return str(kind).lower().replace("decimal", "numeric")
    return _TYPES.get(kind.id, "text")


def lines_and_sums(columns: tuple[Column, ...], rows_sql: str) -> str:
    """A query in DuckDB: each row as one line of COPY's text format, and its checksum's share."""
    # Below the rest and under names of our own, so that each text is made once.
    texts = [quote(f"etl: text {i}") for i in range(len(columns))]
    bits = [quote(f"etl: bits {i}") for i in range(len(columns))]
    made = [f"{c.sent} AS {t}" for c, t in zip(columns, texts, strict=True)]
    made += [f"{c.bits} AS {b}" for c, b in zip(columns, bits, strict=True) if c.bits]
    lines = [c.line(t) for c, t in zip(columns, texts, strict=True)]
    parts = [c.expected(b if c.bits else t) for c, t, b in zip(columns, texts, bits, strict=True)]
    row = f"concat_ws('|', {', '.join(parts)})"
    return (
        # One call: a chain of || would copy the growing line for each column.
        f"SELECT concat({', chr(9), '.join(lines)}, chr(10)) AS line, "  # noqa: S608
        f"('0x' || substr(md5({row}), 1, 15))::BIGINT AS share "
        f"FROM (SELECT {', '.join(made)} FROM {rows_sql})"
    )


def found_sum(columns: Iterable[Column]) -> str:
    """SQL at the target: a row's 60-bit share of the checksum."""
    row = f"concat_ws('|', {', '.join(c.found for c in columns)})"
    return f"('x0' || substr(md5({row}), 1, 15))::bit(64)::bigint"
