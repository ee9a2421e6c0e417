"""Columns of values as PostgreSQL's binary format writes them: the fields of many rows at once.

Each type's format is that of its `recv` and `send` functions at the server, which are part of the
protocol between clients and servers and the same in every version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.targets.postgres.columns import Column

Numbers: TypeAlias = npt.NDArray[Any]

# From 1970, where DuckDB counts from, to 2000, where PostgreSQL does.
_EPOCH_DAYS = 10_957
_EPOCH_MICROSECONDS = _EPOCH_DAYS * 86_400_000_000
# `numeric` is written in digits of base 10,000.
_DIGIT, _DIGIT_PLACES = 10_000, 4
_NEGATIVE = 0x4000


@dataclass(frozen=True)
class Fixed:
    """A field of one size in every row: the values, most significant byte first."""

    values: Numbers


@dataclass(frozen=True)
class Variable:
    """A field of any size: each value's bytes, and how many these are; -1 for NULL."""

    values: pa.LargeBinaryArray
    lengths: Numbers


def write_fields(column: Column, values: pa.Array) -> Fixed | Variable:
    """The values of one column, as its type is written."""
    kind = column.staged_type.partition("(")[0]
    if kind == "numeric":
        return _write_numeric(column, values)
    if kind not in _FIXED:
        return _write_bytes(values)
    fixed = _FIXED[kind](values)
    return _with_nulls(fixed, values) if values.null_count else Fixed(fixed)


def read_type_number(column: Column) -> int:
    """The number (OID) of a staged column's type, the same at every server."""
    return _NUMBERS[column.staged_type.partition("(")[0]]


