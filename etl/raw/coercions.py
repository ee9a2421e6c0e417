"""Keeps a number out of a column that cannot hold it: dlt would store another value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.common.data_types import coerce_value

if TYPE_CHECKING:
    from dlt.common.data_types import TDataType

# Types of a column and of a value, where dlt 1.31 converts whatever the number is: 7 becomes true,
# 9007199254740993 loses its last digit (dlt.common.data_types.type_helpers).
_LOSSY = {("bool", "bigint"), ("bool", "double"), ("bool", "decimal"), ("double", "bigint")}


def coerce_exactly(to_type: TDataType, from_type: TDataType, value: Any) -> Any:
    """dlt's conversion, where the number stays what it was.

    Raises:
        ValueError: it does not; dlt then takes the value to a column of its own, or refuses it, as
            the schema contract says, like any other value that does not fit.
    """
    coerced = coerce_value(to_type, from_type, value)
    if (to_type, from_type) in _LOSSY and coerced != value:
        raise ValueError(value)
    return coerced
