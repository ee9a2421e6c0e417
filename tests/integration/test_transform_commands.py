"""The plain `sqlmesh` commands work in the same project, on the same files."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import tenacity

from tests.integration.forking import Forks, forking
from tests.integration.projects import Shop

SQLMESH = str(Path(sys.executable).parent / "sqlmesh")
# What that script does.
COMMAND = """
import json, os, sys
import tests.preload
from sqlmesh.cli.main import cli

def run():
    output, folder, environment, *sys.argv[1:] = sys.argv[1:]
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(json.loads(environment))
    cli()
"""


@pytest.fixture(scope="module")
def commands() -> Iterator[Forks]:
    """Processes that are `sqlmesh`, without the seconds that its imports take."""
    with forking(COMMAND) as forks:
        yield forks


@pytest.fixture
def sqlmesh(commands: Forks, shop: Shop, tmp_path: Path) -> Callable[..., str]:
    """Runs `sqlmesh -p <project>/sqlmesh …`; returns its output."""

    def run(*arguments: str, cwd: Path | None = None, **variables: str) -> str:
        output = tmp_path / "output.txt"
        environment = json.dumps(shop.environment(COLUMNS="200", **variables))
        place = ("-p", str(shop.folder / "sqlmesh"))
        code = commands.run(output, cwd or shop.folder, environment, *place, *arguments)
        said = output.read_text(encoding="utf-8")
        assert code == 0, said
        return said

    return run


def test_the_script_itself_finds_the_project(shop: Shop) -> None:
    done = subprocess.run(
        [SQLMESH, "-p", str(shop.folder / "sqlmesh"), "table_name", "marts.totals"],
        cwd=shop.folder,
        env=shop.environment(COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.physical("marts.totals") in done.stdout.replace('"', "")


@pytest.mark.slow
def test_what_is_wrong_in_the_settings_is_told_by_sqlmesh_too(shop: Shop) -> None:
    done = subprocess.run(
        [SQLMESH, "-p", str(shop.folder / "sqlmesh"), "table_name", "marts.totals"],
        env=shop.environment(ETL_TIMEOUT="soon", ETL_LOG__LEVEL="LOUD"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    for name in ("ETL_TIMEOUT: timeout: ", "; ETL_LOG__LEVEL: log.level: "):
        assert name in said


def test_plan_sees_what_the_job_built(
    shop: Shop, sqlmesh: Callable[..., str], tmp_path: Path
) -> None:
    # What a run reads in another way than SQLMesh by itself.
    shop.write("sqlmesh/models/zips.csv", "zip\n01234\n")
    seed = "MODEL (name marts.zips, kind SEED (path 'zips.csv'), columns (zip TEXT))"
    shop.write("sqlmesh/models/zips.sql", seed)
    few = "AUDIT (name few, defaults (most = 9)); SELECT * FROM @this_model WHERE n > @most"
    shop.write("sqlmesh/audits/few.sql", few)
    shop.edit("sqlmesh/models/items.sql", "grain name", "grain name, audits (few)")
    assert shop.go_on().exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = sqlmesh(
        "plan",
        "--no-prompts",
        "--auto-apply",
        "--skip-tests",
        "--include-unmodified",
        "dev_bob",
        cwd=elsewhere,
    )
    changes = said.partition("Updating virtual layer")[0]
    assert not [m for m in ("totals", "zips", "items") if m in changes], "nothing differs from prod"
    assert shop.physical("marts.totals", "dev_bob") == shop.physical("marts.totals")
    # Nothing of it lands in the folder that it was called from.
    assert [p.name for p in elsewhere.iterdir() if p.name != "logs"] == []


@pytest.mark.slow
def test_model_planned_by_sqlmesh_itself_is_seen_by_the_next_run(
    shop: Shop, sqlmesh: Callable[..., str]
) -> None:
    path = "sqlmesh/models/totals.sql"
    shop.edit(path, "SUM(amount)", "2 * SUM(amount)")
    sqlmesh("plan", "--no-prompts", "--auto-apply", "--skip-tests")
    shop.edit(path, "2 * SUM(amount)", "SUM(amount)")
    # The files are as they were in the last run, the environment is not.
    record = shop.run()
    assert record.exit_code == 0
    assert {m.name for m in record.models} >= {"marts.totals"}
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.query("FROM marts.totals ORDER BY ALL") == [("ann", 50), ("bob", 200)]


@pytest.mark.slow
def test_profile_and_data_directory_are_respected(
    shop: Shop, sqlmesh: Callable[..., str], tmp_path: Path
) -> None:
    shop.write("config/other.yaml", f"data_dir: {tmp_path}/other\n")
    sqlmesh("dag", str(tmp_path / "dag.html"), ETL_PROFILE="other")
    assert "totals" in (tmp_path / "dag.html").read_text(encoding="utf-8")
    assert (tmp_path / "other").is_dir()
    sqlmesh("fetchdf", "SELECT 1 AS x", ETL_DATA_DIR=str(tmp_path / "third"))
    assert (tmp_path / "third" / "warehouse.duckdb").exists()


@pytest.mark.slow
def test_tests_and_format_run_on_the_project(shop: Shop, sqlmesh: Callable[..., str]) -> None:
    shop.write(
        "sqlmesh/tests/test_totals.yaml",
        "test_totals:\n  model: marts.totals\n  inputs:\n    staging.stg_shop__orders:\n"
        "      rows:\n      - {customer: ann, amount: 2}\n      - {customer: ann, amount: 3}\n"
        "  outputs:\n    query:\n      rows:\n      - {customer: ann, amount: 5}\n",
    )
    assert "Successfully Ran `1` Tests" in sqlmesh("test")
    sqlmesh("format")
    sqlmesh("format", "--check")


@pytest.mark.slow
def test_ui_shows_the_lineage(shop: Shop) -> None:
    """The lineage that SQLMesh draws comes with its user interface: it has no command for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [SQLMESH, "-p", str(shop.folder / "sqlmesh"), "ui", "--port", str(port)]
    log = shop.folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=shop.folder, env=shop.environment(), stdout=output, stderr=output
        )
    try:
        lineage = ask(process, f"http://127.0.0.1:{port}/api/lineage/marts.customers", log)
    finally:
        process.terminate()
        process.wait(30)
    parents = {
        model.replace('"', ""): {p.replace('"', "") for p in read}
        for model, read in lineage.items()
    }
    assert parents["warehouse.marts.customers"] == {"warehouse.marts.totals"}
    assert parents["warehouse.staging.stg_shop__orders"] >= {"warehouse.shop_raw.orders"}


def ask(process: subprocess.Popen[bytes], url: str, log: Path) -> dict[str, list[str]]:
    """What the server answers, as soon as it does."""
    for attempt in tenacity.Retrying(
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(60),
        retry=tenacity.retry_if_exception_type(requests.ConnectionError),
    ):
        with attempt:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            answer = requests.get(url, timeout=60)
            answer.raise_for_status()
            found: dict[str, list[str]] = answer.json()
            return found
    raise AssertionError(log.read_text(encoding="utf-8"))
