"""A model that fails holds back what depends on it, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Never

import duckdb
import pytest
from sqlmesh.utils.errors import SQLMeshError

from etl.errors import ExitCode
from etl.job import run_job
from etl.past_runs import last_failed
from etl.project.engine import read_models
from etl.records import Options, RunRecord
from etl.secrets import MASK
from tests.contract.process import wait_for
from tests.duckdb_files import opened
from tests.integration.conftest import Template
from tests.integration.projects import Shop
from tests.processes import Process, run_etl

AUDIT = "forall(criteria := (amount >= 0))"
# A blocking audit that fails, SQL that fails when it runs, SQL that fails when it is made: how the
# model was and how it is broken, the code, how the failure is told, what caused it.
BROKEN = {
    "audit": (
        AUDIT, "forall(criteria := (amount > 60))", ExitCode.DATA_QUALITY,
        "audit forall failed on marts.totals: ", "",
    ),
    "run time": (
        "SUM(amount)::BIGINT", "SUM(('x' || amount)::INT)::BIGINT", ExitCode.TRANSFORM,
        "marts.totals: failed: ", "ConversionException",
    ),
    "binding": (
        "SUM(amount)", "SUM(no_such_function(amount))", ExitCode.TRANSFORM,
        "marts.totals: failed: ", "",
    ),
}  # fmt: skip


def test_cache_that_may_not_be_written_is_no_models_fault(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Never:
        raise PermissionError(errno.EACCES, "Permission denied", "cache")

    monkeypatch.setattr("etl.project.engine.ProjectContext.load", refuse)
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "2 * SUM(amount)")
    record = shop.go_on()
    assert record.exit_code == ExitCode.RESOURCES
    assert record.failures[0].message == "Permission denied: cache"


def test_staging_that_nobody_has_generated_yet_is_named(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "stg_shop__orders", "stg_shop__order")
    record = shop.go_on()
    assert record.exit_code == ExitCode.TRANSFORM
    (failure,) = [f for f in record.failures if f.subject == "marts.totals"]
    assert failure.hint.startswith("no model makes staging.stg_shop__order: `etl generate` writes")


def test_what_was_held_back_is_published_by_a_retry(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", AUDIT, "forall(criteria := (amount > 60))")
    assert shop.go_on((3, "eve", 5)).exit_code == ExitCode.DATA_QUALITY
    shop.edit("sqlmesh/models/totals.sql", "forall(criteria := (amount > 60))", AUDIT)
    assert run_job(shop.settings, Options(), resume=last_failed).exit_code == ExitCode.OK
    assert ("eve", 5) in shop.published("totals")
    assert ("eve", False) in shop.published("customers")


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("first", [True, False], ids=["first plan", "later plan"])
def test_failing_model_holds_back_only_what_reads_it(
    tmp_path: Path, template: Template, extracted_template: Template, kind: str, first: bool
) -> None:
    good, bad, code, message, cause = BROKEN[kind]
    shop = (extracted_template if first else template).copy(tmp_path / "shop")
    if not first:
        shop.bring((3, "eve", 5))
    shop.edit("sqlmesh/models/totals.sql", good, bad)
    record = shop.go_on()
    assert (record.exit_code, record.partial) == (code, True)
    assert {f.subject for f in record.failures} == {"marts.totals"}
    assert record.failures[0].message.startswith(message)
    assert record.failures[0].cause.startswith(cause)
    if kind == "run time":
        # Any of the rows may be the first.
        assert "Could not convert string 'x" in record.failures[0].message
    assert {m.name: m.status for m in record.models if m.status != "ok"} == {
        "marts.totals": "failed",
        "marts.customers": "held_back",
    }
    loads = {x.model: x.status for x in record.loads}
    assert loads == {
        "marts.totals": "held_back",
        "marts.customers": "held_back",
        "marts.items": "published",
    }
    assert shop.published("items") == [("cup", 2), ("tea", 2 if first else 3)]
    told = [(a.model, a.name) for a in record.audits]
    assert len(told) == len(set(told)), "told once, although the plan was applied twice"
    if not first:
        assert shop.published("totals") == [("ann", 50), ("bob", 200)]
        assert shop.published("customers") == [("ann", False), ("bob", True)]
    if kind == "audit":
        assert shop.go_on().exit_code == code, "it goes on failing, with nothing new as well"
    shop.edit("sqlmesh/models/totals.sql", bad, good)
    mended = shop.go_on()
    assert mended.exit_code == 0, mended.failures
    assert [c for c, _ in shop.published("customers")] == ["ann", "bob"] + ["eve"] * (not first)


@pytest.mark.parametrize(
    "audit", ["not_null(column := customer)", "not_null(columns := (custommer))"]
)
def test_audit_that_cannot_be_run_is_named(shop: Shop, audit: str) -> None:
    shop.edit("sqlmesh/models/totals.sql", "not_null(columns := (customer))", audit)
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert failure.exit_code == ExitCode.TRANSFORM
    assert failure.message.startswith("marts.totals: its audit not_null cannot be run: ")
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.go_on().failures[0].message == failure.message


@pytest.fixture(scope="module")
def failed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, RunRecord]:
    """A run in which seven rows fail the audit of marts.totals, and no model has changed."""
    shop = template.copy(tmp_path_factory.mktemp("failed") / "shop")
    return shop, shop.go_on(*((10 + i, f"c{i}", -1) for i in range(7)))


def test_data_that_fails_an_audit_without_any_change_of_the_models(
    failed: tuple[Shop, RunRecord], tmp_path: Path
) -> None:
    record = failed[1]
    shop = failed[0].copy(tmp_path / "shop")
    assert (record.exit_code, record.partial) == (ExitCode.DATA_QUALITY, True)
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.published("items")[-1] == ("tea", 9)
    assert shop.go_on(*((20 + i, f"c{i}", 5) for i in range(7))).exit_code == 0
    assert shop.published("totals")[-1] == ("c6", 4)


def test_file_that_a_model_reads_and_that_is_not_there_is_the_models_failure(shop: Shop) -> None:
    gone = "(SELECT * FROM read_csv('no/such/file.csv'))"
    shop.edit("sqlmesh/models/totals.sql", "FROM staging.stg_shop__orders", f"FROM {gone}")
    record = shop.go_on((3, "eve", 5))
    assert (record.exit_code, record.partial) == (ExitCode.TRANSFORM, True)
    [failure] = record.failures
    assert failure.subject == "marts.totals"
    assert "no/such/file.csv" in failure.message


def test_failed_audit_is_told_with_its_rows(failed: tuple[Shop, RunRecord]) -> None:
    shop, record = failed
    (failure,) = record.failures
    assert failure.message == "audit forall failed on marts.totals: 7 rows"
    assert failure.hint
    (audit,) = [a for a in record.audits if a.status == "failed"]
    assert (audit.model, audit.name, audit.blocking, audit.failing_rows) == (
        "marts.totals",
        "forall",
        True,
        7,
    )
    assert len(shop.query(audit.sql)) == 7, "the query of the record shows the rows"
    assert len(audit.sample) == 5
    assert all(row == {"customer": MASK, "amount": -1} for row in audit.sample)
    passed = [a for a in record.audits if a.status == "passed"]
    assert {a.model for a in passed} >= {"marts.totals", "staging.stg_shop__orders"}


def test_column_tagged_as_personal_is_masked(shop: Shop) -> None:
    shop.edit("config/etl.yaml", "pii: [customer]", "pii: []")
    shop.edit(
        "sqlmesh/models/totals.sql", "grain customer", "grain customer, tags ('pii:customer')"
    )
    (audit,) = [a for a in shop.go_on((3, "eve", -5)).audits if a.status == "failed"]
    assert audit.sample == ({"customer": MASK, "amount": -5},)


def test_file_that_a_model_lacks_is_its_own_failure_wherever_the_job_is_started(shop: Shop) -> None:
    """Nobody may write there either, as in a container's working directory."""
    shop.edit(
        "sqlmesh/models/items.sql", "GROUP BY name",
        "WHERE name IN (SELECT x.name FROM READ_CSV('/nowhere.csv') AS x) GROUP BY name",
    )  # fmt: skip
    done = run_etl(["run", "--stage", "transform"], Path("/proc"), shop.environment())
    assert done.returncode == ExitCode.TRANSFORM, done.stderr
    assert "nowhere.csv" in done.stderr


