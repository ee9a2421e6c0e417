"""Keeps a value out of a column that cannot hold it: dlt would store another one, with no word."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite, isinf
from typing import TYPE_CHECKING, Any

from dlt.common.data_types import coerce_value
from dlt.common.json import DECODERS, PUA_START, custom_pua_decode

if TYPE_CHECKING:
    from dlt.common.data_types import TDataType

# Types of a column and of a value, where dlt 1.31 converts whatever the number is: 7 becomes true,
# 9007199254740993 loses its last digit (dlt.common.data_types.type_helpers).
_LOSSY = {("bool", "bigint"), ("bool", "double"), ("bool", "decimal"), ("double", "bigint")}
# A text that Python reads as a number need not be one: a postcode (01234), a telephone number
# (+49), a version (1_0). One that is written as JSON writes numbers is taken for it.
_NUMBER = re.compile(r"\s*-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*")
# What is not midnight; the zone behind it says nothing of a day.
_TIME_OF_DAY = re.compile(r"^[^Z+-]*[1-9]")
# Exact types of which every value comes back from a package as it was.
_KEPT = {int, bool, type(None), Decimal, date, datetime}
# By these dlt knows, in a package, what was no text; a text may begin with one too.
_MARKS = frozenset(chr(PUA_START + n) for n in range(len(DECODERS)))


def coerce_exactly(to_type: TDataType, from_type: TDataType, value: Any) -> Any:
    """dlt's conversion, where the value stays what it was.

    Raises:
        ValueError: it does not; dlt then takes the value to a column of its own, or refuses it, as
            the schema contract says, like any other value that does not fit.
    """
    coerced = coerce_value(to_type, from_type, value)
    if (to_type, from_type) in _LOSSY:
        is_same = coerced == value
    elif to_type == "double" and from_type == "decimal":
        is_same = Decimal(repr(coerced)) == value
    elif to_type == "date" and from_type == "timestamp":
        is_same = (value.date(), value.time()) == (coerced, time())
    elif to_type == "date" and from_type == "text":
        is_same = _is_day(value, coerced)
    elif to_type == "date" and from_type in {"bigint", "double"}:
        is_same = value % 86400 == 0  # seconds since 1970
    elif from_type == "text" and to_type == "bigint":
        is_same = _NUMBER.fullmatch(value) is not None
    elif from_type == "text" and to_type == "double":
        # What is not finite is written in words, or it is a number that is too large.
        is_same = (_NUMBER.fullmatch(value) is not None) == isfinite(coerced)
    else:
        is_same = True
    if not is_same:
        raise ValueError(value)
    return coerced


def _is_day(text: str, day: date) -> bool:
    """Whether a text says this day and no time of it; dlt takes an instant for its day in UTC."""
    if "T" in text or ":" in text:
        return text.startswith(day.isoformat()) and not _TIME_OF_DAY.search(text[10:])
    return not text.isdecimal() or len(text) == 8  # 20260131, and not seconds since 1970


def find_unkept(value: Mapping[str, Any] | Sequence[Any], path: str = "$") -> tuple[str, str]:
    """A value in rows from Python that raw would hold as another one: where, as `$.a.b`, and what.

    Empty for none. dlt writes rows as JSON, where orjson makes an infinite number null. (So it does
    with NaN, which is what many a library says for no value.) Other types are texts that begin with
    a character of their own, and dlt 1.31 does not find all of them again.
    """
    named = value.items() if isinstance(value, Mapping) else (("", v) for v in value)
    for key, one in named:
        if (kind := type(one)) in _KEPT or (kind is str and one[:1] not in _MARKS):
            continue
        if kind is float and isfinite(one):
            continue
        where = f"{path}.{key}" if key else path
        if what := _unkept(one):
            return where, what
        inner: Any = one if isinstance(one, dict | list | tuple) else ()
        if is_dataclass(one):
            inner = {f.name: getattr(one, f.name) for f in fields(one)}
        if inner and (found := find_unkept(inner, where))[1]:
            return found
    return "", ""


def _unkept(one: Any) -> str:
    if isinstance(one, str):
        is_other = custom_pua_decode(str(one)) != one
        return f"a text that begins with U+{ord(one[0]):04X}, a mark of dlt's," if is_other else ""
    if isinstance(one, float):
        return "an infinite number" if isinf(one) else ""
    if isinstance(one, bytes):
        return "" if one else "bytes of length 0"
    if isinstance(one, time):
        return "a time of day with an offset" if one.tzinfo else ""
    if type(one).__name__ == "NaTType":
        return "NaT of pandas"
    return "nanoseconds" if getattr(one, "nanosecond", 0) else ""
