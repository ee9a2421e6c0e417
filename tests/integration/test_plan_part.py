"""`etl plan` loads what a change reaches, and says what it would say of the whole project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.cli import main
from etl.planning import show_plan
from etl.project.partial import find_part
from etl.stages.forecast import copied_project
from tests.integration.conftest import Template
from tests.integration.projects import FILES, Shop

TOTALS, CUSTOMERS, ITEMS = (f"sqlmesh/models/{m}.sql" for m in ("totals", "customers", "items"))
CUSTOMERS_READ = "FROM marts.totals"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Shop:
    return template.copy(tmp_path_factory.mktemp("part") / "shop")


def touch_nothing(shop: Shop) -> None:
    """The project as it was built."""


def change_a_mart(shop: Shop) -> None:
    shop.edit(TOTALS, "SUM(amount)", "2 * SUM(amount)")


def add_a_column(shop: Shop) -> None:
    shop.edit(ITEMS, "COUNT(*)::BIGINT AS n", "COUNT(*)::BIGINT AS n, MIN(id)::BIGINT AS first_id")


def describe(shop: Shop) -> None:
    shop.edit(ITEMS, "grain name", "grain name, description 'Things'")


def declare_a_column(shop: Shop) -> None:
    shop.edit(
        "sqlmesh/external_models/shop.yaml", "amount: BIGINT,", "amount: BIGINT, tip: BIGINT,"
    )


def read_another_model(shop: Shop) -> None:
    shop.edit(CUSTOMERS, CUSTOMERS_READ, f"{CUSTOMERS_READ} CROSS JOIN marts.items")


def rename_a_model(shop: Shop) -> None:
    shop.edit(ITEMS, "name marts.items", "name marts.things")


def add_a_model(shop: Shop) -> None:
    shop.write("sqlmesh/models/more.sql", "MODEL (name marts.more); SELECT 1 AS one")


def add_a_model_in_a_folder_of_any_name(shop: Shop) -> None:
    shop.write("sqlmesh/models/tests/.more.sql", "MODEL (name marts.more); SELECT 1 AS one")


def remove_a_model(shop: Shop) -> None:
    (shop.folder / ITEMS).unlink()


def add_an_audit(shop: Shop) -> None:
    shop.write(
        "sqlmesh/audits/all_paid.sql",
        "AUDIT (name all_paid, standalone TRUE); SELECT * FROM marts.totals WHERE amount = 0",
    )


# What is loaded, or None for the whole project.
EDITS: list[tuple[Callable[[Shop], None], set[str] | None]] = [
    (touch_nothing, set()),
    (change_a_mart, {"totals", "customers"}),
    (add_a_column, {"items"}),
    (describe, {"items"}),
    (
        declare_a_column,
        {"stg_shop__orders", "stg_shop__orders__items", "totals", "customers", "items"},
    ),
    (read_another_model, {"customers"}),
    (rename_a_model, {"items"}),
    (add_a_model, None),
    (add_a_model_in_a_folder_of_any_name, None),
    (remove_a_model, None),
    (add_an_audit, None),
]


@pytest.mark.parametrize(("edit", "loaded"), EDITS, ids=[e.__name__ for e, _ in EDITS])
def test_a_part_tells_what_the_whole_would(
    shop: Shop, edit: Callable[[Shop], None], loaded: set[str] | None
) -> None:
    noted = shop.data / "cache" / "built_prod.json"
    kept = noted.read_bytes()
    edit(shop)
    try:
        part = find_part(shop.settings, "prod", frozenset())
        names = part and {name.split('"')[-2] for name in part.models}
        assert names == loaded
        told = show_plan(shop.settings, "prod", 0)
        noted.unlink()
        assert told == show_plan(shop.settings, "prod", 0)
        assert len(told) > 1 or edit in (touch_nothing, add_an_audit)
    finally:
        noted.write_bytes(kept)
        for path, text in FILES.items():
            shop.write(path, text)
        for path in ("models/more.sql", "models/tests/.more.sql", "audits/all_paid.sql"):
            (shop.folder / "sqlmesh" / path).unlink(missing_ok=True)


def test_a_table_that_no_model_reads_is_looked_at_when_it_differs(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shop.copy(tmp_path / "shop")
    noted, unread = other.data / "cache" / "built_prod.json", "sqlmesh/external_models/more.yaml"
    more = "- {name: shop_raw.more, columns: {id: BIGINT}}\n"
    other.write(unread, more)
    monkeypatch.setenv("ETL_TRANSFORM__APPROVE", "auto")
    assert main(["plan", "--apply", "--project", str(other.folder)]) == 0
    built = noted.read_bytes()

    other.write(unread, more + more.replace("more", "new"))
    assert find_part(other.settings, "prod", frozenset()) is None, "nothing is known of it"

    other.write(unread, more)
    change_a_mart(other)
    part = find_part(other.settings, "prod", frozenset())
    with copied_project(other.settings, "prod", part) as project:
        assert not [name for name in project.context.models if "more" in name]

    for text in ("- {name: shop_raw.more, columns: {id: BIGINT, tip: BIGINT}}\n", ""):
        other.write(unread, text)
        assert find_part(other.settings, "prod", frozenset()) is not None
        told = show_plan(other.settings, "prod", 0)
        assert any("shop_raw.more" in line for line in told)
        noted.unlink()
        assert told == show_plan(other.settings, "prod", 0)
        noted.write_bytes(built)


def test_what_somebody_else_built_is_looked_at_whole(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shop.copy(tmp_path / "shop")
    assert find_part(other.settings, "prod", frozenset()) is not None
    noted = other.data / "cache" / "built_prod.json"
    noted.write_text(noted.read_text().replace('"made_by":"', '"made_by":"another '))
    assert find_part(other.settings, "prod", frozenset()) is None
    change_a_mart(other)
    with monkeypatch.context() as patch:
        patch.setenv("ETL_TRANSFORM__APPROVE", "auto")
        assert main(["plan", "--apply", "--project", str(other.folder)]) == 0
    noted.write_bytes((shop.data / "cache" / "built_prod.json").read_bytes())
    assert find_part(other.settings, "prod", frozenset()) is None
    assert find_part(other.settings, "dev_ann", frozenset()) is None


def test_what_a_killed_process_left_of_the_state_is_read_too(shop: Shop, tmp_path: Path) -> None:
    other = shop.copy(tmp_path / "shop")
    path = other.data / "state.duckdb"
    code = (
        "import duckdb, os, signal; c = duckdb.connect(os.environ['STATE']); "
        "c.execute(\"UPDATE sqlmesh._environments SET plan_id = 'another'\"); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env={"STATE": str(path)}, check=False)
    assert path.with_name("state.duckdb.wal").exists()
    change_a_mart(other)
    told = show_plan(other.settings, "prod", 0)
    assert "transform: 3 models as before: a run evaluates what is new in raw" in told
    with copied_project(other.settings, "prod") as project:
        assert project.plan_id() == "another"
