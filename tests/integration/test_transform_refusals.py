"""Models that would break the promise are refused before anything of them is built."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from etl.errors import ExitCode, StageError
from etl.planning import show_plan
from etl.project.refusals import find_unfit
from etl.stages.forecast import copied_project
from etl.warehouse import look_into
from tests.integration.projects import Shop

# A model that takes the place of raw's own table, one that never begins, one that doubles rows, one
# that moves the days of others, one that adds up what was evaluated together, and one whose query
# SQLMesh turns into another: `SELECT o.id FROM marts.newer`.
UNFIT = {
    "raw": "MODEL (name shop_raw._dlt_version, kind FULL); SELECT 1 AS id",
    "start": "MODEL (name marts.late, kind FULL, start '2999-01-01'); SELECT 1 AS id",
    "append": (
        "MODEL (name marts.appended, kind INCREMENTAL_UNMANAGED); "
        "SELECT id FROM staging.stg_shop__orders WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz"
    ),
    "itself": (
        "MODEL (name marts.newer, kind INCREMENTAL_UNMANAGED, columns (id BIGINT)); "
        "SELECT id FROM staging.stg_shop__orders AS o "
        "WHERE id NOT IN (SELECT id FROM marts.newer)"
    ),
    "setting": (
        "MODEL (name marts.zoned, kind FULL); SET TimeZone = 'Pacific/Auckland'; "
        "SELECT id, _loaded_at::DATE AS loaded_on FROM staging.stg_shop__orders"
    ),
    "window": (
        "MODEL (name marts.running, kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at)); "
        "SELECT _loaded_at, SUM(amount) OVER (ORDER BY _loaded_at) AS total "
        "FROM staging.stg_shop__orders WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz"
    ),
    "capitals": (
        "MODEL (name marts.loud, kind FULL, dialect snowflake); "
        "SELECT id FROM staging.stg_shop__orders"
    ),
}
TOLD = {
    "raw": "shop_raw._dlt_version: a table of that name stands in the warehouse, and would be lost",
    "start": "marts.late: its start 2999-01-01 is to come",
    "append": "marts.appended: it appends its rows again",
    "setting": "marts.zoned: SET TimeZone in it holds for all models after it",
    "window": "marts.running: the window of SUM(amount) sees the rows of one interval alone",
    "capitals": "MARTS.LOUD: the dialect snowflake writes names in capitals",
    "itself": "marts.newer: SQLMesh takes id, in a subquery of itself, for a column of",
}


def test_unfit_models_are_refused_and_the_others_go_on(shop: Shop) -> None:
    for case, text in UNFIT.items():
        shop.write(f"sqlmesh/models/unfit/{case}.sql", text)
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    told = [f.message for f in record.failures]
    assert len(told) == len(TOLD)
    for text in TOLD.values():
        assert any(message.startswith(text) for message in told), text
    assert all(f.hint for f in record.failures)
    assert shop.published("totals") == [("ann", 50), ("bob", 200), ("eve", 5)]
    assert shop.query("SELECT version FROM shop_raw._dlt_version"), "raw is as it was"
    assert shop.go_on((4, "eve", 5)).exit_code == ExitCode.TRANSFORM
    foreseen = shop.go_on(dry_run=True)
    assert [f.message for f in foreseen.failures] == told
    with pytest.raises(StageError) as caught:
        show_plan(shop.settings, "prod", 0)
    assert [str(e) for e in caught.value.failures] == told
    shutil.rmtree(shop.folder / "sqlmesh/models/unfit")
    assert shop.go_on().exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 10)


def test_model_that_becomes_unfit_keeps_its_version_with_what_reads_it(shop: Shop) -> None:
    text = shop.text("sqlmesh/models/totals.sql")
    shop.edit("sqlmesh/models/totals.sql", "kind FULL", "kind FULL, start '2999-01-01'")
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.published("customers") == [("ann", False), ("bob", True)]
    assert shop.published("items") == [("cup", 2), ("tea", 3)]
    shop.write("sqlmesh/models/totals.sql", text)
    assert shop.go_on().exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 5)


def test_model_that_appends_what_it_has_not_is_let_through(shop: Shop) -> None:
    shop.write(
        "sqlmesh/models/appended.sql",
        "MODEL (name marts.appended, kind INCREMENTAL_UNMANAGED, columns (id BIGINT)); "
        "SELECT id FROM staging.stg_shop__orders "
        "WHERE id NOT IN (SELECT a.id FROM marts.appended AS a)",
    )
    shop.publish("marts.appended")
    for orders in ((3, "eve", 5),), ((4, "eve", 5),):
        assert shop.go_on(*orders).exit_code == 0
    assert shop.published("appended") == [(1,), (2,), (3,), (4,)]


PYTHON = """
from sqlmesh import model


@model("marts.copied", kind="FULL", columns={{"id": "int"}}, {depends})
def execute(context, **kwargs):
    return context.fetchdf("SELECT id FROM staging.stg_shop__orders")
