"""How many bytes of rows wait in a buffer, about."""

from __future__ import annotations

from typing import Any

import pandas as pd
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
        (pd.DataFrame({"nbytes": [1, 2]}), 0),
        ([pa.table({"n": pa.array(range(100), pa.int64())})] * 2, 1_600),
    ],
)
def test_texts_and_arrow_tables_are_measured(value: Any, expected: int) -> None:
    assert estimate_bytes(value) == expected


def test_long_list_is_judged_by_a_sample() -> None:
    rows = [{"a": "x" * n} for n in range(1_000)]
    assert estimate_bytes(rows) == pytest.approx(sum(range(1_000)), rel=0.1)


def test_value_that_is_nested_endlessly_deep_is_no_error() -> None:
    value: Any = "text"
    for _ in range(5_000):
        value = [value]
    assert estimate_bytes({"a": value}) == 0
