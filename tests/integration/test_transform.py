"""What was extracted is in the marts in the same run, and counted on the way."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from etl.cli import main
from etl.demo import ACTORS, Replay
from etl.errors import ExitCode
from tests.followers import KINDS, difference, listed
from tests.integration import shop_reference
from tests.integration.conftest import FirstRun, Template
from tests.integration.projects import Bluesky, Shop
from tests.processes import start_cold

FIRST, SECOND = date(2026, 1, 1), date(2026, 1, 2)


@pytest.fixture(scope="module")
def second_run(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A second run of the day, with a package that came late and one that is not committed."""
    shop = template.copy(tmp_path_factory.mktemp("second") / "shop")
    # The first was created long before the first run, committed only now: as after a crash.
    shop.query(
        "INSERT INTO shop_raw.orders (id, customer, amount, _dlt_load_id, _dlt_id) VALUES "
        "(12, 'eve', 7, '1000000000.5', 'late'), (13, 'kim', 8, '1000000000.6', 'half'); "
        "INSERT INTO shop_raw._dlt_loads (load_id, schema_name, status, inserted_at) "
        "VALUES ('1000000000.5', 'shop', 0, now())"
    )
    shop.sell((3, "ann", 60))
    record = shop.run()
    assert record.exit_code == 0, record.failures
    return shop


@pytest.fixture(scope="module")
def bluesky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bluesky]:
    """Two days of the replay, the second one run twice."""
    with Replay(FIRST, cache=True) as replay:
        folder = tmp_path_factory.mktemp("bluesky") / "project"
        project = Bluesky(folder, replay, "*markets*", "*stock*")
        both = ("bluesky", "shop")
        for day, sources in ((FIRST, both), (SECOND, both), (SECOND, ("bluesky",))):
            record = project.run(day, sources=sources)
            assert record.exit_code == 0, record.failures
        yield project


def test_extracted_rows_are_in_the_marts_when_the_run_ends(first_run: FirstRun) -> None:
    record, shop = first_run.record, first_run.shop
    assert (record.exit_code, record.partial) == (0, False)
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.published("customers") == [("ann", False), ("bob", True)]
    assert shop.published("items") == [("cup", 2), ("tea", 2)]


def test_record_has_each_model_with_its_rows(first_run: FirstRun) -> None:
    models = {m.name: m for m in first_run.record.models}
    assert {n: m.rows for n, m in models.items()} == {
        "staging.stg_shop__orders": 2,
        "staging.stg_shop__orders__items": 4,
        "marts.totals": 2,
        "marts.customers": 2,
        "marts.items": 2,
    }
    assert {m.status for m in models.values()} == {"ok"}
    assert all(m.intervals >= 1 for m in models.values())


def test_a_run_forks_no_process(first_run: FirstRun) -> None:
    assert first_run.forks == 0, "a process with DuckDB's and dlt's threads must not fork"


def test_second_run_of_a_day_brings_its_rows_too(second_run: Shop) -> None:
    assert ("ann", 110) in second_run.published("totals")


def test_package_with_an_older_load_id_that_was_committed_late_is_transformed(
    second_run: Shop,
) -> None:
    assert ("eve", 7) in second_run.published("totals")


def test_package_that_is_not_committed_reaches_no_mart(second_run: Shop) -> None:
    found = second_run.published("totals")
    assert [customer for customer, _ in found] == ["ann", "bob", "eve"]
    assert second_run.query("SELECT customer FROM shop_raw.orders WHERE id = 13") == [("kim",)]


@pytest.mark.slow
@pytest.mark.parametrize("actor", ACTORS)
def test_second_day_shows_exactly_who_came_left_and_was_renamed(
    bluesky: Bluesky, actor: str
) -> None:
    expected = difference(actor, "followers", FIRST, SECOND)
    rows = bluesky.mart(
        "SELECT change, did, handle, previous_handle FROM follower_changes "
        f"WHERE actor = '{actor}' AND changed_on = DATE '{SECOND}'"
    )
    assert {r[1] for r in rows if r[0] == "gained"} == expected.gained
    assert {r[1] for r in rows if r[0] == "lost"} == expected.lost
    assert {r[1]: (r[3], r[2]) for r in rows if r[0] == "renamed"} == expected.renamed
    assert len(rows) == len(expected.gained) + len(expected.lost) + len(expected.renamed)


