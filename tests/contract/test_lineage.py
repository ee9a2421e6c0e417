"""`etl lineage` as a process, once raw is there, while a run is at work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import duckdb
import pytest

from etl.configuration import load_settings
from etl.lock import hold_lock
from tests.contract.process import Job, new_job
from tests.processes import ROOT


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    with new_job(tmp_path_factory.mktemp("lineage")) as found:
        assert found.run("--stage", "extract").code == 0
        yield found


def files(job: Job) -> dict[str, tuple[int, int]]:
    """Every file of the job with size and time; SQLMesh's cache may grow, and Python's."""
    return {
        p.relative_to(job.folder).as_posix(): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in job.folder.rglob("*")
        if p.is_file() and not {"cache", "__pycache__"} & {*p.parts} and p.name != "etl.lock"
    }


@pytest.mark.slow
def test_lineage_answers_while_a_run_is_at_work_and_changes_nothing(job: Job) -> None:
    settings = load_settings(job.folder)
    with hold_lock(settings, 0), duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("BEGIN")
        before = files(job)
        done = job.run("marts.follower_labels.label_value", command="lineage")
        assert files(job) == before
    assert (done.code, done.err) == (0, "")
    # The documentation shows this very output.
    page = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- tree:start -->\n```text\n(.*?)```", page, re.DOTALL)
    assert done.out == shown


@pytest.mark.slow
def test_lineage_of_a_mart_reaches_the_api_and_of_raw_the_targets(job: Job) -> None:
    done = job.run("marts.mutuals", "--json", command="lineage")
    assert done.code == 0, done.err
    up = json.loads(done.out)
    assert up["direction"] == "upstream"
    assert len(up["asked"]) == 6
    found = {f"{n['table']} {n['column']}" for n in up["nodes"] if n["kind"] == "api"}
    assert "GET app.bsky.graph.getFollowers $.followers[*].displayName" in found
    assert "GET app.bsky.graph.getFollows $.follows[*].did" in found
    assert {n["type"] for n in up["nodes"] if n["kind"] == "model" and n["column"] == "did"} == {
        "TEXT"
    }
    done = job.run("marts.mutuals", "--html", command="lineage")
    assert (done.code, done.out[:15]) == (0, "<!doctype html>")
    done = job.run("bluesky_raw.followers", "--json", command="lineage")
    down = json.loads(done.out)
    assert down["direction"] == "downstream"
    targets = {n["table"] for n in down["nodes"] if n["kind"] == "target"}
    marts = ("followers_daily", "follower_changes", "mutuals", "follower_labels")
    assert targets == {f"marts: {m}" for m in marts}
    page = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `nodes\[\]\.(\w+)`", page, re.MULTILINE))
    assert described == set(down["nodes"][0])