@pytest.mark.parametrize("kind", [duckdb.TransactionException, duckdb.OutOfMemoryException])
def test_failure_of_the_machine_between_models_is_no_bug(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, kind: type[duckdb.Error]
) -> None:
    """A full disk is told as a failed commit; the disk itself is asked."""

    def fail(*_: object, **__: object) -> Never:
        raise kind("Failed to commit")

    monkeypatch.setattr("etl.stages.verdicts.write_states", fail)
    monkeypatch.setattr("etl.duckdb_failures.can_write", lambda folder: folder != shop.data)
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.RESOURCES, record.failures
    monkeypatch.undo()
    assert shop.go_on().exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 5)


def test_first_run_in_which_all_models_fail_is_told_the_same_again(fresh: Shop) -> None:
    """Nothing was ever built that could be audited again."""
    fresh.sell((1, "ann", 50), items=("tea",))
    for name in "orders", "order_items":
        fresh.edit(f"sqlmesh/models/{name}.sql", "SELECT ", "SELECT error('no') AS wrong, ")
    staging = ["staging.stg_shop__orders", "staging.stg_shop__orders__items"]
    for _ in range(2):
        record = fresh.run()
        assert record.exit_code == ExitCode.TRANSFORM
        assert [f.subject for f in record.failures] == staging