def from_bytes(data: Numbers, offsets: Numbers) -> pa.LargeBinaryArray:
    """Binary values that stand one after the other in memory; nothing is copied."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _write_bytes(values: pa.Array) -> Variable:
    found = values.cast(pa.large_binary())
    return Variable(found, _numbers(pc.fill_null(pc.binary_length(found), -1)))


def _with_nulls(fixed: Numbers, values: pa.Array) -> Variable:
    """A field that some rows have no bytes for."""
    present = _numbers(values.is_valid())
    lengths = np.where(present, fixed.itemsize, 0)
    data = np.ascontiguousarray(fixed[present])
    return Variable(from_bytes(data, _offsets(lengths)), np.where(present, fixed.itemsize, -1))


def _numbers(values: pa.Array) -> Numbers:
    found: Numbers = values.to_numpy(zero_copy_only=False)
    return found


def _offsets(lengths: Numbers) -> Numbers:
    return np.concatenate(([0], np.cumsum(lengths)))


def _plain(stored: str, written: str) -> Callable[[pa.Array], Numbers]:
    """Numbers as they are, in the server's order of bytes; `stored` is Arrow's type of them."""

    def write(values: pa.Array) -> Numbers:
        return _stored(values, stored).astype(written)

    return write


def _stored(values: pa.Array, stored: str) -> Numbers:
    found = values.view(stored) if pa.types.is_temporal(values.type) else values.cast(stored)
    # Filled first: with a NULL among them numbers would become floats.
    return _numbers(found.fill_null(0) if found.null_count else found)


def _float(stored: str, written: str) -> Callable[[pa.Array], Numbers]:
    def write(values: pa.Array) -> Numbers:
        found = _stored(values, stored)
        # Of the many NaN, PostgreSQL writes one.
        return np.where(np.isnan(found), np.nan, found).astype(written)

    return write


def _since_2000(stored: str, written: str, epoch: int) -> Callable[[pa.Array], Numbers]:
    """Dates and times; DuckDB's `-infinity` is one above the least number, PostgreSQL's is it."""

    def write(values: pa.Array) -> Numbers:
        found = _stored(values, stored)
        least, most = np.iinfo(stored).min, np.iinfo(stored).max
        # What PostgreSQL cannot hold stays out of its range: it shall refuse it, not wrap round.
        moved = np.maximum(found, least + epoch + 1) - np.array(epoch, stored)
        moved = np.where(found == least + 1, least, moved)
        return np.where(found == most, most, moved).astype(written)

    return write


_FIXED: dict[str, Callable[[pa.Array], Numbers]] = {
    "boolean": _plain("uint8", ">u1"),
    "smallint": _plain("int16", ">i2"),
    "integer": _plain("int32", ">i4"),
    "bigint": _plain("int64", ">i8"),
    "real": _float("float32", ">f4"),
    "double precision": _float("float64", ">f8"),
    "date": _since_2000("int32", ">i4", _EPOCH_DAYS),
    "time": _plain("int64", ">i8"),
    "timestamp": _since_2000("int64", ">i8", _EPOCH_MICROSECONDS),
    "timestamptz": _since_2000("int64", ">i8", _EPOCH_MICROSECONDS),
}
_NUMBERS = {
    "boolean": 16, "bytea": 17, "bigint": 20, "smallint": 21, "integer": 23, "text": 25,
    "real": 700, "double precision": 701, "date": 1082, "time": 1083, "timestamp": 1114,
    "timestamptz": 1184, "numeric": 1700, "uuid": 2950,
}  # fmt: skip


def _write_numeric(column: Column, values: pa.Array) -> Variable:
    """Numbers of a fixed scale: digits of base 10,000 without zeros before or after them."""
    precision, scale = map(int, column.type.partition("(")[2].rstrip(")").split(","))
    parts, is_negative = _magnitudes(column, values, precision)
    before, after = -(-(precision - scale) // _DIGIT_PLACES), -(-scale // _DIGIT_PLACES)
    written = np.zeros((len(values), 4 + before + after), ">i2")
    place = written.shape[1]
    if odd := scale % _DIGIT_PLACES:
        # The last digit is not all of it behind the scale's end.
        parts, rest = _divide(parts, 10**odd)
        place -= 1
        written[:, place] = rest * 10 ** (_DIGIT_PLACES - odd)
    while place > 4:
        parts, rest = _divide(parts, _DIGIT)
        place -= 1
        written[:, place] = rest
    digits = written[:, 4:] != 0
    count = digits.shape[1]
    first = np.where(digits.any(axis=1), digits.argmax(axis=1), count)
    last = count - digits[:, ::-1].argmax(axis=1)
    size = np.maximum(last - first, 0)
    written[:, 0] = size
    written[:, 1] = np.where(size > 0, before - 1 - first, 0)
    written[:, 2] = np.where(is_negative & (size > 0), _NEGATIVE, 0)
    written[:, 3] = scale
    kept = np.ones(written.shape, bool)
    places = np.arange(count)
    kept[:, 4:] = (places >= first[:, None]) & (places < last[:, None]) & (size > 0)[:, None]
    lengths = 8 + 2 * size
    if values.null_count:
        is_null = _numbers(values.is_null())
        kept[is_null] = False
        lengths = np.where(is_null, 0, lengths)
    data = from_bytes(written[kept], _offsets(lengths))
    return Variable(data, np.where(lengths == 0, -1, lengths))


def _magnitudes(column: Column, values: pa.Array, precision: int) -> tuple[list[Numbers], Numbers]:
    """Numbers without their sign, in parts with the most significant first; and which are < 0."""
    if not pa.types.is_decimal(values.type):
        found = _stored(values, "uint64")
        return [found], np.zeros(len(found), bool)
    data = np.frombuffer(values.buffers()[1], "<u8")
    halves = data[2 * values.offset : 2 * (values.offset + len(values))].reshape(-1, 2)
    low, high = halves[:, 0], halves[:, 1]
    if values.null_count:
        # What stands in the place of a NULL is not defined.
        present = _numbers(values.is_valid())
        low, high = np.where(present, low, 0), np.where(present, high, 0)
    is_negative = np.zeros(len(low), bool) if column.is_unsigned else high >> 63 == 1
    size = np.where(is_negative, ~low + np.uint64(1), low)
    if precision <= _LONGEST_IN_64_BITS:
        return [size], is_negative
    carried = is_negative & (low == 0)
    top = np.where(is_negative, ~high, high) + carried.astype(np.uint64)
    return [top >> 32, top & 0xFFFFFFFF, size >> 32, size & 0xFFFFFFFF], is_negative


# Places of decimals whose unscaled numbers fit a half of Arrow's 128 bits.
_LONGEST_IN_64_BITS = 18


def _divide(parts: list[Numbers], by: int) -> tuple[list[Numbers], Numbers]:
    """Long division by a small number: quotients and remainders."""
    quotients: list[Numbers] = []
    rest: Numbers = np.zeros_like(parts[0])
    for part in parts:
        whole = part if len(parts) == 1 else (rest << 32) | part
        quotient = whole // by
        rest = whole - quotient * by
        quotients.append(quotient)
    return quotients, rest
