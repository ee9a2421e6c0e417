"""The project: a resource of each write disposition, marts of several kinds, three targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CONFIG = """
job: soak
retry: {{attempts: 1}}
sources:
  api:
    stamp: {{snapshot_date: snapshot_date}}
    timeout_seconds: 1
    attempts: 2
    on_new_column: generate
    client:
      base_url: {url}
      paginator: {{type: cursor, cursor_path: next, cursor_param: cursor}}
    resource_defaults: {{endpoint: {{data_selector: data}}}}
    resources:
      - name: orders
        write_disposition: merge
        primary_key: id
        columns: {{is_deleted: {{data_type: bool, hard_delete: true}}}}
        endpoint:
          path: orders
          params: {{since: "{{incremental.start_value}}"}}
          incremental: {{cursor_path: updated_at, initial_value: "2020-01-01T00:00:00Z"}}
      - name: events
        write_disposition: append
        primary_key: seq
        endpoint:
          path: events
          params: {{since: "{{incremental.start_value}}"}}
          incremental: {{cursor_path: seq, initial_value: 0}}
      - name: countries
        write_disposition: replace
        primary_key: code
        endpoint: {{path: countries}}
      - name: people
        write_disposition: {{disposition: merge, strategy: scd2}}
        primary_key: id
        endpoint: {{path: people}}
      - name: prices
        write_disposition: append
        primary_key: product
        endpoint: {{path: prices}}
transform: {{start: 2026-01-01}}
targets:
  marts: {{kind: duckdb, path: marts.duckdb}}
  lake: {{kind: parquet, path: lake}}
  pg: {{kind: postgres, default_schema: reports}}
loads:
{loads}
"""
MODELS = {
    "order_lines": """
MODEL (name marts.order_lines, kind FULL, allow_partials TRUE, grain (id, line));
SELECT
  o.id::BIGINT AS id, l._dlt_list_idx::BIGINT AS line, l.sku::TEXT AS sku,
  l.quantity::BIGINT AS quantity
FROM staging.stg_api__orders__lines AS l
JOIN staging.stg_api__orders AS o ON l._dlt_parent_id = o._dlt_id
""",
    "events": """
MODEL (name marts.events, kind FULL, allow_partials TRUE, grain seq);
SELECT seq::BIGINT AS seq, kind::TEXT AS kind
FROM staging.stg_api__events
""",
    "events_by_load": """
MODEL (
  name marts.events_by_load, kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at),
  allow_partials TRUE, grain seq
);
SELECT seq::BIGINT AS seq, kind::TEXT AS kind, _loaded_at::TIMESTAMPTZ AS _loaded_at
FROM staging.stg_api__events WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz
""",
    "prices": """
MODEL (name marts.prices, kind FULL, allow_partials TRUE, grain (product, snapshot_date));
SELECT
  product::BIGINT AS product, snapshot_date::DATE AS snapshot_date, price::BIGINT AS price
FROM staging.stg_api__prices
QUALIFY ROW_NUMBER() OVER
  (PARTITION BY product, snapshot_date ORDER BY _loaded_at DESC, _dlt_id) = 1
""",
    "states": """
MODEL (name marts.states, kind VIEW, grain status);
SELECT status::TEXT AS status, COUNT(*)::BIGINT AS n FROM staging.stg_api__orders GROUP BY 1
""",
}
# Each published mart and its key; the last ones are generated.
MARTS = {
    "order_lines": ("id", "line"),
    "events": ("seq",),
    "events_by_load": ("seq",),
    "prices": ("product", "snapshot_date"),
    "states": ("status",),
    "dim_api__orders": ("id",),
    "dim_api__countries": ("code",),
    "dim_api__people": ("id", "valid_from_at"),
}
# Marts of which a test may add and remove a column, or an audit.
EDITED = ("events", "events_by_load", "prices")


def write_project(folder: Path, url: str, strategies: Mapping[str, str]) -> None:
    """The project as it is before anything was generated."""
    for name, text in MODELS.items():
        path = model_file(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    (folder / "config").mkdir()
    configure(folder, url, strategies)


def configure(folder: Path, url: str, strategies: Mapping[str, str]) -> None:
    """Each mart is published at each target by its strategy."""
    loads = "\n".join(
        f"  - {{model: marts.{mart}, target: {target}, strategy: {strategy}}}"
        for mart, strategy in strategies.items()
        for target in ("marts", "lake", "pg")
    )
    text = CONFIG.format(url=url, loads=loads)
    (folder / "config" / "etl.yaml").write_text(text, encoding="utf-8")


def model_file(folder: Path, mart: str) -> Path:
    """Where a mart that is not generated stands."""
    return folder / "sqlmesh" / "models" / "marts" / f"{mart}.sql"
