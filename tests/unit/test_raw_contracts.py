"""A row that broke a schema contract is shown without what is personal."""

from __future__ import annotations

import pytest

from etl.raw.contracts import MAX_TEXT, mask_row
from etl.secrets import MASK


@pytest.mark.parametrize(
    ("name", "is_hidden"),
    [
        ("email", True),
        ("Email", True),
        ("owner__email", True),
        ("email__v_bigint", True),
        ("nickName", True),
        ("mail", False),
        ("email_is_valid", False),
    ],
)
def test_a_shown_row_hides_personal_columns_however_they_are_written(
    name: str, is_hidden: bool
) -> None:
    pii = ("email", "staging.stg_shop__orders.nick_name")
    assert (mask_row({name: "x"}, pii) == {name: MASK}) is is_hidden
    assert (mask_row({"deep": [{name: "x"}]}, pii) == {"deep": [{name: MASK}]}) is is_hidden


def test_a_shown_row_keeps_null_and_cuts_long_texts() -> None:
    assert mask_row({"email": None, "note": "x" * 1000}, ("email",)) == {
        "email": None,
        "note": "x" * MAX_TEXT + "…",
    }
