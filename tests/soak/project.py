"""The project: two sources, a resource of each write disposition, marts of each kind, targets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.api import ORDER, REGIONS

TARGETS: dict[str, dict[str, str]] = {
    "marts": {"kind": "duckdb", "path": "marts.duckdb"},
    "lake": {"kind": "parquet", "path": "lake"},
    "pg": {"kind": "postgres", "default_schema": "reports"},
}
CONFIG = """
job: soak
retry: {{attempts: 1}}
transform: {{start: 2026-01-01, approve: {approve}}}
sources:
  api:
    stamp: {{snapshot_date: snapshot_date}}
    timeout_seconds: 1
    attempts: 2
    on_new_column: generate
    schema_contract: {contract}
    for_each: {{region: {regions}}}
    client:
      base_url: {url}
      paginator: {{type: cursor, cursor_path: next, cursor_param: cursor}}
    resource_defaults: {{endpoint: {{data_selector: data}}}}
    resources: {resources}
  shop:
    enabled: {has_shop}
    factory: shop:read
    arguments: {{url: "{url}", items_as: {items_as}, logs_as: {logs_as}}}
    on_new_column: generate
    schema_contract: {contract}
targets: {targets}
loads: {loads}
"""
# What each resource of the REST source is asked by, and the column by which it is read on.
RESOURCES: dict[str, dict[str, Any]] = {
    "orders": {"primary_key": "id", "since": ("updated_at", "2020-01-01T00:00:00Z"),
               "columns": {"is_deleted": {"data_type": "bool", "hard_delete": True}}},
    "events": {"primary_key": "seq", "since": ("seq", 0)},
    "countries": {"primary_key": "code", "write_disposition": "replace"},
    "details": {"primary_key": "id", "write_disposition": "replace",
                "path": "details/{resources.countries.code}"},
    "people": {"primary_key": "id",
               "write_disposition": {"disposition": "merge", "strategy": "scd2"}},
    "prices": {"primary_key": "product", "write_disposition": "append"},
    "stock": {"primary_key": "id", "path": "stock/{region}"},
}  # fmt: skip
# What a resource may be changed to. Those that no row leaves are in the marts as they were before.
DISPOSITIONS = {
    "orders": ("delete-insert", "upsert"),
    "items": ("delete-insert", "upsert"),
    "stock": ("upsert", "delete-insert"),
    "events": ("append", "delete-insert", "upsert", "insert-only"),
    "logs": ("append", "delete-insert", "upsert", "insert-only"),
}
FACTORY = '''
import dlt
import requests
from etl.errors import ExtractError


DELETED = {"is_deleted": {"data_type": "bool", "hard_delete": True}}
NEWEST = {"updated_at": {"dedup_sort": "desc"}}


def read(url, items_as, logs_as, monitor):
    """What changed in items and logs; stores as they are."""

    def pages(resource, since=None):
        cursor = None
        while True:
            asked = {"since": since, "cursor": cursor}
            answer = requests.get(url + resource, params=asked, timeout=1)
            answer.raise_for_status()
            page = answer.json()
            monitor.count_page(resource, len(page["data"]))
            yield page["data"]
            if not page["next"]:
                return
            if page["next"] == cursor:
                raise ExtractError(f"{resource}: the cursor {cursor} comes again")
            cursor = page["next"]

    @dlt.resource(primary_key="id", write_disposition=items_as, columns=DELETED | NEWEST)
    def items(since=dlt.sources.incremental("updated_at", "2020-01-01T00:00:00Z")):
        yield from pages("items", since.last_value)

    @dlt.resource(primary_key="seq", write_disposition=logs_as)
    def logs(since=dlt.sources.incremental("seq", 0)):
        yield from pages("logs", since.last_value)

    @dlt.resource(primary_key="code", write_disposition="replace")
    def stores():
        yield from pages("stores")

    @dlt.source(name="shop")
    def shop():
        return items, logs, stores

    return shop()
'''
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
    "order_history": """
MODEL (
  name marts.order_history,
  kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [status], invalidate_hard_deletes TRUE),
  grain (id, valid_from)
);
SELECT id::BIGINT AS id, status::TEXT AS status FROM staging.stg_api__orders
""",
    "item_lots": """
MODEL (name marts.item_lots, kind FULL, allow_partials TRUE, grain (id, line, lot));
SELECT
  i.id::BIGINT AS id, l._dlt_list_idx::BIGINT AS line, x._dlt_list_idx::BIGINT AS lot,
  x.v::BIGINT AS v
FROM staging.stg_shop__items__lines__lots AS x
JOIN staging.stg_shop__items__lines AS l ON x._dlt_parent_id = l._dlt_id
JOIN staging.stg_shop__items AS i ON l._dlt_parent_id = i._dlt_id
""",
    "stock_lots": """
MODEL (name marts.stock_lots, kind FULL, allow_partials TRUE, grain id);
SELECT s.id::BIGINT AS id, COALESCE(SUM(l.v), 0)::BIGINT AS v
FROM staging.stg_api__stock AS s
LEFT JOIN staging.stg_api__stock__lots AS l ON l._dlt_parent_id = s._dlt_id
GROUP BY 1
""",
    "rates": """