def test_failed_source_leaves_its_models_as_they_were_and_no_others(shop: Shop) -> None:
    shop.edit("config/etl.yaml", "required: false", "required: true")
    shop.write("sqlmesh/models/answer.sql", "MODEL (name marts.answer, kind FULL); SELECT 42 AS n")
    shop.publish("marts.answer")
    record = shop.run()
    assert record.exit_code == ExitCode.DATA_QUALITY
    assert record.partial
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.published("answer") == [(42,)]


@pytest.mark.parametrize("ends", ["query", "audit"])
def test_signal_ends_a_query_and_the_run_is_told(shop: Shop, ends: str) -> None:
    """DuckDB would go on with it, and who opens the warehouse again would wait for ever."""
    begun = shop.folder / "begun"
    long = "SELECT SUM(HASH(range) % 1000)::BIGINT AS id FROM RANGE(60000000000)"
    shop.write(
        "sqlmesh/models/long.sql",
        f"MODEL (name marts.long, kind FULL, audits (forall(criteria := (id > ({long}))))); "
        f"COPY (SELECT 1) TO '{begun}'; {long if ends == 'query' else 'SELECT 1::BIGINT AS id'}",
    )
    # No other model is evaluated behind it, which would free what it holds.
    command = ["run", "--select", "marts.long"]
    process = Process(command, shop.folder, shop.environment(ETL_METRICS__TEXTFILE="etl.prom"))
    wait_for(begun.exists)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == ExitCode.TERMINATED, err
    # Last of all, and only by a run that need not be ended by force.
    assert (ExitCode.TERMINATED,) in shop.query("SELECT exit_code FROM etl_meta.runs")
    assert (shop.data / "runs/latest/report.html").exists()
    told = (shop.data / "etl.prom").read_text(encoding="utf-8")
    assert 'etl_run_class{class="TERMINATED",etl_job="shop"} 1.0' in told