@pytest.mark.slow
def test_the_shops_generated_models_and_its_mart_equal_plain_python(bluesky: Bluesky) -> None:
    expected = shop_reference.Shop(SECOND, FIRST)
    for table, rows in expected.tables().items():
        columns = ", ".join(shop_reference.COLUMNS[table])
        own = len(shop_reference.COLUMNS[table])
        found = bluesky.staged(f"SELECT {columns} FROM staging.stg_shop__{table}")
        # The reference's nested rows begin with their place.
        assert Counter(found) == Counter(row[-own:] for row in rows), table
    orders = bluesky.mart("SELECT id, customers__id FROM fact_shop__orders ORDER BY id")
    assert orders == sorted((o["id"], o["customer_id"]) for o in expected.orders())
    revenue = {
        (day, None if country == "--" else country, company or None): eur
        for day, country, company, eur in bluesky.mart(
            "SELECT order_date, country_code, company_id, revenue_eur FROM revenue_daily"
        )
    }
    assert revenue == expected.revenue()


@pytest.mark.slow
@pytest.mark.parametrize("actor", ACTORS)
def test_day_with_two_runs_counts_nobody_twice(bluesky: Bluesky, actor: str) -> None:
    expected = difference(actor, "followers", FIRST, SECOND)
    daily = bluesky.mart(
        "SELECT snapshot_date, followers_count, follows_count, gained_count, lost_count "
        f"FROM followers_daily WHERE actor = '{actor}' ORDER BY 1"
    )
    followers, follows = ([listed(actor, kind, day) for day in (FIRST, SECOND)] for kind in KINDS)
    assert daily == [
        (FIRST, len(followers[0]), len(follows[0]), None, None),
        (SECOND, len(followers[1]), len(follows[1]), len(expected.gained), len(expected.lost)),
    ]
    mutual = {p["did"] for p in followers[1]} & {p["did"] for p in follows[1]}
    found = bluesky.mart(f"SELECT did FROM mutuals WHERE actor = '{actor}'")
    assert sorted(str(d) for (d,) in found) == sorted(map(str, mutual))


# -- raw and staging agree -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "items", "idle"),
    [
        (
            ("DELETE FROM {table} WHERE id = 1", 2, 1),
            ("DELETE FROM {table} WHERE name = 'cup'", 4, 2),
            True,
        ),
        (
            ("INSERT INTO {table} FROM {table} WHERE id = 1", 2, 3),
            ("INSERT INTO {table} FROM {table}", 4, 8),
            False,
        ),
    ],
    ids=["lost, idle", "doubled"],
)
def test_lost_or_doubled_rows_end_with_12(
    aged: Shop, orders: tuple[str, int, int], items: tuple[str, int, int], idle: bool
) -> None:
    ((load_id,),) = aged.query("SELECT DISTINCT _dlt_load_id FROM shop_raw.orders")
    # Its rows are of two days ago: no interval that a run evaluates by itself.
    before = [aged.published(mart) for mart in ("totals", "items")]
    changed = {"staging.stg_shop__orders": orders, "staging.stg_shop__orders__items": items}
    for model, (change, _, _) in changed.items():
        aged.query(change.format(table=aged.physical(model)))
    record = aged.go_on(*() if idle else ((3, "eve", 1),))
    assert record.exit_code == ExitCode.RECONCILIATION
    failures = {f.subject: f for f in record.failures if f.exit_code == ExitCode.RECONCILIATION}
    wrong = {r.subject: r for r in record.reconciliations if not r.agrees}
    assert failures.keys() == wrong.keys() == changed.keys()
    for model, (_, expected, found) in changed.items():
        told = failures[model].message
        assert all(str(part) in told for part in (model, load_id, expected, found)), told
        one = wrong[model]
        assert (one.load_id, one.expected, one.found) == (load_id, expected, found), model
    assert [aged.published(mart) for mart in ("totals", "items")] == before, (
        "published all the same"
    )
    # The commands of the hints mend it.
    for failure in failures.values():
        command = failure.hint.partition("`etl run ")[2].partition("`")[0]
        code = main(["run", *command.split(), "--project", str(aged.folder)])
        assert code == 0, failure.hint
    assert aged.go_on().exit_code == 0
    names = ["ann", "bob"] if idle else ["ann", "bob", "eve"]
    assert [c for c, _ in aged.published("totals")] == names
    assert aged.published("items") == [("cup", 2), ("tea", 2 if idle else 3)]


