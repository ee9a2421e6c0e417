"""SIGKILL at any moment, then start again: nothing is lost and nothing is there twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from etl.demo import graph
from tests.contract.process import DAY, Job, new_job

ACTOR = "chess.com"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with new_job(tmp_path) as job:
        yield job


def published(job: Job) -> tuple[int, int]:
    """Followers and follows of the day, as the readers of the marts see them."""
    with duckdb.connect(str(job.data / "marts.duckdb"), read_only=True) as marts:
        row = marts.sql("SELECT followers_count, follows_count FROM followers_daily").fetchall()
    assert len(row) == 1
    return row[0]


def assert_right(job: Job) -> None:
    truth = graph(ACTOR, DAY)
    assert published(job) == (len(truth.followers), len(truth.follows))
    with duckdb.connect(str(job.data / "warehouse.duckdb"), read_only=True) as warehouse:
        per_package = warehouse.sql(
            "SELECT DISTINCT n FROM (SELECT count(*) AS n, count(DISTINCT did) AS d "
            "FROM bluesky_raw.followers GROUP BY _dlt_load_id) WHERE n = d"
        ).fetchall()
        broken = warehouse.sql(
            "SELECT count(*) FROM (SELECT _dlt_load_id FROM bluesky_raw.followers "
            "GROUP BY 1 HAVING count(*) <> count(DISTINCT did))"
        ).fetchone()
        twice = warehouse.sql(
            "SELECT load_id FROM bluesky_raw._dlt_loads GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        lost = warehouse.sql(
            "SELECT count(*) FROM bluesky_raw.followers WHERE _dlt_load_id NOT IN "
            "(SELECT load_id FROM bluesky_raw._dlt_loads)"
        ).fetchone()
        orphans = warehouse.sql(
            "SELECT count(*) FROM bluesky_raw.followers__labels WHERE _dlt_parent_id NOT IN "
            "(SELECT _dlt_id FROM bluesky_raw.followers)"
        ).fetchone()
    assert per_package == [(len(truth.followers),)]
    assert (broken, twice, lost, orphans) == ((0,), [], (0,), (0,))


# Spread over a whole run: start, extraction, commit, plan, models, publication.
MOMENTS = (2.5, 4.5, 7.0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=[f"{m:.1f}s" for m in MOMENTS])
def test_killed_at_any_moment_the_next_run_ends_right(job: Job, moment: float) -> None:
    process = job.start()
    time.sleep(moment)
    process.kill()
    process.communicate()
    done = job.run()
    assert done.code == 0, done.err[-3000:]
    assert_right(job)


@pytest.mark.slow
def test_killed_again_and_again_the_next_run_ends_right(job: Job) -> None:
    for moment in (2.5, 5.0, 7.0):
        process = job.start()
        time.sleep(moment)
        process.kill()
        process.communicate()
    done = job.run()
    assert done.code == 0, done.err[-3000:]
    assert_right(job)


@pytest.mark.slow
def test_a_killed_run_can_be_retried_under_its_id(job: Job) -> None:
    process = job.start()
    time.sleep(4)
    process.kill()
    process.communicate()
    killed = job.record()["run_id"]
    done = job.run(command="retry")
    assert done.code == 0, done.err[-3000:]
    assert job.record()["run_id"] == killed
    assert job.record()["attempt"] == 2
    assert_right(job)
