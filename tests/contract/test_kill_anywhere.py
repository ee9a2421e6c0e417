"""SIGKILL at any moment, then start again: nothing is lost and nothing is there twice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from tests.contract.process import DAY, Job, Models, new_job, wait_for
from tests.duckdb_files import opened
from tests.followers import KINDS, listed

ACTOR = "chess.com"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with new_job(tmp_path, models=Models.MUTUALS) as job:
        yield job


def assert_right(job: Job) -> None:
    """Readers see the day's mutuals; each package is whole, with its labels, and none is twice."""
    truth = {kind: listed(ACTOR, kind, DAY) for kind in KINDS}
    followers, follows = ({p["did"] for p in truth[kind]} for kind in KINDS)
    with opened(job.data / "marts.duckdb", read_only=True) as marts:
        published = marts.sql("SELECT did FROM mutuals").fetchall()
    assert sorted(published) == sorted((did,) for did in followers & follows)
    with opened(job.data / "warehouse.duckdb", read_only=True) as warehouse:
        for table, profiles in truth.items():
            labels = sum(len(cast(list[object], p.get("labels", []))) for p in profiles)
            packages = warehouse.sql(
                "SELECT count(*), count(DISTINCT did), (SELECT count(*) "
                f"FROM bluesky_raw.{table}__labels JOIN bluesky_raw.{table} AS t "
                "ON _dlt_parent_id = t._dlt_id WHERE t._dlt_load_id = raw._dlt_load_id) "
                f"FROM bluesky_raw.{table} AS raw GROUP BY _dlt_load_id"
            ).fetchall()
            assert set(packages) == {(len(profiles), len(profiles), labels)}
            orphans = warehouse.sql(
                f"SELECT count(*) FROM bluesky_raw.{table}__labels WHERE _dlt_parent_id NOT IN "
                f"(SELECT _dlt_id FROM bluesky_raw.{table})"
            ).fetchone()
            assert orphans == (0,)
            lost = warehouse.sql(
                f"SELECT count(*) FROM bluesky_raw.{table} WHERE _dlt_load_id NOT IN "
                "(SELECT load_id FROM bluesky_raw._dlt_loads)"
            ).fetchone()
            assert lost == (0,)
        twice = warehouse.sql(
            "SELECT load_id FROM bluesky_raw._dlt_loads GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
    assert twice == []


def log(job: Job) -> Path:
    return job.data / "runs" / "latest" / "log.jsonl"


def has_begun(job: Job, earlier: Path) -> bool:
    """True when the newest log is of another run than the earlier one."""
    return log(job).exists() and log(job).resolve() != earlier


# One of each kind over a whole run, and what tells that it has come.
MOMENTS: dict[str, Callable[[Job, int], bool]] = {
    "fetching": lambda job, asked: len(job.replay.requests) > asked + 10,
    "committing": lambda job, _: any(job.data.glob("dlt/bluesky/load/normalized/*/started_jobs/*")),
    "transforming": lambda job, _: '"event": "model evaluated"' in log(job).read_text("utf-8"),
    "publishing": lambda job, _: '"event": "load starts"' in log(job).read_text("utf-8"),
}


def kill(job: Job, moment: str) -> None:
    """Start a run and send it SIGKILL at that moment; again, if it was too quick."""
    for _ in range(3):
        before, asked = log(job).resolve(), len(job.replay.requests)
        process = job.start()
        wait_for(partial(has_begun, job, before))
        wait_for(partial(MOMENTS[moment], job, asked))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return
    raise AssertionError(f"{moment}: each run had ended before")


@pytest.mark.slow
def test_killed_at_every_kind_of_moment_the_next_run_ends_right(job: Job) -> None:
    """Each run finds what the one before left, and is killed later than it; the last one ends."""
    for moment in MOMENTS:
        kill(job, moment)
    done = job.run()
    assert done.code == 0, done.err[-3000:]
    assert_right(job)


@pytest.mark.slow
def test_a_killed_run_can_be_retried_under_its_id(job: Job) -> None:
    kill(job, "committing")
    killed = job.record()["run_id"]
    done = job.run(command="retry")
    assert done.code == 0, done.err[-3000:]
    assert job.record()["run_id"] == killed
    assert job.record()["attempt"] == 2
    assert_right(job)
