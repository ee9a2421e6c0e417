"""How many bytes of rows wait in a buffer, about."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from etl.raw.buffers import estimate_bytes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": 1, "a": "x" * 100, "of": {"b": ["y" * 10, "z" * 10]}}, 120),
        ([{"a": "x" * 100}] * 1_000, 100_000),
        ([], 0),
        ({"a": None, "b": b"12"}, 2),
        (pa.table({"n": pa.array(range(100), pa.int64())}), 800),
        ([pa.table({"n": pa.array(range(100), pa.int64())})] * 2, 1_600),
    ],
)
def test_texts_and_arrow_tables_are_measured(value: Any, expected: int) -> None:
    assert estimate_bytes(value) == expected


def test_long_list_is_judged_by_a_sample() -> None:
    rows = [{"a": "x" * n} for n in range(1_000)]
    assert estimate_bytes(rows) == pytest.approx(sum(range(1_000)), rel=0.1)
