"""The warehouse is dlt's DuckDB in all but what it costs."""

from __future__ import annotations

from pathlib import Path

import dlt

from etl.raw.destination import Warehouse


def test_dlt_sees_its_own_destination(tmp_path: Path) -> None:
    path = str(tmp_path / "warehouse.duckdb")
    ours = Warehouse(path, replace_strategy="truncate-and-insert")
    theirs = dlt.destinations.duckdb(path, replace_strategy="truncate-and-insert")
    assert ours.destination_type == theirs.destination_type
    assert ours.destination_name == theirs.destination_name
    assert ours.config_params == theirs.config_params
    for _ in range(2):
        assert dict(ours.capabilities()) == dict(theirs.capabilities())
