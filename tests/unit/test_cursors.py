"""Incremental cursors: what their texts say decides, and their letters where that is not enough."""

from __future__ import annotations

from typing import Any

import pytest

from etl.errors import ExtractError
from etl.sources.cursors import newest


@pytest.mark.parametrize(
    "rising",
    [
        ["-2", "9", "9.5", "10", "10.25", "999999999999999999999", "1000000000000000000000"],
        [8, 9, 10],
        ["2026-10-25T02:59:00+02:00", "2026-10-25T02:01:00+01:00", "2026-10-25T01:01:00.5Z"],
        ["Wed, 31 Dec 2025 23:00:00 GMT", "Thu, 01 Jan 2026 00:30:00 +0100"],
        ["2025-12-31T23:59:59", "2026-01-01", "2026-01-01T00:00:00.5"],
        ["01ARZ3", "9", "AB", "zz"],
        ["2026-13-01T00:00:00Z", "2026-99-01T00:00:00Z"],
    ],
)
def test_the_newest_cursor_is_the_last_one_by_what_it_says(rising: list[Any]) -> None:
    for i, older in enumerate(rising):
        for newer in rising[i:]:
            assert newest((older, newer)) == newest([newer, older]) == newer
    assert newest(rising) == rising[-1]


def test_of_cursors_that_say_the_same_the_first_stays() -> None:
    assert newest(("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00")) == "2026-01-01T00:00:00Z"


def test_cursors_without_an_order_are_refused() -> None:
    with pytest.raises(TypeError):
        newest((1, "1"))
    with pytest.raises(ExtractError, match="31/12/2025"):
        newest(("31/12/2025",))