def test_state_that_another_process_holds_ends_with_4(shop: Shop) -> None:
    shop.bring((3, "eve", 5))
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(shop.data / "state.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        record = shop.go_on()
        holder.communicate(b"\n")
    assert record.exit_code == ExitCode.CONNECTION, record.failures
    assert "another process holds it" in record.failures[0].message
    assert shop.go_on().exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 5)


def test_a_state_of_another_version_says_how_to_migrate(shop: Shop) -> None:
    with opened(shop.data / "state.duckdb") as state:
        state.execute("UPDATE sqlmesh._versions SET sqlmesh_version = '0.200.0'")
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    (failure,) = record.failures
    assert "another version" in failure.message
    assert "0.200.0" in failure.message
    assert "sqlmesh -p sqlmesh migrate" in failure.hint


EXITS = """
import sys
from sqlmesh import model


@model("marts.ending", kind="FULL", columns={"id": "int"})
def execute(context, **kwargs):
    sys.exit(0)
"""


@pytest.mark.parametrize("text", [EXITS, "import sys\nsys.exit(0)\n"], ids=["evaluated", "loaded"])
def test_model_that_ends_the_process_does_not_end_it_with_its_own_code(
    shop: Shop, text: str
) -> None:
    shop.write("sqlmesh/models/ending.py", text)
    done = shop.etl("run", "--json")
    assert done.returncode == ExitCode.TRANSFORM, done.stderr
    (failure,) = RunRecord.model_validate_json(done.stdout).failures
    assert "SystemExit: 0" in failure.message
    (shop.folder / "sqlmesh/models/ending.py").unlink()
    assert shop.go_on((3, "eve", 5)).exit_code == 0
    assert shop.published("totals")[-1] == ("eve", 5)


RAISES = """
from sqlmesh import model


def found(row):
    return row["key"]


@model("marts.raising", kind="FULL", columns={"id": "int"})
def execute(context, **kwargs):
    # What fails is in a function below this one.
    yield found({})
"""
SIGNAL = (
    "from sqlmesh import signal\n\n\n@signal()\ndef ready(batch):\n    raise ValueError('no')\n"
)
GRANT = (
    ";\nON_VIRTUAL_UPDATE_BEGIN;\nGRANT SELECT ON @this_model TO nobody;\nON_VIRTUAL_UPDATE_END;"
)


def test_what_code_of_the_project_raises_is_told_with_its_type(shop: Shop) -> None:
    shop.write("sqlmesh/models/raising.py", RAISES)
    (failure,) = shop.go_on().failures
    assert failure.message == (
        "marts.raising: failed: KeyError: 'key', "
        "at `return row['key']` of found in models/raising.py"
    )


def test_user_needs_no_home_directory(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlmesh.core.constants.SQLMESH_PATH", Path(os.devnull, ".sqlmesh"))
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == 0, record.failures
    with read_models(shop.settings) as models:
        assert models


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "variables: {rate: 2}\n"),
        ("config.py", "from sqlmesh.core.config import Config\nconfig = Config()\n"),
    ],
)
def test_configuration_of_sqlmesh_that_is_not_read_is_refused(
    shop: Shop, name: str, text: str
) -> None:
    """Models would go on with the defaults of what it says, and nobody would see."""
    shop.write(f"sqlmesh/{name}", text)
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert f"sqlmesh/{name} is not read" in failure.message
    assert failure.exit_code == ExitCode.CONFIG
    assert "`transform.variables`" in failure.hint
    assert shop.etl("plan").returncode == ExitCode.CONFIG


