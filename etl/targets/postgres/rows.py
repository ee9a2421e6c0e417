"""Rows as COPY's binary format takes them, and the checksum by which they are known there again.

The server writes a record by the same functions that COPY reads it by. So the checksum is one over
`record_send(ROW(...))` of each row, which is made here without asking the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.targets.postgres.columns import Column
from etl.targets.postgres.fields import (
    Fixed,
    Numbers,
    Variable,
    from_bytes,
    read_type_number,
    write_fields,
)

# Signature, no flags, no extension; and what ends the rows.
HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"


@dataclass(frozen=True)
class Rows:
    """Rows one after the other, where each begins (and the last ends), and their checksum."""

    data: memoryview
    offsets: Numbers
    total: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def between(self, low: int, high: int) -> bytes:
        """What COPY takes for some of the rows."""
        return HEAD + self.data[self.offsets[low] : self.offsets[high]] + END


def write_rows(columns: Sequence[Column], arrays: Iterable[pa.Array]) -> Rows:
    """The rows of one Arrow batch."""
    fields = [write_fields(c, a) for c, a in zip(columns, arrays, strict=True)]
    copied, offsets = _join(fields, None)
    records, ends = _join(fields, [read_type_number(c) for c in columns])
    return Rows(copied, offsets, _digest(records, ends))


def copy_into(table: str, columns: Iterable[Column]) -> str:
    """The COPY statement for rows of these columns."""
    return f"COPY {table} ({', '.join(c.sql for c in columns)}) FROM STDIN (FORMAT binary)"


def found_sum(columns: Iterable[Column]) -> str:
    """SQL at the target: the checksum of rows, modulo 2^64."""
    record = f"record_send(ROW({', '.join(c.sql for c in columns)}))"
    return f"coalesce(sum(('x' || substr(md5({record}), 1, 16))::bit(64)::bigint), 0)"


def _digest(records: memoryview, offsets: Numbers) -> int:
    digests = b"".join(
        [
            hashlib.md5(records[low:high], usedforsecurity=False).digest()
            for low, high in pairwise(offsets.tolist())
        ]
    )
    # Of each digest its first half; the sum wraps round at 2^64.
    return int(np.frombuffer(digests, ">u8")[::2].sum(dtype=np.uint64))


def _join(
    fields: Sequence[Fixed | Variable], types: Sequence[int] | None
) -> tuple[memoryview, Numbers]:
    """The fields of each row in one piece, as COPY takes it or (with types) as a record is sent."""
    pieces: list[pa.LargeBinaryArray] = []
    pending: list[tuple[str, Any]] = [(">i2" if types is None else ">i4", len(fields))]
    for i, field in enumerate(fields):
        if types is not None:
            pending.append((">i4", types[i]))
        if isinstance(field, Fixed):
            pending += [(">i4", field.values.itemsize), (field.values.dtype.str, field.values)]
        else:
            pending.append((">i4", field.lengths))
            pieces += [_in_step(pending, len(field.lengths)), field.values]
            pending = []
    if pending:
        pieces.append(_in_step(pending, len(fields[0].values)))
    # What is NULL has its length before it, and no bytes.
    joined = pc.binary_join_element_wise(
        *pieces, pa.scalar(b"", pa.large_binary()), null_handling="replace", null_replacement=b""
    )
    offsets = np.frombuffer(joined.buffers()[1], np.int64)
    offsets = offsets[joined.offset : joined.offset + len(joined) + 1]
    return memoryview(joined.buffers()[2] or b""), offsets


def _in_step(parts: list[tuple[str, Any]], count: int) -> pa.LargeBinaryArray:
    """What has one size in every row, put together."""
    kind = np.dtype([(f"p{i}", dtype) for i, (dtype, _) in enumerate(parts)])
    table = np.empty(count, kind)
    for i, (_, values) in enumerate(parts):
        table[f"p{i}"] = values
    return from_bytes(table, np.arange(count + 1) * kind.itemsize)
