"""Keeps a value out of a column that cannot hold it: dlt would store another one, with no word."""

from __future__ import annotations

import re
from math import isfinite, isinf
from typing import TYPE_CHECKING, Any

from dlt.common.data_types import coerce_value

if TYPE_CHECKING:
    from dlt.common.data_types import TDataType

# Types of a column and of a value, where dlt 1.31 converts whatever the number is: 7 becomes true,
# 9007199254740993 loses its last digit (dlt.common.data_types.type_helpers).
_LOSSY = {("bool", "bigint"), ("bool", "double"), ("bool", "decimal"), ("double", "bigint")}
# A text that Python reads as a number need not be one: a postcode (01234), a telephone number
# (+49), a version (1_0). One that is written as JSON writes numbers is taken for it.
_NUMBER = re.compile(r"\s*-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*")


def coerce_exactly(to_type: TDataType, from_type: TDataType, value: Any) -> Any:
    """dlt's conversion, where the value stays what it was.

    Raises:
        ValueError: it does not; dlt then takes the value to a column of its own, or refuses it, as
            the schema contract says, like any other value that does not fit.
    """
    coerced = coerce_value(to_type, from_type, value)
    if (to_type, from_type) in _LOSSY:
        is_same = coerced == value
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


def find_infinite(value: dict[str, Any] | list[Any], path: str = "$") -> str:
    """Where rows from Python have an infinite number, as `$.a.b`; empty for nowhere.

    dlt writes rows as JSON, where orjson makes it null. So it does with NaN, which is what many a
    library says for no value.
    """
    named = value.items() if isinstance(value, dict) else (("", v) for v in value)
    for key, one in named:
        if isinstance(one, float):
            if isinf(one):
                return f"{path}.{key}" if key else path
        elif isinstance(one, dict | list) and (
            found := find_infinite(one, f"{path}.{key}" if key else path)
        ):
            return found
    return ""
