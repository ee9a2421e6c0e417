"""Small projects of their own: a source that a test fills, a few models, a mart target."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from copy import copy
from datetime import date
from pathlib import Path
from typing import Any, Self

from etl.configuration import load_settings
from etl.demo import Replay
from etl.job import run_job
from etl.libraries import prepare_libraries
from etl.records import Options, RunRecord
from etl.settings import Settings
from tests.duckdb_files import opened
from tests.processes import ROOT, run_etl, without_settings
from tests.shipped_project import copy_project

prepare_libraries()

CONFIG = """
job: shop
data_dir: data
retry: {{attempts: 1}}
sources:
  shop:
    factory: tests.integration.projects:shop
    arguments: {{folder: "{folder}"}}
    required: false
transform:
  start: 2026-01-01
  pii: [customer]
targets:
  marts: {{kind: duckdb, path: published.duckdb}}
loads:
  - {{model: marts.totals, target: marts}}
  - {{model: marts.customers, target: marts}}
  - {{model: marts.items, target: marts}}
"""
STAGING = """
MODEL (
  name staging.stg_shop__{table},
  kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at),
  allow_partials TRUE,
  grain _dlt_id,
  audits (not_null(columns := (_dlt_load_id)))
);
WITH packages AS (
  SELECT load_id, MIN(inserted_at) AS inserted_at
  FROM shop_raw._dlt_loads WHERE status = 0 GROUP BY load_id
)
SELECT {columns}, packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  {root}._dlt_load_id::TEXT AS _dlt_load_id, raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.{table} AS raw {join}
INNER JOIN packages ON {root}._dlt_load_id = packages.load_id
WHERE packages.inserted_at BETWEEN @start_tstz AND @end_tstz
"""
FILES = {
    "sqlmesh/config.py": """
from pathlib import Path
from etl.project.engine import project_config
config = project_config(Path(__file__).parent)
""",
    "sqlmesh/external_models/shop.yaml": """
- name: shop_raw.orders
  columns: {id: BIGINT, customer: TEXT, amount: BIGINT, _dlt_load_id: TEXT, _dlt_id: TEXT}
- name: shop_raw.orders__items
  columns: {name: TEXT, _dlt_parent_id: TEXT, _dlt_list_idx: BIGINT, _dlt_id: TEXT}
- name: shop_raw._dlt_loads
  columns: {load_id: TEXT, schema_name: TEXT, status: BIGINT, inserted_at: TIMESTAMPTZ,
    schema_version_hash: TEXT}
""",
    "sqlmesh/models/orders.sql": STAGING.format(
        table="orders",
        columns="raw.id::BIGINT AS id, raw.customer::TEXT AS customer, "
        "raw.amount::BIGINT AS amount",
        join="",
        root="raw",
    ),
    "sqlmesh/models/order_items.sql": STAGING.format(
        table="orders__items",
        columns="parents.id::BIGINT AS id, raw.name::TEXT AS name",
        join="INNER JOIN shop_raw.orders AS parents ON raw._dlt_parent_id = parents._dlt_id",
        root="parents",
    ),
    "sqlmesh/models/totals.sql": """
MODEL (
  name marts.totals, kind FULL, allow_partials TRUE, grain customer,
  audits (
    not_null(columns := (customer)),
    unique_values(columns := (customer)),
    forall(criteria := (amount >= 0))
  )
);
SELECT customer::TEXT AS customer, SUM(amount)::BIGINT AS amount
FROM staging.stg_shop__orders GROUP BY customer
""",
    "sqlmesh/models/customers.sql": """
MODEL (name marts.customers, kind FULL, allow_partials TRUE, grain customer);
SELECT customer::TEXT AS customer, (amount > 100)::BOOLEAN AS is_large FROM marts.totals
""",
    "sqlmesh/models/items.sql": """
