"""Every exit code comes back from the real process, by a real cause."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.demo import Fault
from etl.errors import ExitCode
from tests.contract.process import Finished, Job, Models, new_job, wait_for
from tests.duckdb_files import opened
from tests.processes import start_cold, without_settings

SLOW = Fault("latency", seconds=0.5)
REFUSED = Fault("404", method="getFollows", page=2)
FEW = "[bulk-300.test]"
FOLLOWS = "stg_bluesky__follows"
ACTORS = "ETL_SOURCES__BLUESKY__FOR_EACH__ACTOR"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with new_job(tmp_path, models=Models.MUTUALS) as job:
        job.variables[ACTORS] = FEW
        yield job


def slow_down(job: Job) -> None:
    """Many pages, and each of them late."""
    job.variables[ACTORS] = "[chess.com]"
    job.replay.faults = [SLOW]


def finish_unclassified(job: Job) -> Finished:
    (job.folder / "broken_source.py").write_text(
        "import dlt\n\n@dlt.resource\ndef rows():\n    yield {}['nothing']\n"
    )
    job.edit(
        "config/etl.yaml", "sources:\n", "sources:\n  broken: {factory: 'broken_source:rows'}\n"
    )
    return job.run("--source", "broken", "--stage", "extract")


def finish_with_wrong_setting(job: Job) -> Finished:
    return job.run(ETL_LOG__LEVEL="LOUD")


def finish_with_failed_audit(job: Job) -> Finished:
    job.edit(
        "sqlmesh/models/marts/mutuals.sql",
        "  audits (\n",
        "  audits (\n    accepted_values(\"column\" := actor, is_in := ('nobody.example')),\n",
    )
    return job.run()


def finish_with(fault: Fault) -> Callable[[Job], Finished]:
    """What the API does wrong while it is read."""

    def finish(job: Job) -> Finished:
        job.replay.faults = [fault]
        return job.run("--stage", "extract")

    finish.__name__ = f"finish_with_{fault.kind}"
    return finish


def finish_with_dead_port(job: Job) -> Finished:
    return job.run(
        "--stage", "extract", ETL_SOURCES__BLUESKY__CLIENT__BASE_URL="http://127.0.0.1:9/xrpc/"
    )


def finish_with_broken_model(job: Job) -> Finished:
    job.edit(f"sqlmesh/models/staging/{FOLLOWS}.sql", "raw.handle::TEXT", "raw.handle::INT::TEXT")
    return job.run("--select", f"staging.{FOLLOWS}")


def finish_with_refusing_target(job: Job) -> Finished:
    job.edit(
        "config/etl.yaml",
        "{model: marts.mutuals, target: marts}",
        "{model: marts.mutuals, target: marts, key: [actor]}",
    )
    return job.run()


def finish_while_locked(job: Job) -> Finished:
    slow_down(job)
    first = job.start("--stage", "extract")
    try:
        wait_for((job.data / "etl.lock.json").exists)
        wait_for(lambda: len(job.replay.requests) > 0)
        return job.run()
    finally:
        first.kill()
        first.communicate()


def finish_after_deadline(job: Job) -> Finished:
    slow_down(job)
    return job.run(ETL_TIMEOUT="3")


def finish_with_frozen_schema(job: Job) -> Finished:
    assert job.run("--stage", "extract").code == 0
    job.replay.faults = [Fault("extra_field", field="surprise")]
    return job.run("--stage", "extract", ETL_SOURCES__BLUESKY__SCHEMA_CONTRACT="freeze")


def finish_without_approval(job: Job) -> Finished:
    return job.run(ETL_TRANSFORM__APPROVE="manual")


def finish_with_lost_rows(job: Job) -> Finished:
    between = "packages.inserted_at BETWEEN"
    part = f"RIGHT(raw.did, 1) > 'f' AND {between}"
    job.edit(f"sqlmesh/models/staging/{FOLLOWS}.sql", between, part)
    return job.run("--select", f"staging.{FOLLOWS}")


def limit_files() -> None:
    """Like a full disk: no file may grow beyond 200 kB; the signal becomes an error (EFBIG)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def finish_with_full_disk(job: Job) -> Finished:
    job.variables[ACTORS] = "[chess.com]"  # a write in the middle of a package fails, not a commit
    return job.run("--stage", "extract", limit=limit_files)


