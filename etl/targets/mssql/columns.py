"""A mart's columns at SQL Server: their types, how values travel, and which values it has not.

A value travels as text, which the server turns into its type itself; binary ones and floats travel
as they are. One checksum over what was sent is taken on both sides before that happens.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb
from duckdb.sqltypes import DuckDBPyType

from etl.errors import ConfigError
from etl.targets.publication import Publication
from etl.targets.relation import Relation, read_types
from etl.targets.server import session
from etl.warehouse import quoted

MAX_NAME_LENGTH = 128
# A clustered key has at most 900 bytes.
KEY_CHARACTERS = 450
KEY_BYTES = 900
# The longest text that is not `max`, in UTF-16 units; longer ones are sent in pieces.
LONGEST = 4000
_CONCAT = 100

_TYPES = {
    "boolean": "bit",
    "tinyint": "smallint",
    "utinyint": "tinyint",
    "smallint": "smallint",
    "usmallint": "int",
    "integer": "int",
    "uinteger": "bigint",
    "bigint": "bigint",
    "ubigint": "decimal(20,0)",
    "hugeint": "decimal(38,0)",
    "uhugeint": "decimal(38,0)",
    "float": "real",
    "double": "float",
    "blob": "varbinary(max)",
    "uuid": "uniqueidentifier",
    "date": "date",
    "time": "time(6)",
    "timestamp": "datetime2(6)",
    "timestamp_s": "datetime2(6)",
    "timestamp_ms": "datetime2(6)",
    "timestamp with time zone": "datetimeoffset(6)",
}
_NESTED = {"list", "array", "struct", "map"}
_FLOATS = {"real": (">f", "binary(4)", 1.1754943508222875e-38),
           "float": (">d", "binary(8)", 2.2250738585072014e-308)}  # fmt: skip
_TIMES = {"date": "DATE", "datetime2(6)": "TIMESTAMP", "datetimeoffset(6)": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class Column(session.Column):
    """One column; `is_nested` when the mart has more than a text in it, which goes as JSON."""

    is_nested: bool = False
    is_key: bool = False

    @property
    def is_text(self) -> bool:
        """True for characters of any length."""
        return self.type.startswith("nvarchar")

    @property
    def is_binary(self) -> bool:
        """True for bytes."""
        return self.type.startswith("varbinary")

    @property
    def is_float(self) -> bool:
        """True for floats of either size."""
        return self.type in _FLOATS

    @property
    def sent_type(self) -> str:
        """The type in which values arrive."""
        if self.is_float:
            return self.type
        return "varbinary(max)" if self.is_binary else "nvarchar(max) COLLATE DATABASE_DEFAULT"

    @property
    def typed(self) -> str:
        """SQL at the target: what arrived, in its type and under its name."""
        if self.is_float:
            return self.sql
        return f"CAST({self.sql} AS {self.type}) AS {self.sql}"

    @property
    def declared(self) -> str:
        """The column in CREATE TABLE."""
        return f"{self.sql} {self.type} {'NOT NULL' if self.is_key else 'NULL'}"

    @property
    def sent(self) -> str:
        """SQL in DuckDB: the value as it travels."""
        if self.is_binary:
            return self.sql
        if self.is_float:
            # The negative zero is no value of its own at every server.
            return f"{self.sql} + 0"
        if self.is_nested:
            return f"to_json({self.sql})::VARCHAR"
        if self.type == "bit":
            return f"{self.sql}::TINYINT::VARCHAR"
        if self.type == "datetimeoffset(6)":
            return f"({self.sql} AT TIME ZONE 'UTC')::VARCHAR || ' +00:00'"
        return f"{self.sql}::VARCHAR"

    @property
    def refused(self) -> str | None:
        """SQL in DuckDB: the target has no such value; None when it has them all."""
        name = self.sql
        if self.is_float:
            least = _FLOATS[self.type][2]
            return f"NOT isfinite({name}) OR ({name} <> 0 AND abs({name}) < {least!r})"
        if self.type in _TIMES:
            kind = _TIMES[self.type]
            zone = " 00:00:00+00" if kind == "TIMESTAMPTZ" else ""
            first, end = f"{kind} '0001-01-01{zone}'", f"{kind} '10000-01-01{zone}'"
            return f"{name} < {first} OR {name} >= {end}"
        if self.type == "time(6)":
            return f"{name} >= TIME '24:00:00'"
        if self.type == "decimal(38,0)":
            return f"length(ltrim({name}::VARCHAR, '-')) > 38"
        if self.is_key and self.is_text:
            # In UTF-16 units, of which characters beyond the first plane take two.
            beyond = f"regexp_replace({name}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g')"
            return (
                f"strlen({name}) > {KEY_CHARACTERS} AND "
                f"length({name}) + length({beyond}) > {KEY_CHARACTERS}"
            )
        if self.is_key and self.is_binary:
            return f"octet_length({name}) > {KEY_BYTES}"
        return None

    def part(self, value: Any) -> str:
        """A value that was sent, as its part of a row's checksum."""
        if value is None:
            return "~"
        if self.is_float:
            return struct.pack(_FLOATS[self.type][0], value).hex().upper()
        if self.is_binary:
            return bytes(value).hex().upper()
        return f"{len(value.encode('utf-16-le'))}:{value}"

    @property
    def found(self) -> str:
        """SQL at the target: the same of a value that arrived."""
        if self.is_float:
            text = f"CONVERT(nvarchar(max), CAST({self.sql} AS {_FLOATS[self.type][1]}), 2)"
        elif self.is_binary:
            text = f"CONVERT(nvarchar(max), {self.sql}, 2)"
        else:
            text = f"CAST(DATALENGTH({self.sql}) AS nvarchar(20)) + N':' + {self.sql}"
        return f"COALESCE({text}, N'~')"


