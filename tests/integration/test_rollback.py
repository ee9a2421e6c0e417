"""What a later version of the job left, after a rollback to this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.arrival import Arrival, read_arrival
from etl.column_history import read_changes, write_changes
from etl.errors import ConfigError, ExitCode
from etl.past_runs import last_failed
from etl.records import SchemaChange
from tests.duckdb_files import opened
from tests.integration.projects import Shop
from tests.postgres_server import Server


def test_tables_of_the_bookkeeping_may_have_more_columns(shop: Shop, postgres: Server) -> None:
    dsn = postgres.dsn(postgres.create_database())
    shop.edit("config/etl.yaml", "targets:", f'targets:\n  pg: {{kind: postgres, dsn: "{dsn}"}}')
    shop.edit("config/etl.yaml", "loads:", "loads:\n  - {model: marts.totals, target: pg}")
    shop.sell((3, "eve", 5))
    assert shop.run().exit_code == 0
    tables = shop.query(
        "SELECT table_schema, table_name FROM information_schema.tables "
        "WHERE table_schema IN ('etl_meta', 'etl_published') AND table_type = 'BASE TABLE' "
        "AND NOT contains(table_name, ': ')"  # of a mart's keys
    )
    for schema, table in tables:
        shop.query(f'ALTER TABLE {schema}."{table}" ADD COLUMN came_later VARCHAR')
    shop.sell((4, "dan", 5))
    record = shop.run()
    assert not record.failures
    assert record.loads
    assert not any("history" in warning for warning in record.warnings)
    assert shop.query(f"FROM etl_meta.runs WHERE run_id = '{record.run_id}'")


def test_what_is_kept_may_have_more_fields(tmp_path: Path) -> None:
    Arrival(load_ids=("1",), tables={}).write(tmp_path)
    path = tmp_path / "accepted.json"
    path.write_text(path.read_text(encoding="utf-8").replace("{", '{"later": 1, ', 1), "utf-8")
    assert read_arrival(tmp_path) == Arrival(load_ids=("1",), tables={})
    with opened(tmp_path / "warehouse.duckdb") as connection:
        write_changes(connection, "shop", "", [SchemaChange(kind="new", table="orders")])
        connection.execute(
            "UPDATE etl_meta.raw_changes SET change = json_merge_patch(change, '{\"later\": 1}')"
        )
        (change,) = read_changes(connection, "shop", "")
    assert change == SchemaChange(kind="new", table="orders")


def test_retry_does_not_pass_over_a_run_whose_record_it_cannot_read(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "amount >= 0", "amount >= 100")
    assert shop.run().exit_code == 3
    failed = shop.run().run_id
    record = f"data/runs/{failed}/run.json"
    shop.edit(record, '"schema_version": 2', '"schema_version": 3')
    with pytest.raises(ConfigError, match=f"{failed}/run.json, cannot"):
        last_failed(shop.settings)


@pytest.mark.parametrize(
    ("file", "field"),
    [("state.json", "_state_engine_version"), ("schemas/shop.schema.json", "engine_version")],
)
def test_files_of_a_newer_dlt_are_told(shop: Shop, file: str, field: str) -> None:
    path = shop.data / "dlt" / "shop" / file
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {field: kept[field] + 1}), encoding="utf-8")
    (failure,) = shop.run("extract").failures
    assert (failure.exit_code, failure.subject) == (ExitCode.CONFIG, "shop")
    assert "is of a newer dlt than this one" in failure.message
    assert "put back the copy" in failure.hint