def finish_after_signal(number: signal.Signals) -> Callable[[Job], Finished]:
    def finish(job: Job) -> Finished:
        slow_down(job)
        process = job.start()
        wait_for(lambda: len(job.replay.requests) > 2)
        process.send_signal(number)
        sent = time.monotonic()
        done = job.finish(process)
        assert time.monotonic() - sent < 10
        return done

    return finish


CAUSES: list[tuple[ExitCode, Callable[[Job], Finished], str]] = [
    (ExitCode.OK, lambda job: job.run(), ""),
    (ExitCode.UNEXPECTED, finish_unclassified, "broken"),
    (ExitCode.CONFIG, finish_with_wrong_setting, ""),
    (ExitCode.DATA_QUALITY, finish_with_failed_audit, "marts.mutuals"),
    (ExitCode.DATA_QUALITY, finish_with(Fault("empty")), "bluesky"),
    (ExitCode.CONNECTION, finish_with_dead_port, "bluesky"),
    (ExitCode.CONNECTION, finish_with(Fault("503")), "bluesky"),
    (ExitCode.EXTRACT, finish_with(REFUSED), "bluesky.follows["),
    (ExitCode.EXTRACT, finish_with(Fault("truncated", page=3)), "bluesky"),
    (ExitCode.TRANSFORM, finish_with_broken_model, f"staging.{FOLLOWS}"),
    (ExitCode.LOAD, finish_with_refusing_target, ""),
    (ExitCode.LOCKED, finish_while_locked, ""),
    (ExitCode.TIMEOUT, finish_after_deadline, ""),
    (ExitCode.SCHEMA, finish_with_frozen_schema, "bluesky"),
    (ExitCode.APPROVAL, finish_without_approval, ""),
    (ExitCode.RECONCILIATION, finish_with_lost_rows, f"staging.{FOLLOWS}"),
    (ExitCode.AUTH, finish_with(Fault("401")), "bluesky"),
    (ExitCode.RESOURCES, finish_with_full_disk, ""),
    (ExitCode.INTERRUPTED, finish_after_signal(signal.SIGINT), ""),
    (ExitCode.TERMINATED, finish_after_signal(signal.SIGTERM), ""),
]
WITHOUT_RECORD = {ExitCode.CONFIG, ExitCode.LOCKED}
# These start a new interpreter, as a scheduler does, and as test_packaging does for OK. A forked
# process is one of its own with its own code, without the seconds that the imports take.
COLD = {ExitCode.CONFIG, ExitCode.TERMINATED}


@pytest.mark.parametrize(
    ("code", "finish", "subject"), CAUSES, ids=[f"{c.name}-{f.__name__}" for c, f, _ in CAUSES]
)
def test_a_real_cause_ends_with_its_code(
    job: Job, code: ExitCode, finish: Callable[[Job], Finished], subject: str
) -> None:
    if code in COLD:
        job.start_process = start_cold
    last_words = job.folder / "termination-log"
    job.variables["ETL_TERMINATION_LOG"] = str(last_words)
    done = finish(job)
    assert done.code == code, done.err[-3000:]
    assert "Traceback" not in done.err
    assert last_words.exists() == (code is not ExitCode.OK)
    told = json.loads(last_words.read_bytes()) if last_words.exists() else {}
    assert told.get("code", 0) == code
    if code not in WITHOUT_RECORD:
        record = job.record()
        assert record["exit_code"] == code
        assert record["status"] == "finished"
        if code is not ExitCode.OK:
            worst = next(f for f in record["failures"] if f["exit_code"] == code)
            assert worst["subject"].startswith(subject)
            assert worst["retryable"] == code.retryable
            assert worst["hint"]
            assert worst["message"] in done.err.replace('\\"', '"')
            assert (told["run_id"], told["message"]) == (record["run_id"], worst["message"])
    # Whatever happened, the lock is free and the job can be started again.
    if code is not ExitCode.LOCKED:
        assert not (job.data / "etl.lock.json").exists()


def test_what_the_hint_of_12_says_heals(job: Job) -> None:
    model = job.folder / f"sqlmesh/models/staging/{FOLLOWS}.sql"
    before = model.read_text(encoding="utf-8")
    assert finish_with_lost_rows(job).code == ExitCode.RECONCILIATION
    model.write_text(before, encoding="utf-8")
    command = re.search(r"`etl (run --stage [^`]*)`", job.record()["failures"][0]["hint"])
    assert command is not None
    assert job.run(*command[1].split()[1:]).code == ExitCode.OK