MODEL (name marts.items, kind FULL, allow_partials TRUE, grain name);
SELECT name::TEXT AS name, COUNT(*)::BIGINT AS n FROM staging.stg_shop__orders__items GROUP BY name
""",
}
ALL = {
    "staging.stg_shop__orders", "staging.stg_shop__orders__items",
    "marts.totals", "marts.customers", "marts.items",
}  # fmt: skip


def shop(folder: str, disposition: Any = "append") -> Any:
    """The source of the small projects: the rows of `folder`/rows.json, each run once."""
    import dlt

    path = Path(folder) / "rows.json"

    @dlt.resource(name="orders", write_disposition=disposition, primary_key="id")
    def orders() -> Iterator[Any]:
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))
            path.unlink()

    return orders


class Shop:
    """One small project in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config").mkdir(parents=True, exist_ok=True)
        (folder / "config" / "etl.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")

    @classmethod
    def create(cls, folder: Path, files: dict[str, str] = FILES) -> Shop:
        """A new project."""
        project = cls(folder)
        for path, text in files.items():
            project.write(path, text)
        return project

    def copy(self, folder: Path) -> Self:
        """The project with all of its data, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return type(self)(folder)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def warehouse(self) -> Path:
        return self.data / "warehouse.duckdb"

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.text(path)
        assert old in text, f"{old!r} is not in {path}"
        self.write(path, text.replace(old, new))

    def publish(self, model: str) -> None:
        """Let this model be published too."""
        self.edit("config/etl.yaml", "loads:\n", f"loads:\n  - {{model: {model}, target: marts}}\n")

    def sell(self, *orders: tuple[int, str | None, int], items: Iterable[str] = ("tea",)) -> None:
        """What the source returns in the next run: (id, customer, amount), each with the items."""
        self.write(
            "rows.json",
            json.dumps(
                [
                    {"id": i, "customer": c, "amount": a, "items": [{"name": n} for n in items]}
                    for i, c, a in orders
                ]
            ),
        )

    def bring(self, *orders: tuple[int, str | None, int], items: Iterable[str] = ("tea",)) -> str:
        """What an extraction of these orders leaves in raw, without one; returns its load id.

        For a project that has extracted before, and rules that begin after the extraction.
        """
        with opened(self.warehouse) as connection:
            load_id = str(time.time())
            for i, customer, amount in orders:
                row = (i, customer, amount, load_id, f"{load_id}-{i}")
                connection.execute(
                    "INSERT INTO shop_raw.orders (id, customer, amount, _dlt_load_id, _dlt_id) "
                    "VALUES (?, ?, ?, ?, ?)",
                    row,
                )
                for k, name in enumerate(items):
                    connection.execute(
                        "INSERT INTO shop_raw.orders__items "
                        "(name, _dlt_parent_id, _dlt_list_idx, _dlt_id) VALUES (?, ?, ?, ?)",
                        (name, row[-1], k, f"{row[-1]}-{k}"),
                    )
            connection.execute(
                "INSERT INTO shop_raw._dlt_loads (load_id, schema_name, status, inserted_at) "
                "VALUES (?, 'shop', 0, now())",
                (load_id,),
            )
        return load_id

    def go_on(self, *orders: tuple[int, str | None, int], **options: Any) -> RunRecord:
        """One run of all that comes after an extraction, which is taken to have brought these."""
        if orders:
            self.bring(*orders)
        return self.run("transform", "audit", "load", **options)

    def run(self, *stages: str, **options: Any) -> RunRecord:
        """One run in this process."""
        chosen = {"stages": stages} if stages else {}
        return run_job(self.settings, Options.model_validate(chosen | options))

    def etl(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`python -m etl …` as a process."""
        return run_etl(arguments, self.folder, self.environment(**variables))

    def environment(self, **variables: str) -> dict[str, str]:
        places = {"ETL_PROJECT": str(self.folder), "PYTHONPATH": str(ROOT)}
        return without_settings(**places | variables)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read or change the warehouse by hand."""
        return _query(self.warehouse, sql)

    def published(self, table: str) -> list[tuple[Any, ...]]:
        """A mart as its readers see it, sorted."""
        return _query(self.data / "published.duckdb", f"FROM {table} ORDER BY ALL", read_only=True)

    def verdicts(self, environment: str = "prod") -> dict[str, str]:
        return dict(
            self.query(
                "SELECT model, verdict FROM etl_meta.model_states "
                f"WHERE environment = '{environment}'"
            )
        )

    def physical(self, model: str, environment: str = "prod") -> str:
        """The physical table behind a model's view."""
        return _physical(self.warehouse, model, environment)

    def contents(self) -> dict[str, str]:
        """Every file by its path, with a digest of it."""
        return {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file() and "__pycache__" not in p.parts
        }

    def age(self, days: int = 1) -> None:
        """Let all that was loaded and transformed so far be some days old.

        Raw packages, staging rows and SQLMesh's intervals move back together.
        """
        self.query(
            f"UPDATE shop_raw._dlt_loads SET inserted_at = inserted_at - INTERVAL {days} DAY"
        )
        for model in ("staging.stg_shop__orders", "staging.stg_shop__orders__items"):
            self.query(
                f"UPDATE {self.physical(model)} SET _loaded_at = _loaded_at - INTERVAL {days} DAY"
            )


def _query(path: Path, sql: str, *, read_only: bool = False) -> list[tuple[Any, ...]]:
    with opened(path, read_only=read_only) as connection:
        return connection.execute(sql).fetchall()


def _physical(warehouse: Path, model: str, environment: str = "prod") -> str:
    schema, _, name = model.partition(".")
    suffix = "" if environment == "prod" else f"__{environment}"
    ((view,),) = _query(
        warehouse,
        f"SELECT sql FROM duckdb_views() WHERE schema_name = '{schema}{suffix}' "
        f"AND view_name = '{name}'",
    )
    return str(view).split(" FROM ")[-1].strip(" ;\n").replace('"', "")


class Bluesky:
    """A copy of the project that ships, with the replay as its API, two actors.

    Without the models whose files match `left_out`, and their loads.
    """

    def __init__(self, folder: Path, replay: Replay, *left_out: str) -> None:
        self.folder, self.replay = folder, replay
        copy_project(folder, *left_out)

    def run(self, day: date, **options: Any) -> RunRecord:
        """A run whose snapshot is of this day."""
        self.replay.date = day
        settings = load_settings(
            self.folder,
            "demo",
            {
                "ETL_DEMO_DATE": day.isoformat(),
                "ETL_SOURCES__BLUESKY__CLIENT__BASE_URL": self.replay.base_url,
                "ETL_SOURCES__SHOP__CLIENT__BASE_URL": self.replay.shop_url,
                "ETL_SOURCES__MARKETS__ARGUMENTS__BASE_URL": self.replay.market_url,
            },
        )
        # Only the date of the demo is wanted, not a second replay: no address is a live one.
        return run_job(settings, Options.model_validate(options))

    def copy(self, folder: Path) -> Bluesky:
        """The project with all of its data, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = copy(self)
        copied.folder = folder
        return copied

    @property
    def warehouse(self) -> Path:
        return self.folder / "data" / "warehouse.duckdb"

    def staged(self, sql: str) -> list[tuple[Any, ...]]:
        """A query of the warehouse."""
        return _query(self.warehouse, sql)

    def physical(self, model: str) -> str:
        """The physical table behind a model's view."""
        return _physical(self.warehouse, model)

    def mart(self, sql: str) -> list[tuple[Any, ...]]:
        """A query of the published marts."""
        return _query(self.folder / "data" / "marts.duckdb", sql, read_only=True)
