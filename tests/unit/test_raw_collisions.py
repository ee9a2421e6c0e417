"""Collisions: rows are flattened as dlt flattens them, and refused where dlt would lose a field."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dlt.common.libs.pyarrow import get_normalized_arrow_fields_mapping
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.schema import Schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.errors import SchemaError
from etl.raw.collisions import CollisionError, refuse_collisions
from etl.raw.failures import classify

# Few and alike, so that many rows have two for one place.
KEYS = st.sampled_from(["a", "A", "b", "a b", "a_b", "a__b", "aB", "c", " ", "_empty"])
VALUES = st.recursive(
    st.integers(0, 9) | st.none(),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


def normalizer_of(**columns: str) -> DataItemNormalizer:
    schema = Schema("x")
    if columns:
        given: Any = {name: {"name": name, "data_type": kind} for name, kind in columns.items()}
        schema.update_table({"name": "t", "columns": given})
    normalizer = schema.data_item_normalizer
    assert isinstance(normalizer, DataItemNormalizer)
    return normalizer


def count_places(normalizer: DataItemNormalizer, row: dict[str, Any]) -> int:
    """Fields that a row has, each at the end of a path: what dlt must find a place for."""
    naming, todo, fields = normalizer.naming, [(row, "", 1000)], 0
    while todo:
        current, path, level = todo.pop()
        for key, value in current.items():
            name = naming.normalize_path(key) if key.strip() else "_empty"
            name = f"{path}__{name}" if path else name
            if isinstance(value, dict) and not normalizer._is_nested_type("t", name, level):
                todo.append((value, name, level - 1))
            else:
                fields += 1
    return fields


@settings(max_examples=60, deadline=None)
@example({"a b": {}, "a_b": {"c": 1}})
@example({"a": {" ": 1, "_empty": 2}})
@example({"a": {"b": [1]}, "a__b": [2]})
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_a_row_is_flattened_as_by_dlt_or_refused_when_dlt_would_lose_a_field(
    row: dict[str, Any],
) -> None:
    for normalizer in (normalizer_of(), normalizer_of(a_b="json", a="json")):
        try:
            columns, lists = normalizer._flatten("t", deepcopy(row), 1000)
        except ValueError:
            continue  # dlt itself refuses the key of a list
        tables = {normalizer._shorten_fragments(*path) for path in lists}
        fields = count_places(normalizer, row)
        refuse_collisions(normalizer)
        if len(columns) + len(tables) == fields:
            assert normalizer._flatten("t", deepcopy(row), 1000) == (columns, lists)
        else:
            with pytest.raises(CollisionError) as raised:
                normalizer._flatten("t", deepcopy(row), 1000)
            assert " and $" in raised.value.what
            assert raised.value.place.startswith("t")


def test_columns_of_an_arrow_table_that_share_a_name_are_a_failure_of_the_schema() -> None:
    with pytest.raises(ValueError, match="collision") as raised:
        get_normalized_arrow_fields_mapping(pa.schema({"a b": pa.int8(), "a_b": pa.int8()}),
                                            Schema("x").naming)  # fmt: skip
    failure = classify(raised.value, "shop", "extract", Path())
    assert type(failure) is SchemaError
    assert failure.message.startswith("shop_raw: ")
    assert "'a b'" in failure.message


def test_objects_that_stay_json_are_fields_like_others() -> None:
    normalizer = normalizer_of(a_b="json")
    refuse_collisions(normalizer)
    with pytest.raises(CollisionError) as raised:
        normalizer._flatten("t", {"aB": {}, "a_b": {"c": 1}}, 1000)
    assert raised.value.place == "t.a_b"
    assert raised.value.what.startswith("$.aB and $.a_b of one row")