"""


def test_model_that_is_read_unseen_is_named(shop: Shop) -> None:
    """It would be read before it is up to date, whatever its audits say."""
    shop.write("sqlmesh/models/copied.py", PYTHON.format(depends=""))
    shop.publish("marts.copied")
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.copied")
    assert "it reads staging.stg_shop__orders unseen" in failure.message
    depends = "depends_on=['staging.stg_shop__orders']"
    shop.write("sqlmesh/models/copied.py", PYTHON.format(depends=depends))
    assert shop.go_on().exit_code == 0
    assert shop.published("copied") == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("SET SESSION schema = 'staging'", True),
        ("USE staging", True),
        ("PRAGMA default_null_order='nulls_first'", True),
        ("SET VARIABLE schema = 'staging'", False),
        ("SET threads = 1", False),
    ],
)
def test_statement_that_changes_other_models_is_refused(
    shop: Shop, statement: str, refused: bool
) -> None:
    shop.edit("sqlmesh/models/items.sql", ");\nSELECT", f");\n{statement};\nSELECT")
    assert bool(refusals(shop)) == refused


@pytest.mark.parametrize(
    ("time", "cron", "selected", "told"),
    [
        (
            "(d, '%d.%m.%Y')",
            "@daily",
            "STRFTIME(_loaded_at, '%d.%m.%Y')",
            "01.02.2026 is before 31",
        ),
        ("(d, '%m/%Y')", "@monthly", "STRFTIME(_loaded_at, '%m/%Y')", "01/2027 is before 10/2026"),
        ("(d, '%Y%m%d')", "@daily", "STRFTIME(_loaded_at, '%Y%m%d')", ""),
        ("d", "@hourly", "_loaded_at::DATE", "d is a day, and its query asks for the hours of one"),
        ("d", "@daily", "_loaded_at::DATE", ""),
        ("d", "@daily", "DATE_TRUNC('month', _loaded_at)::DATE", "d is the first of a month"),
        ("d", "@monthly", "DATE_TRUNC('month', _loaded_at)::DATE", ""),
    ],
)
def test_time_column_whose_values_are_not_those_of_the_interval_is_refused(
    shop: Shop, time: str, cron: str, selected: str, told: str
) -> None:
    """SQLMesh deletes, and keeps, what lies between the ends, as values of the column."""
    shop.write(
        "sqlmesh/models/timed.sql",
        f"MODEL (name marts.timed, kind INCREMENTAL_BY_TIME_RANGE (time_column {time}), "
        f"cron '{cron}'); SELECT {selected} AS d, id FROM staging.stg_shop__orders "
        "WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz",
    )
    assert [told in text for text in refusals(shop)] == ([True] if told else [])


def refusals(shop: Shop) -> list[str]:
    """What a run would say of its models."""
    with copied_project(shop.settings, "prod") as project, look_into(shop.warehouse) as connection:
        return [str(e) for e in find_unfit(project, connection, datetime.now(UTC)).values()]


def test_dialect_of_capitals_is_used_in_small_letters(shop: Shop) -> None:
    shop.edit(
        "sqlmesh/models/items.sql", "grain name",
        "grain name, dialect 'snowflake, normalization_strategy=lowercase'",
    )  # fmt: skip
    for orders in ((3, "eve", 5),), ((4, "eve", 5),):
        assert shop.go_on(*orders).exit_code == 0
    assert shop.published("items") == [("cup", 2), ("tea", 4)]


@pytest.mark.parametrize("where", ["FROM", "before"])
def test_table_of_another_model_is_not_read_past_it(shop: Shop, where: str) -> None:
    table = shop.physical("staging.stg_shop__orders")
    before = f"CREATE OR REPLACE TEMP TABLE t AS FROM {table}; SELECT id FROM t"
    query = f"SELECT id FROM {table}" if where == "FROM" else before
    shop.write("sqlmesh/models/copied.sql", f"MODEL (name marts.copied, kind FULL); {query}")
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.copied")
    assert "it reads sqlmesh__staging." in failure.message


@pytest.mark.parametrize(
    "text",
    [
        "- {name: orders, columns: {id: BIGINT}}",
        "- {name: shop_raw.more, columns: {id: NO_SUCH_TYPE}}",
        "- shop_raw.more",
    ],
    ids=["no schema", "no type", "no table"],
)
def test_external_model_that_cannot_be_made_is_a_configuration_error(shop: Shop, text: str) -> None:
    shop.write("sqlmesh/external_models/more.yaml", text)
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.CONFIG, record.failures
    assert "external_models" in record.failures[0].message
    assert record.failures[0].hint
    shop.write("sqlmesh/external_models/more.yaml", "- name: elsewhere.more")
    assert shop.go_on().exit_code == 0


def test_audit_that_reads_a_model_of_another_time_is_refused(shop: Shop) -> None:
    shop.write(
        "sqlmesh/audits/known.sql",
        "AUDIT (name known); SELECT t.customer FROM @this_model AS t "
        "ANTI JOIN marts.later AS l ON t.customer = l.customer",
    )
    shop.write(
        "sqlmesh/models/later.sql",
        "MODEL (name marts.later, kind FULL); SELECT customer FROM staging.stg_shop__orders",
    )
    shop.edit("sqlmesh/models/totals.sql", "audits (", "audits (known,")
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.totals")
    assert "its audit known reads marts.later" in failure.message
    shop.edit("sqlmesh/models/totals.sql", "audits (", "depends_on (marts.later), audits (")
    assert shop.go_on().exit_code == 0
    assert shop.go_on((4, "kim", 5)).exit_code == 0
    assert shop.published("totals")[-1] == ("kim", 5)
