"""The counters and the guards that need no API."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from dlt.extract.items import TableNameMeta

from etl.errors import DataQualityError, SchemaError
from etl.settings import Source
from etl.sources.monitor import Monitor
from etl.sources.page_step import PageStep


def monitor(rows: int = 0, *, tables: tuple[str, ...] = ("t",), **more: Any) -> Monitor:
    settings = Source.model_validate(
        {"client": {"base_url": "http://x"}, "resources": ["t"], **more.pop("settings", {})}
    )
    found = Monitor("api", settings, **more)
    found.tables = {t: t for t in tables}
    found.count_rows("t", rows)
    return found


def page(found: Monitor, resource: str, chains: tuple[int, ...]) -> None:
    for pages in chains:
        for number in range(1, pages + 1):
            found.count_page(resource, 1, chain=number, url="http://x/t")


def test_first_empty_extraction_of_an_incremental_source_is_refused() -> None:
    found = monitor()
    found.incremental = {"t"}
    with pytest.raises(DataQualityError, match="returned no row"):
        found.check_source()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"no row \(0 pages\)$"),
        ({"factory": "a:b", "client": None, "resources": ()}, "no row$"),
    ],
)
def test_pages_that_nobody_counted_are_not_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(DataQualityError, match=told):
        monitor(settings=settings).check_source()


def test_nothing_new_from_an_incremental_source_is_good() -> None:
    found = monitor(earlier_rows=0)
    found.incremental = {"t"}
    found.check_source()


def test_nothing_from_a_source_that_is_incremental_in_part_is_refused() -> None:
    found = monitor(tables=("t", "u"), earlier_rows=5)
    found.incremental = {"t"}
    with pytest.raises(DataQualityError, match="returned no row"):
        found.check_source()


@pytest.mark.parametrize(
    ("chains", "refused"), [((1,), True), ((1, 1, 1), True), ((2,), False), ((1, 6), False)]
)
def test_one_page_is_refused_when_no_chain_is_longer(
    chains: tuple[int, ...], refused: bool
) -> None:
    found = monitor(1, earlier_pages={"t": 5})
    page(found, "t", chains)
    if not refused:
        found.check_source()
        return
    with pytest.raises(DataQualityError, match="ended after page 1") as caught:
        found.check_source()
    assert "api.t" in caught.value.message
    assert "http://x/t" in caught.value.message


@pytest.mark.parametrize(
    "more",
    [
        {"earlier_pages": {"t": 4}},
        {"earlier_pages": {}},
        # What the refusal advises when the API really shrank.
        {"earlier_pages": {"t": 5}, "settings": {"guards": {"short_after": 6}}},
    ],
)
def test_one_page_is_good_where_there_were_never_many(more: dict[str, Any]) -> None:
    found = monitor(1, **more)
    page(found, "t", (1,))
    found.check_source()


def test_one_page_of_an_incremental_resource_is_good() -> None:
    found = monitor(1, earlier_pages={"t": 50})
    found.incremental = {"t"}
    page(found, "t", (1,))
    found.check_source()


@pytest.mark.parametrize(("rows", "refused"), [(79, True), (80, False), (200, False)])
def test_fall_in_volume_is_refused_beyond_the_limit(rows: int, refused: bool) -> None:
    found = monitor(rows, earlier_rows=100, settings={"volume": {"max_drop": 0.2}})
    if not refused:
        found.check_source()
        return
    with pytest.raises(DataQualityError, match="79 rows after 100"):
        found.check_source()


def test_step_counts_and_stamps_lists_rows_and_arrow() -> None:
    found = monitor()
    step = PageStep(found, "t", {"day": "d"}, has_ids=True)
    assert step([{"a": 1}, {"a": 2}]) == [{"a": 1, "day": "d"}, {"a": 2, "day": "d"}]
    assert step({"a": 3}) == {"a": 3, "day": "d"}
    assert step(pa.table({"a": [4, 5]})).to_pylist() == [{"a": 4, "day": "d"}, {"a": 5, "day": "d"}]
    assert step(pa.record_batch({"a": [6]})).to_pylist() == [{"a": 6, "day": "d"}]
    assert step(pa.table({"a": pa.array([], pa.int64())})).num_rows == 0
    assert step(None) is None
    assert found.rows["t"] == 6


def test_stamp_overwrites_no_field_of_the_api() -> None:
    step = PageStep(monitor(), "t", {"id": "7"})
    assert step([{"id": 7, "a": 1}, {"a": 2}]) == [{"id": "7", "a": 1}, {"a": 2, "id": "7"}]
    for item in ([{"id": "7"}, {"id": "8"}], {"id": None}, pa.table({"id": ["7"]})):
        with pytest.raises(SchemaError, match="`id` of their own"):
            step(item)


def test_frames_and_rows_that_name_their_table_are_counted() -> None:
    import pandas as pd

    found = monitor()
    step = PageStep(found, "t", {"day": "d"}, has_ids=True)
    frame, stamped = pd.DataFrame({"a": [1, 2]}), [{"a": 1, "day": "d"}, {"a": 2, "day": "d"}]
    assert step(frame).to_pylist() == stamped
    assert [page.to_pylist() for page in step([frame, frame])] == [stamped, stamped]
    step([{"a": 3}], TableNameMeta("other"))
    assert found.rows == {"t": 6, "other": 1}


def test_rows_of_arrow_tables_get_ids_that_rise_unless_they_have_some() -> None:
    step = PageStep(monitor(), "t", {})
    pages = [step(pa.table({"a": [1] * 3})), step(pa.record_batch({"a": [1] * 3}))]
    ids = [i for page in pages for i in page["_dlt_id"].to_pylist()]
    assert len(set(ids)) == 6
    assert ids == sorted(ids)
    assert step(pa.table({"_dlt_id": ["x"]})).to_pylist() == [{"_dlt_id": "x"}]


@pytest.mark.parametrize("row", [7, None, [1], "x"])
def test_row_that_is_no_object_cannot_be_stamped(row: Any) -> None:
    assert PageStep(monitor(), "t", {})([row]) == [row]
    with pytest.raises(SchemaError, match="no objects"):
        PageStep(monitor(), "t", {"day": "d"})([row])
