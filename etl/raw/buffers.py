"""Lets dlt's buffers of rows end by their bytes, not by their number alone."""

from __future__ import annotations

from typing import Any

from dlt.common.data_writers.buffered import BufferedDataWriter
from dlt.common.storages import data_item_storage

# Python objects, the load file's group of rows and DuckDB's reading of it take several times this.
BUFFER_BYTES = 16 * 1024**2
# Of a page, so many rows are looked at.
SAMPLE = 16


def end_buffers_by_bytes() -> None:
    """Let dlt, for the whole process, write rows as soon as so many bytes of them wait.

    dlt 1.31 counts rows only. A buffer becomes one line of an extracted file and one group of rows
    of a load file, and both are read whole: 1,500 rows of 200 kB took 2.2 GB.
    """
    vars(data_item_storage)["BufferedDataWriter"] = _Writer


class _Writer(BufferedDataWriter[Any]):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._most_items = self.buffer_max_items
        self._bytes = 0

    def write_data_item(self, item: Any, columns: Any) -> int:
        self._bytes += estimate_bytes(item)
        is_full = self._bytes >= BUFFER_BYTES
        self.buffer_max_items = 1 if is_full else self._most_items
        if is_full:
            self._bytes = 0
        return super().write_data_item(item, columns)


def estimate_bytes(value: Any, levels: int = 20) -> int:
    """About how many bytes the texts of rows, or Arrow tables, take; of long lists by a sample.

    What lies deeper than so many levels is not looked at.
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict | list | tuple):
        inner = list(value.values() if isinstance(value, dict) else value)
        seen = inner[:: max(1, -(-len(inner) // SAMPLE))] if isinstance(value, list) else inner
        if not seen or not levels:
            return 0
        return sum(estimate_bytes(v, levels - 1) for v in seen) * len(inner) // len(seen)
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0  # anybody's attribute may be called so