def test_every_code_of_the_table_has_a_cause_here() -> None:
    assert {c for c, _, _ in CAUSES} == set(ExitCode)


def test_a_stopped_run_is_finished_by_the_next(job: Job) -> None:
    finish_after_signal(signal.SIGTERM)(job)
    job.replay.faults = []
    assert job.run("--stage", "extract").code == 0
    with opened(job.data / "warehouse.duckdb", read_only=True) as warehouse:
        found = warehouse.sql(
            "SELECT count(*), count(DISTINCT did) FROM bluesky_raw.followers"
        ).fetchone()
    assert found is not None
    assert found[0] == found[1] > 0


def test_no_network_is_told_in_one_line_that_points_to_the_demo(job: Job) -> None:
    job.variables["ETL_LOG__FORMAT"] = "text"
    done = finish_with_dead_port(job)
    assert done.code == ExitCode.CONNECTION
    lines = [x for x in done.err.splitlines() if x.strip().startswith("CONNECTION (4)")]
    assert len(lines) == 1
    # Never in the job's own folder: what the demo makes up would stay in its history.
    assert "`etl doctor` asks" in done.err
    assert "`ETL_DATA_DIR=data-demo etl run --profile demo`" in done.err


def test_no_network_does_not_point_to_a_demo_that_is_not_there(job: Job) -> None:
    (job.folder / "config/demo.yaml").unlink()
    done = finish_with_dead_port(job)
    assert done.code == ExitCode.CONNECTION
    assert "`etl doctor` asks" in done.err
    assert "demo" not in done.err.partition("etl doctor")[2].partition("\n")[0]


@pytest.mark.parametrize("stage", ["extract", "transform", "load"])
def test_a_warehouse_that_another_program_has_open_is_code_4(job: Job, stage: str) -> None:
    job.data.mkdir(parents=True, exist_ok=True)
    with opened(job.data / "warehouse.duckdb"):
        done = job.run("--stage", stage, ETL_RETRY__ATTEMPTS="1")
    assert done.code == ExitCode.CONNECTION
    assert "warehouse.duckdb cannot be opened" in done.err
    assert "close other programs" in done.err


@pytest.mark.parametrize(
    ("file", "stage", "advice"),
    [
        ("warehouse", "extract", "without one move both away"),
        # Raw is not damaged, and may hold what the API cannot give again.
        ("state", "transform", "without one move it away"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(
    job: Job, file: str, stage: str, advice: str
) -> None:
    job.data.mkdir(parents=True, exist_ok=True)
    (job.data / f"{file}.duckdb").write_text("no database\n")
    done = job.run("--stage", stage, ETL_RETRY__ATTEMPTS="1")
    assert done.code == ExitCode.CONNECTION
    assert f"{file}.duckdb is no DuckDB database" in done.err
    assert f"from one backup; {advice}" in done.err


def test_wait_lock_waits_for_the_other_run(job: Job) -> None:
    first = job.start("--stage", "extract")
    wait_for((job.data / "etl.lock.json").exists)
    second = job.run("--stage", "extract", "--wait-lock", "60")
    first.communicate()
    assert (first.returncode, second.code) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_the_lock(job: Job, number: signal.Signals) -> None:
    slow_down(job)
    first = job.start("--stage", "extract")
    try:
        wait_for(lambda: len(job.replay.requests) > 0)
        second = job.start("--wait-lock", "100")
        time.sleep(2)
        second.send_signal(number)
        _, err = second.communicate(timeout=10)
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 128 + number
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "streams", ["2>&{left}", ">&{left} 2>&{left}", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"]
)
def test_a_failed_run_keeps_its_code_whoever_listens(tmp_path: Path, streams: str) -> None:
    """A reader that left (`2>&1 | head`), closed descriptors (a daemon's), a full disk."""
    (tmp_path / "config").mkdir()
    (tmp_path / "sqlmesh").mkdir()
    (tmp_path / "config" / "etl.yaml").write_text(
        "targets: {marts: {kind: duckdb, path: marts.duckdb}}\n"
        "loads: [{model: marts.nowhere, target: marts}]\n"
    )
    reader, left = os.pipe()
    os.close(reader)
    command = f"exec '{sys.executable}' -m etl run --stage load --json {streams.format(left=left)}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=without_settings(ETL_LOG__FORMAT="text"),
        pass_fds=(left,), check=False,
    )  # fmt: skip
    os.close(left)
    assert done.returncode == ExitCode.CONFIG
