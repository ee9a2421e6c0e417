"""The container image, run as a cluster runs it; deploy/test/image builds it and starts this."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ExitCode
from tests.contract.process import Finished, wait_for
from tests.contract.test_exit_codes import CAUSES, SLOW
from tests.deploy.containers import IMAGE, UID, ContainerJob, podman, run

pytestmark = pytest.mark.skipif(not IMAGE, reason="deploy/test/image builds what they need")
SAID: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def measurements() -> Iterator[None]:
    """What was measured, for the transcript."""
    yield
    folder = os.environ.get("ETL_TEST_REPORT")
    if folder:
        with Path(folder).open("a", encoding="utf-8") as report:  # of every test process
            report.writelines(f"{line}\n" for line in SAID)


def test_there_is_no_network() -> None:
    """Else a green run would not show that it needs none."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


# One for each code: the table's first cause. What several causes share is the host's to test.
FIRST = {code: (code, finish) for code, finish, _ in reversed(CAUSES)}.values()


@pytest.mark.parametrize(("code", "finish"), FIRST, ids=[c.name for c, _ in FIRST])
def test_every_exit_code_comes_back(
    job: ContainerJob, code: ExitCode, finish: Callable[[Any], Finished]
) -> None:
    begun = time.monotonic()
    done = finish(job)
    took = time.monotonic() - begun
    cause = finish.__qualname__.partition(".")[0].replace("<lambda>", "run")
    SAID.append(f"code {code:>3} {code.name:<15} {took:5.1f} s  {cause}")
    assert done.code == code, done.err[-3000:]
    assert "Traceback" not in done.err
    if code is ExitCode.RESOURCES:  # the disk that is full is the one with the record
        assert "No space left on device" in done.err
    elif code is not ExitCode.OK:
        told = job.last_words()
        assert (told["code"], told["class"]) == (code, code.name)


def test_out_of_memory_is_137_and_the_volume_goes_on(job: ContainerJob) -> None:
    job.words = ["--memory=100m", "--memory-swap=100m"]
    assert job.run().code == 137
    job.words = ["--memory=1g", "--memory-swap=1g"]
    done = job.run()
    assert done.code == 0, done.err[-3000:]
    SAID.append("100 MB of memory: code 137; the next run on the same volume with 1 GB: code 0")


def test_the_volume_survives_its_container(job: ContainerJob) -> None:
    first = job.run()
    assert first.code == 0, first.err[-3000:]
    before = job.record()["run_id"]
    job.replay.faults = []
    second = job.run(ETL_DEMO_DATE="2026-01-02")
    assert second.code == 0, second.err[-3000:]
    assert {p.name for p in (job.data / "runs").iterdir()} >= {before, job.record()["run_id"]}
    assert (job.data / "marts.duckdb").stat().st_uid == UID


def test_a_second_container_on_the_volume_waits_or_leaves_with_8(job: ContainerJob) -> None:
    job.replay.faults = [SLOW]
    first = job.start("--stage", "extract")
    wait_for((job.data / "etl.lock.json").exists)
    assert job.run("--stage", "extract").code == ExitCode.LOCKED
    first.kill()
    first.communicate()
    job.replay.faults = []
    assert job.run("--stage", "extract").code == 0  # the kernel freed the dead one's lock


def test_the_demo_needs_nothing_but_the_image() -> None:
    begun = time.monotonic()
    done = run(
        "--network=none", "--memory=2g", "--env=ETL_SOURCES__MARKETS__ENABLED=false",
        "--env=ETL_DEMO_DATE=2026-01-01", command=("run", "--profile", "demo", "--json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout)
    rows = sum(s["rows"] for s in record["sources"])
    assert rows > 5000
    SAID.append(f"the demo, {rows:,} rows: {time.monotonic() - begun:.1f} s, no network, no volume")


def test_start_and_an_idle_run_are_quick(job: ContainerJob) -> None:
    """The best of a few, judged where the machine is free: else they say nothing of the image."""
    busy = os.getloadavg()[0] > 2
    took = best(5, lambda: run("--network=none", command=("--help",)).returncode)
    # An actor whom nobody follows: nothing to extract, transform or publish.
    assert job.run().code == 0
    job.variables |= {
        "ETL_SOURCES__BLUESKY__FOR_EACH__ACTOR": '["bulk-0.test"]',
        "ETL_SOURCES__BLUESKY__REQUIRED": "false",
    }
    assert job.run().code == 0
    idle = best(3, lambda: job.run().code)
    SAID.append(f"etl --help: {took:.2f} s, the container's start in it")
    SAID.append(f"an idle run: {idle:.1f} s, the container's start in it")
    if busy:
        SAID.append(f"SKIPPED: these are not judged, the machine is busy: {os.getloadavg()[0]:.1f}")
    else:
        assert took <= 0.5
        assert idle <= 6


def best(times: int, command: Callable[[], int]) -> float:
    """Seconds of the quickest one; each must end well."""
    took = []
    for _ in range(times):
        begun = time.monotonic()
        assert command() == 0
        took.append(time.monotonic() - begun)
    return min(took)


def test_it_says_who_it_is() -> None:
    (image,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    config, labels = image["Config"], image["Labels"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["etl"]  # a list: no shell is started
    assert config["StopSignal"] == "SIGTERM"
    names = {"title", "description", "licenses", "version", "revision", "created"}
    assert {f"org.opencontainers.image.{n}" for n in names} <= labels.keys()
    version = run("--network=none", command=("--version",)).stdout.split()
    assert version == ["etl", labels["org.opencontainers.image.version"]]
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