def test_failure_of_a_plan_names_its_model(shop: Shop) -> None:
    table = shop.physical("marts.items")
    shop.edit("sqlmesh/models/items.sql", "GROUP BY name", f"GROUP BY name{GRANT}")
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "1 + SUM(amount)")
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "marts.items")
    assert shop.published("totals") == [("ann", 51), ("bob", 201), ("eve", 6)]
    assert shop.published("items") == [("cup", 2), ("tea", 2)]
    assert shop.physical("marts.items") == table
    shop.edit("sqlmesh/models/items.sql", GRANT, "")
    assert shop.go_on().exit_code == 0
    assert shop.published("items") == [("cup", 2), ("tea", 3)]
    shop.write("sqlmesh/signals/__init__.py", SIGNAL)
    shop.edit("sqlmesh/models/items.sql", "grain name", "grain name, signals (ready())")
    (failure,) = shop.go_on().failures
    assert "'ready' for 'marts.items'" in failure.message


def test_column_that_a_table_may_not_lose_is_told_of_its_model(shop: Shop) -> None:
    kind = "kind INCREMENTAL_BY_TIME_RANGE (time_column _loaded_at, forward_only TRUE)"
    query = "SELECT id, amount, _loaded_at FROM staging.stg_shop__orders"
    files = {name: f"sqlmesh/models/{name}.sql" for name in ("allowed", "made_anew")}
    for name, path in files.items():
        shop.write(path, f"MODEL (name marts.{name}, {kind}); {query}")
    assert shop.go_on().exit_code == 0
    for path in files.values():
        shop.edit(path, "id, amount,", "id,")
    failures = {f.subject: f for f in shop.go_on((3, "eve", 5)).failures}
    assert failures.keys() == {f"marts.{name}" for name in files}
    for failure in failures.values():
        assert failure.exit_code == ExitCode.TRANSFORM
        assert "on_destructive_change ALLOW" in failure.hint
    assert shop.published("totals")[-1] == ("eve", 5)  # they hold back nothing else
    shop.edit(files["allowed"], "only TRUE", "only TRUE, on_destructive_change ALLOW")
    removed = shop.folder / files["made_anew"]
    removed.rename(shop.folder / "removed.sql")
    assert shop.go_on().exit_code == 0
    (shop.folder / "removed.sql").rename(removed)
    assert shop.go_on().exit_code == 0
    for name in files:
        ids = shop.query(f"SELECT * EXCLUDE (_loaded_at) FROM marts.{name} ORDER BY id")
        assert ids == [(1,), (2,), (3,)], name


HISTORY = (
    "MODEL (name marts.history, kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [amount])); "
    "SELECT (%s)::BIGINT AS id, amount FROM staging.stg_shop__orders"
)
TOO_MANY = ": its key (id) stands in several rows, of which any one would be taken: %d too many"
BELOW = "MODEL (name marts.below, kind FULL); SELECT id, amount FROM marts.history"


@pytest.mark.parametrize("is_first_run", [True, False])
def test_history_that_failed_at_first_is_mended_in_place(shop: Shop, is_first_run: bool) -> None:
    """SQLMesh would take it for one that stands, though it has no table."""
    shop.write("sqlmesh/models/h.sql", HISTORY % "error('no')")
    shop.write("sqlmesh/models/below.sql", BELOW)
    if is_first_run:
        shutil.rmtree(shop.data)
        shop.sell((1, "ann", 50), (2, "bob", 200))
    record = shop.run()
    assert [f.message for f in record.failures] == [
        "marts.history: failed: Invalid Input Error: no"
    ]
    assert shop.verdicts()["marts.totals"] == "passed"  # it holds back nothing else
    shop.write("sqlmesh/models/h.sql", HISTORY % "id")
    assert shop.go_on().exit_code == 0
    assert shop.query("SELECT id FROM marts.below ORDER BY id") == [(1,), (2,)]


