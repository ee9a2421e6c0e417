"""A signal in the first second, while the process still imports, ends it with the signal's code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etl.errors import ExitCode

ROOT = Path(__file__).parents[2]
# Sends the process a signal in the moment that it looks for a module.
SITE = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNAL_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""
MOMENTS = ["etl.cli", "argparse", "etl.options", "etl.configuration", "pydantic", "etl.job"]
CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


def start(
    folder: Path, number: signal.Signals, moment: str, *before: str
) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ETL_")}
    return subprocess.run(
        [*before, sys.executable, "-m", "etl", "run", "--stage", "load", "--dry-run"],
        cwd=ROOT,
        env={
            **kept,
            "ETL_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": str(folder),
            "SIGNAL_AT": moment,
            "SIGNAL": str(int(number)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_signal_the_same_run_ends_with_0(tmp_path: Path) -> None:
    assert start(tmp_path, signal.SIGTERM, "no.such.module").returncode == 0


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", CODES)
def test_an_early_signal_ends_the_process_with_its_code(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    done = start(tmp_path, number, moment)
    assert done.returncode == CODES[number]
    assert done.stderr == ""


def namespace() -> list[str] | None:
    """A command that runs another one as PID 1 of its own namespace; None where none may."""
    for options in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *options, "--pid", "--fork"]
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "true"], capture_output=True, check=False).returncode
        ):
            return command
    return None


@pytest.mark.parametrize("moment", ["etl.cli", "etl.job"])
@pytest.mark.parametrize("number", CODES)
def test_an_early_signal_is_not_lost_on_pid_1(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    command = namespace()
    if command is None:
        pytest.skip("no PID namespace may be made here")
    assert start(tmp_path, number, moment, *command).returncode == CODES[number]
