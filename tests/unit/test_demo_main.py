"""`python -m etl.demo` serves until it is told to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from etl.demo.__main__ import main
from etl.demo.faults import KINDS


@contextmanager
def served(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the one line it told."""
    command = [sys.executable, "-m", "etl.demo", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_at_once(number: signal.Signals) -> None:
    with served("--fault", "timeout:seconds=60") as (process, line):
        url = line.rpartition(" ")[2]
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{url}app.bsky.graph.getFollows?actor=chess.com", timeout=0.2)
        asked = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - asked < 1


def test_options_reach_the_replay() -> None:
    options = ("--date", "2026-01-01", "--rate-limit", "2/60", "--token", "t", "--cache")
    with served(*options, "--fault", "500:times=1") as (_, line):
        assert line.startswith("The replay of 2026-01-01 answers at http://127.0.0.1:")
        url = f"{line.rpartition(' ')[2]}app.bsky.graph.getFollows?actor=chess.com"
        told = {"Authorization": "Bearer t"}
        codes = [requests.get(url, headers=told, timeout=5).status_code for _ in range(3)]
    assert codes == [500, 200, 429]


def test_date_comes_from_the_environment() -> None:
    with served(ETL_DEMO_DATE="2027-03-04") as (_, line):
        assert line.startswith("The replay of 2027-03-04 ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fault", "418"], "unknown fault '418'"),
        (["--rate-limit", "50"], "'50' is not REQUESTS/SECONDS, such as 50/5"),
        (["--rate-limit", "0/5"], "rate limit must be at least 1"),
        (["--date", "tomorrow"], "Invalid isoformat string"),
        (["--host", "0.0.0.0"], "serves loopback addresses only"),
    ],
)
def test_wrong_option_ends_with_2_and_says_why(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_shows_an_example_of_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for _, example in KINDS.values():
        assert f"--fault {example}\n" in told