def test_package_that_moves_out_of_its_interval_ends_with_12(shop: Shop) -> None:
    shop.query("UPDATE shop_raw._dlt_loads SET inserted_at = inserted_at - INTERVAL 3 DAY")
    record = shop.go_on()
    assert record.exit_code == ExitCode.RECONCILIATION
    assert "has 2 rows in raw and 0 in staging" in record.failures[0].message
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


def test_filtered_staging_model_is_not_counted(shop: Shop) -> None:
    shop.edit("sqlmesh/models/orders.sql", "grain _dlt_id,", "grain _dlt_id, tags (filtered),")
    shop.edit("sqlmesh/models/orders.sql", "WHERE packages", "WHERE raw.id > 1 AND packages")
    record = shop.go_on()
    assert record.exit_code == 0, record.failures
    assert shop.published("totals") == [("bob", 200)]


def rebuild_whole(shop: Shop, disposition: str, where: str = "") -> None:
    """Make the staging models `FULL`, over a raw table that is written so."""
    shop.edit("config/etl.yaml", '{folder: "', f'{{disposition: {disposition}, folder: "')
    for name, root in (("orders", "raw"), ("order_items", "parents")):
        model = f"sqlmesh/models/{name}.sql"
        shop.edit(model, "INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at)", "FULL")
        shop.edit(
            model,
            "WHERE packages.inserted_at BETWEEN @start_tstz AND @end_tstz",
            where.format(root),
        )


@pytest.mark.parametrize(
    ("disposition", "rows"), [("append", [1, 2, 2, 3]), ("replace", [2, 3]), ("merge", [1, 2, 3])]
)
def test_staging_that_is_rebuilt_whole_is_counted(
    fresh: Shop, disposition: str, rows: list[int]
) -> None:
    names = ["staging.stg_shop__orders", "staging.stg_shop__orders__items"]
    rebuild_whole(fresh, disposition, "WHERE {}.id > 1")
    fresh.sell((1, "ann", 1), (2, "ann", 1))
    record = fresh.run()
    assert record.exit_code == ExitCode.RECONCILIATION, "a row was lost"
    assert [f.subject for f in record.failures] == names
    assert "has 2 rows in raw and 1 in staging" in record.failures[0].message
    assert {x.status for x in record.loads} == {"held_back"}
    for name in ("orders", "order_items"):
        fresh.edit(f"sqlmesh/models/{name}.sql", ".id > 1", ".id > 0")
    fresh.sell((2, "ann", 1), (3, "ann", 1))
    record = fresh.run()
    assert record.exit_code == 0, record.failures
    assert [(r.between, r.subject, r.expected, r.found) for r in record.reconciliations] == [
        ("api-raw", "shop_raw.orders", 2, 2),
        *(("raw-staging", name, 2, 2) for name in names),
    ]
    assert [i for (i,) in fresh.query("SELECT id FROM staging.stg_shop__orders ORDER BY 1")] == rows


def test_casts_of_times_are_in_utc_whatever_zone_the_process_has(shop: Shop) -> None:
    shop.write(
        "sqlmesh/models/times.sql",
        "MODEL (name marts.times, kind FULL, grain day, audits ("
        "forall(criteria := (at = '2026-01-01T00:00:00Z'::TIMESTAMPTZ)))); "
        "SELECT midnight::TIMESTAMPTZ AS at, one::TIMESTAMPTZ::DATE AS day "
        "FROM (VALUES ('2026-01-01', '2026-01-01T01:00:00Z')) AS _(midnight, one)",
    )
    shop.publish("marts.times")
    # Cold: a forked process keeps the zone that its parent's DuckDB found.
    stages = ["run", "--stage", "transform", "--stage", "audit", "--stage", "load"]
    job = start_cold(stages, shop.folder, shop.environment(TZ="America/St_Johns"))
    _, errors = job.communicate(timeout=100)
    assert job.returncode == 0, errors
    assert shop.published("times") == [(datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1))]