def map_columns(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> tuple[Column, ...]:
    """The columns at the target. Raises ConfigError for a name that SQL Server does not take."""
    # A text of any length cannot be part of a key.
    short = {n for names in (publication.key, *publication.indexes) for n in names}
    columns = tuple(
        _map(name, kind, is_short=name in short, is_key=name in publication.key)
        for name, kind in read_types(cursor, mart.sql)
    )
    for column in columns:
        if len(column.name.encode("utf-16-le")) // 2 > MAX_NAME_LENGTH:
            raise ConfigError(
                f"column {column.name} is longer than the {MAX_NAME_LENGTH} characters of a name "
                f"at target {target}",
                subject=target,
                hint="give it a shorter name in the model",
            )
    return columns


def _map(name: str, kind: DuckDBPyType, *, is_short: bool, is_key: bool) -> Column:
    """What has no type of its own at SQL Server (ENUM, INTERVAL, JSON ...) goes as text."""
    nested = str(kind) == "JSON" or kind.id in _NESTED
    if kind.id == "decimal":
        mapped = str(kind).lower()
    else:
        mapped = "nvarchar(max)" if nested else _TYPES.get(kind.id, "nvarchar(max)")
    if is_short:
        mapped = {"nvarchar(max)": f"nvarchar({KEY_CHARACTERS})",
                  "varbinary(max)": f"varbinary({KEY_BYTES})"}.get(mapped, mapped)  # fmt: skip
    return Column(name, mapped, is_nested=nested, is_key=is_key)


def select_refused(columns: Iterable[Column], rows_sql: str, key: tuple[str, ...]) -> str | None:
    """SQL in DuckDB: one row that has a value which the target has not, by column and key.

    Its columns are the number of such a column, the value, and the key; None when none can be.
    """
    tests = [(i, c, c.refused) for i, c in enumerate(columns) if c.refused]
    if not tests:
        return None
    which = " ".join(f"WHEN {test} THEN {i}" for i, _, test in tests)
    values = " ".join(f"WHEN {i} THEN {c.sql}::VARCHAR" for i, c, _ in tests)
    keys = "".join(f", {quoted(k)}::VARCHAR" for k in key)
    return (
        f"SELECT w, CASE w {values} END{keys} FROM "
        f"(SELECT CASE {which} END AS w, r.* FROM {rows_sql} AS r) AS r WHERE w IS NOT NULL LIMIT 1"
    )


def share(columns: tuple[Column, ...], row: Iterable[Any]) -> int:
    """A row's 56-bit share of the checksum of what is sent."""
    parts = "|".join(c.part(v) for c, v in zip(columns, row, strict=True))
    digest = hashlib.md5(parts.encode("utf-16-le"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:7], "big")


def found_share(columns: tuple[Column, ...]) -> str:
    """SQL at the target: the same of a row that arrived."""
    parts = [c.found for c in columns]
    # One function takes 254 arguments at most, a table has up to 1024 columns.
    chunks = [parts[i : i + _CONCAT] for i in range(0, len(parts), _CONCAT)]
    texts = [
        f"CONCAT(CAST(N'' AS nvarchar(max)), {f', N{_BAR}, '.join(chunk)})" for chunk in chunks
    ]
    row = f" + N{_BAR} + ".join(texts)
    return f"CAST(CAST(SUBSTRING(HASHBYTES('MD5', {row}), 1, 7) AS bigint) AS decimal(38,0))"


_BAR = "'|'"
