"""A view shows what it reads as it is now: it is published only as its audits have seen it."""

from __future__ import annotations

from etl.errors import ExitCode
from tests.integration.projects import Shop
from tests.integration.test_options import add_second_source, second_source

VIEW = """
MODEL (
  name marts.live, kind VIEW, grain id, audits (forall(criteria := (amount >= 0)))
);
SELECT id, amount FROM {}
"""
STAGING, RAW = "staging.stg_shop__orders", "shop_raw.orders"


def show(shop: Shop, query: str) -> None:
    shop.write("sqlmesh/models/live.sql", VIEW.format(query))
    shop.publish("marts.live")


def mend(shop: Shop, bad: str) -> None:
    shop.query(f"UPDATE shop_raw.orders SET amount = 5 WHERE _dlt_load_id = '{bad}'")


def live(shop: Shop) -> list[int]:
    return [i for i, *_ in shop.published("live")]


def test_view_of_raw_is_not_published_before_it_is_audited(shop: Shop) -> None:
    show(shop, RAW)
    assert shop.go_on().exit_code == 0
    assert shop.run("load").exit_code == 0
    bad = shop.bring((3, "eve", -5))
    record = shop.run("load")
    assert (record.exit_code, live(shop)) == (ExitCode.DATA_QUALITY, [1, 2])
    assert "changed since its audits" in record.failures[0].message
    assert {x.model: x.status for x in record.loads}["marts.totals"] == "unchanged"
    assert shop.go_on().exit_code == ExitCode.DATA_QUALITY
    assert live(shop) == [1, 2]
    mend(shop, bad)
    assert shop.go_on().exit_code == 0
    assert live(shop) == [1, 2, 3]
    folder = shop.data / "dlt/shop/load/normalized/1.5/started_jobs"
    folder.mkdir(parents=True)
    (folder / "orders.parquet").touch()
    assert shop.run("load").exit_code == ExitCode.DATA_QUALITY, "a package is partly in raw"


def test_view_that_becomes_a_table_waits_for_nothing(shop: Shop) -> None:
    show(shop, RAW)
    assert shop.go_on().exit_code == 0
    shop.edit("sqlmesh/models/live.sql", "kind VIEW", "kind FULL")
    assert shop.go_on().exit_code == 0
    shop.bring((3, "eve", -5))
    assert shop.run("load").exit_code == 0
    assert live(shop) == [1, 2]


def test_view_outside_of_a_selection_waits_for_the_next_whole_run(shop: Shop) -> None:
    show(shop, STAGING)
    assert shop.go_on().exit_code == 0
    bad = shop.bring((3, "eve", -5))
    assert shop.run("transform", "audit", "load", select=["marts.items"]).exit_code == 0
    for stages in (("transform",), ("transform", "audit", "load")):
        assert shop.run(*stages, select=[STAGING]).exit_code == 0
        record = shop.run("load")
        assert (record.exit_code, live(shop)) == (ExitCode.DATA_QUALITY, [1, 2])
    assert shop.go_on().exit_code == ExitCode.DATA_QUALITY
    mend(shop, bad)
    assert shop.go_on().exit_code == 0
    assert live(shop) == [1, 2, 3]


def test_view_of_two_sources_waits_for_the_one_that_failed(shop: Shop) -> None:
    add_second_source(shop)
    Shop(shop.folder / "second").sell((7, "kim", 7))
    show(shop, f"{STAGING} UNION ALL SELECT id, amount FROM staging.stg_second__orders")
    assert shop.run().exit_code == 0
    assert live(shop) == [1, 2, 7]
    good = second_source(shop)
    broken = good.replace('/second"', '/second", nonsense: 1')
    assert broken != good
    shop.edit("config/etl.yaml", good, broken)
    shop.sell((3, "eve", -5))
    record = shop.run()
    assert record.exit_code not in (ExitCode.OK, ExitCode.DATA_QUALITY)
    assert {x.model: x.status for x in record.loads}["marts.live"] == "held_back"
    assert live(shop) == [1, 2, 7]
    shop.edit("config/etl.yaml", broken, good)
    assert shop.run().exit_code == ExitCode.DATA_QUALITY
    assert live(shop) == [1, 2, 7]


def test_view_is_audited_whether_it_is_evaluated_or_not(shop: Shop) -> None:
    names = {"live": True, "whole_days": False}
    for name, is_evaluated in names.items():
        text = VIEW.format(STAGING).replace("marts.live", f"marts.{name}")
        text = text.replace("grain id", f"grain id, allow_partials {is_evaluated}")
        shop.write(f"sqlmesh/models/{name}.sql", text)
        shop.publish(f"marts.{name}")

    def ids() -> list[list[int]]:
        return [[i for i, *_ in shop.published(name)] for name in names]

    assert shop.go_on().exit_code == 0
    bad = shop.bring((3, "eve", -5))
    record = shop.go_on()
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert {f.subject for f in record.failures} >= {f"marts.{name}" for name in names}
    assert ids() == [[1, 2], [1, 2]]
    mend(shop, bad)
    assert (shop.go_on().exit_code, ids()) == (ExitCode.OK, [[1, 2, 3], [1, 2, 3]])