MODEL (name marts.rates, kind FULL, allow_partials TRUE, grain code);
SELECT code::TEXT AS code, c.rate::BIGINT AS country, s.rate::BIGINT AS store
FROM staging.stg_api__countries AS c FULL JOIN staging.stg_shop__stores AS s USING (code)
""",
}


@dataclass(frozen=True)
class Mart:
    """A published mart: its key, the columns that the API tells of, and what it is made of."""

    key: tuple[str, ...]
    columns: tuple[str, ...]
    resources: tuple[str, ...]
    where: str = "true"


# The last ones are generated.
MARTS = {
    "order_lines": Mart(("id", "line"), ("id", "line", "sku", "quantity"), ("orders",)),
    "events": Mart(("seq",), ("seq", "kind"), ("events",)),
    "events_by_load": Mart(("seq",), ("seq", "kind"), ("events",)),
    "prices": Mart(
        ("product", "snapshot_date"),
        ("product", "price"),
        ("prices",),
        "snapshot_date = (SELECT max(snapshot_date) FROM prices)",
    ),
    "states": Mart(("status",), ("status", "n"), ("orders",)),
    "order_history": Mart(("id", "valid_from"), ("id", "status"), ("orders",), "valid_to IS NULL"),
    "item_lots": Mart(("id", "line", "lot"), ("id", "line", "lot", "v"), ("items",)),
    "stock_lots": Mart(("id",), ("id", "v"), ("stock",)),
    "rates": Mart(("code",), ("code", "country", "store"), ("countries", "stores")),
    "dim_api__orders": Mart(("id",), ("id", "status"), ("orders",)),
    "dim_api__countries": Mart(("code",), ("code", "rate"), ("countries",)),
    "dim_api__people": Mart(("id", "valid_from_at"), ("id", "name"), ("people",), "is_current"),
    "dim_api__details": Mart(("id",), ("id", "country"), ("countries", "details")),
    "dim_shop__items": Mart(("id",), ("id", "status"), ("items",)),
    "dim_shop__logs": Mart(("seq",), ("seq", "kind"), ("logs",)),
}
# Marts of which the kind, a column or an audit changes, and a column of their rows.
EDITED = {"events": "seq", "events_by_load": "seq", "prices": "product", "rates": "code"}
SHOP = {"items", "logs", "stores"}


@dataclass
class Settings:
    """What an operator changes between runs.

    `unread` are resources, regions and sources that are not asked for, `without` marts that were
    removed; `columns` has the marts of which the key alone is published.
    """

    strategies: dict[str, str] = field(default_factory=lambda: dict.fromkeys(MARTS, "replace"))
    tables: dict[str, str] = field(default_factory=lambda: {mart: mart for mart in MARTS})
    columns: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=lambda: set(TARGETS))
    dispositions: dict[str, str] = field(
        default_factory=lambda: {name: kinds[0] for name, kinds in DISPOSITIONS.items()}
    )
    unread: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)
    contract: str = "evolve"
    approve: str = "auto"

    @property
    def resources(self) -> set[str]:
        """Those that are read whole."""
        lost = {"stock"} if self.unread & set(REGIONS) else set()
        return ORDER.keys() - self.unread - lost - (SHOP if "shop" in self.unread else set())

    @property
    def marts(self) -> list[str]:
        """Those that are published."""
        return [mart for mart in MARTS if mart not in self.without]

    def write(self, folder: Path, url: str) -> None:
        """config/etl.yaml; JSON is YAML."""
        parts = {
            "has_shop": "shop" not in self.unread,
            "regions": [region for region in REGIONS if region not in self.unread],
            "resources": [self._resource(name) for name in RESOURCES if name not in self.unread],
            "items_as": self._disposition("items"),
            "logs_as": self._disposition("logs"),
            "targets": {name: TARGETS[name] for name in sorted(self.targets)},
            "loads": [
                {
                    "model": f"marts.{mart}", "target": target, "table": self.tables[mart],
                    "strategy": self.strategies[mart],
                    "columns": MARTS[mart].key if mart in self.columns else (),
                }
                for mart in self.marts for target in sorted(self.targets)
            ],
        }  # fmt: skip
        text = CONFIG.format(
            url=url,
            approve=self.approve,
            contract=self.contract,
            **{name: json.dumps(part) for name, part in parts.items()},
        )
        (folder / "config" / "etl.yaml").write_text(text, encoding="utf-8")

    def _disposition(self, resource: str) -> Any:
        how = self.dispositions[resource]
        return how if how == "append" else {"disposition": "merge", "strategy": how}

    def _resource(self, name: str) -> dict[str, Any]:
        asked = dict(RESOURCES[name])
        endpoint = {"path": asked.pop("path", name)}
        if "since" in asked:
            cursor, start = asked.pop("since")
            endpoint["params"] = {"since": "{incremental.start_value}"}
            endpoint["incremental"] = {"cursor_path": cursor, "initial_value": start}
        if name in self.dispositions:
            asked["write_disposition"] = self._disposition(name)
        return {"name": name, "endpoint": endpoint} | asked


def write_project(folder: Path, url: str, settings: Settings) -> None:
    """The project as it is before anything was generated."""
    for name in MODELS:
        write_model(folder, name)
    (folder / "shop.py").write_text(FACTORY.lstrip(), encoding="utf-8")
    (folder / "config").mkdir()
    settings.write(folder, url)


def write_model(folder: Path, mart: str) -> None:
    """A mart that is not generated, as it was at first."""
    path = model_file(folder, mart)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MODELS[mart].lstrip(), encoding="utf-8")


def model_file(folder: Path, mart: str) -> Path:
    """Where a mart that is not generated stands."""
    return folder / "sqlmesh" / "models" / "marts" / f"{mart}.sql"