def test_environment_that_cannot_be_begun_anew_is_a_plans_failure(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Never:
        raise SQLMeshError("no")

    shop.write("sqlmesh/models/h.sql", HISTORY % "id")
    monkeypatch.setattr("etl.project.environment.Project._forget_unfinished", refuse)
    (failure,) = shop.go_on().failures
    assert failure.exit_code == ExitCode.TRANSFORM
    assert failure.message == "the plan cannot be made: no"


def test_rows_without_a_key_do_not_enter_a_history(shop: Shop) -> None:
    """SQLMesh would add them again in each run, and they would stay when the model is mended."""
    shop.write("sqlmesh/models/h.sql", HISTORY % "nullif(id, 3)")
    shop.write("sqlmesh/models/below.sql", BELOW)
    assert shop.go_on().exit_code == 0
    (failure,) = shop.go_on((3, "cid", 5), (4, "dan", 5)).failures
    assert failure.exit_code == ExitCode.DATA_QUALITY
    assert failure.message == (
        "marts.history: its key (id) is NULL, and such rows are added again in each run: 1"
    )
    assert shop.query("SELECT count(*) FROM marts.history") == [(2,)]
    shop.edit("sqlmesh/models/h.sql", "nullif(id, 3)", "id")
    record = shop.go_on()
    assert record.exit_code == 0, [f.message for f in record.failures]
    assert shop.query("SELECT count(*), count(id) FROM marts.history") == [(4, 4)]
    assert shop.query("SELECT count(*) FROM marts.below") == [(4,)]


def test_history_of_several_rows_of_one_key_is_refused(shop: Shop) -> None:
    """SQLMesh would take any of them, and another one in the next run."""
    shop.write("sqlmesh/models/h.sql", HISTORY % "1 + id % 2")
    assert shop.go_on((4, "dan", 200)).exit_code == 0  # the same row twice is one row
    (failure,) = shop.go_on((5, "eve", 51), (6, "fin", 60)).failures
    assert failure.exit_code == ExitCode.DATA_QUALITY
    assert failure.message == "marts.history" + TOO_MANY % 2
    assert shop.query("SELECT count(*) FROM marts.history") == [(2,)]


def test_merge_that_begins_with_several_rows_of_one_key_is_refused(shop: Shop) -> None:
    """SQLMesh would keep all of them, until a later batch leaves one."""
    text = (
        "MODEL (name marts.merged, kind INCREMENTAL_BY_UNIQUE_KEY (unique_key id)); "
        "SELECT (%s)::BIGINT AS id, amount FROM staging.stg_shop__orders "
        "WHERE _loaded_at BETWEEN @start_tstz AND @end_tstz"
    )
    shop.write("sqlmesh/models/merged.sql", text % "1")
    (failure,) = shop.go_on().failures
    assert failure.exit_code == ExitCode.DATA_QUALITY
    assert failure.message == "marts.merged" + TOO_MANY % 1
    shop.write("sqlmesh/models/merged.sql", text % "id")
    assert shop.go_on().exit_code == 0
    assert shop.query("SELECT id FROM marts.merged ORDER BY id") == [(1,), (2,)]


def test_rows_without_a_key_that_are_in_a_history_are_told_in_each_run(shop: Shop) -> None:
    """What a model's statements make ready cannot be asked before it is evaluated."""
    text = HISTORY.replace(
        "; SELECT", "; CREATE OR REPLACE TEMP MACRO key_of(id) AS nullif(id, 2); SELECT"
    )
    shop.write("sqlmesh/models/h.sql", text % "key_of(id)")
    for _ in range(2):
        (failure,) = shop.go_on().failures
        assert failure.exit_code == ExitCode.DATA_QUALITY
        assert "its key (id) is NULL" in failure.message


def test_model_that_is_never_built_anew_is_named_where_it_was_asked_for(shop: Shop) -> None:
    shop.write("sqlmesh/models/h.sql", HISTORY % "id")
    assert not shop.go_on().warnings
    record = shop.run("transform", full_refresh=True)
    assert record.exit_code == 0, record.failures
    assert record.warnings[0].startswith(
        "not built anew, for they keep their history: marts.history"
    )