# -- nothing new -----------------------------------------------------------------------------


def test_idle_run_evaluates_nothing(shop: Shop) -> None:
    record = shop.run()
    assert (record.exit_code, record.models, record.audits) == (0, (), ())
    assert {x.status for x in record.loads} == {"unchanged"}


@pytest.mark.parametrize(
    "change",
    ["model", "macro", "verdict", "plan", "day", "state", "restate", "setting"],
)
def test_idle_run_evaluates_when_anything_may_have_changed(shop: Shop, change: str) -> None:
    options: dict[str, object] = {}
    if change == "model":
        shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "COUNT(*) + 1")
    elif change == "macro":
        shop.write("sqlmesh/macros/m.py", "x = 1\n")
    elif change == "verdict":
        shop.query(
            "UPDATE etl_meta.model_states SET verdict = 'unfinished' WHERE model = 'marts.items'"
        )
    elif change == "plan":
        shop.query("UPDATE etl_meta.transformations SET plan_id = 'another'")
    elif change == "day":
        shop.query("UPDATE etl_meta.transformations SET due_at = due_at - INTERVAL 1 DAY")
    elif change == "state":
        (shop.data / "state.duckdb").unlink()
    elif change == "restate":
        options["full_refresh"] = True
    elif change == "setting":
        shop.edit("config/etl.yaml", "start: 2026-01-01", "start: 2026-01-02")
    record = shop.run("transform", **options)
    assert record.exit_code == 0
    assert record.models


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [("models/items.sql", "* 1", "* 2"), ("macros/times.py", "return 2", "return 4")],
)
def test_change_is_noticed_whatever_time_its_file_has(
    shop: Shop, part: str, old: str, new: str
) -> None:
    """As in an image that gives all files one time, and where files keep that of their origin."""
    macro = "from sqlmesh import macro\n\n\n@macro()\ndef times(evaluator):\n    return 2\n"
    shop.write("sqlmesh/macros/times.py", macro)
    shop.edit("sqlmesh/models/items.sql", "COUNT(*)", "COUNT(*) * @times() * 1")
    assert shop.run("transform", "audit", "load").exit_code == 0
    file = shop.folder / "sqlmesh" / part
    then = file.stat().st_mtime_ns
    shop.edit(f"sqlmesh/{part}", old, new)
    os.utime(file, ns=(then, then))
    assert shop.run("transform", "audit", "load").exit_code == 0
    assert shop.published("items") == [("cup", 8), ("tea", 8)]


def test_project_that_reads_elsewhere_is_never_idle(shop: Shop) -> None:
    shop.write("extra.csv", "name\ntea\n")
    shop.edit(
        "sqlmesh/models/items.sql",
        "GROUP BY name",
        f"WHERE name IN (SELECT x.name FROM READ_CSV('{shop.folder}/extra.csv') AS x) "
        "GROUP BY name",
    )
    assert shop.go_on().exit_code == 0
    assert shop.published("items") == [("tea", 2)]
    shop.write("extra.csv", "name\ncup\n")
    assert shop.go_on().exit_code == 0
    assert shop.published("items") == [("cup", 2)]


def test_source_that_no_model_reads_is_told(shop: Shop) -> None:
    shop.edit("config/etl.yaml", "sources:\n  shop:", "sources:\n  store:")
    shop.sell((3, "eve", 5))
    record = shop.run()
    assert record.exit_code == 0, record.failures
    unread, unknown = sorted(record.warnings)
    assert "no model reads store_raw, so what store brought is in no mart" in unread
    assert unknown.startswith("shop_raw is of a source that the settings do not name")
    assert shop.run().warnings == (unknown,), "nothing came"
