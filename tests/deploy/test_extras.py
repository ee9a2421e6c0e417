"""The image with all extras, each of them at work; deploy/test/extras builds it and starts this."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.errors import ExitCode
from tests.contract.test_metrics import Received
from tests.deploy.containers import ContainerJob, run

EXTRAS = os.environ.get("ETL_TEST_EXTRAS", "").split(",")
pytestmark = pytest.mark.skipif(EXTRAS == [""], reason="deploy/test/extras builds what they need")
SAID: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def measurements() -> Iterator[None]:
    """What was seen, for the transcript."""
    yield
    folder = os.environ.get("ETL_TEST_REPORT")
    if folder:
        Path(folder).write_text("".join(f"{line}\n" for line in SAID), encoding="utf-8")


def test_every_extra_is_tried_here() -> None:
    """That of PostgreSQL by deploy/test/compose."""
    assert set(EXTRAS) == {"markets", "mssql", "otel", "postgres"}


def test_markets_extracts_and_the_demo_is_whole() -> None:
    done = run(
        "--network=none", "--env=ETL_DEMO_DATE=2026-01-01",
        command=("run", "--profile", "demo", "--json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    sources = json.loads(done.stdout)["sources"]
    (prices,) = (s["rows"] for s in sources if s["source"] == "markets")
    assert prices == 10_605
    SAID.append(f"markets: {prices:,} prices, and the demo ends with 0")


def test_mssql_has_its_driver_and_what_the_driver_needs_of_the_system(job: ContainerJob) -> None:
    """Nobody listens: Microsoft's driver itself says so, by its SQLSTATE."""
    done = job.run(
        "--json", command="doctor", ETL_PROFILE="sqlserver",
        ETL_TARGETS__SQLSERVER__DSN="mssql://sa:not-a-real-1@127.0.0.1:9/analytics",
    )  # fmt: skip
    assert done.code == ExitCode.CONNECTION, done.out + done.err
    assert "HYT00" in done.out
    SAID.append("mssql: Microsoft's driver answers HYT00 at a closed port, code 4")


def test_otel_sends_the_run_as_spans(job: ContainerJob) -> None:
    received = Received()
    with received.server as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = job.run(
            "--stage", "extract",
            ETL_TRACES__ENDPOINT=f"{received.url}/v1/traces",
            ETL_TRACES__HEADERS='{"api-key": "canary-password-0123"}',
        )  # fmt: skip
        server.shutdown()
    assert done.code == 0, done.err[-3000:]
    (sent,) = received.traces
    names = [s.name for s in sent.resource_spans[0].scope_spans[0].spans]
    assert names == ["etl run", "extract", "extract bluesky.followers", "extract bluesky.follows"]
    assert job.record()["warnings"] == []
    SAID.append(f"otel: {len(names)} spans of a run reached a collector")
