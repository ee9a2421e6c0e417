"""Runs `python -m etl` in processes forked from one that has imported the libraries already.

Each is a process of its own, with its signals and its exit code, and without the seconds that dlt's
and SQLMesh's imports take. What is about the start of a process runs cold, by `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preload"])


class Process:
    """`python -m etl` with these arguments, under way; used like `subprocess.Popen`.

    Another `program` is a console script of the virtual environment.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        limit: Callable[[], None] | None = None,
        program: str = "etl",
    ) -> None:
        self.arguments = [program, *arguments]
        self.returncode: int | None = None
        self._output = tempfile.TemporaryDirectory(prefix="etl-process-")
        self._process = FORKS.Process(
            target=_become,
            args=(self.arguments, str(folder), dict(environment), self._output.name, limit),
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        """False when it has ended, by itself or not."""
        return self._process.is_alive()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float = 110) -> tuple[str, str]:
        """Wait for its end; what it wrote to standard output and standard error.

        Raises:
            subprocess.TimeoutExpired: it did not end, and was killed.
        """
        self._process.join(timeout)
        late = self._process.is_alive()
        if late:
            self._process.kill()
            self._process.join()
        self.returncode = self._process.exitcode
        with self._output as folder:
            if late:
                raise subprocess.TimeoutExpired(self.arguments, timeout)
            out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
        return out, err


def start_cold(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    limit: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """`python -m etl` in a new interpreter, imports and all."""
    return subprocess.Popen(
        [sys.executable, "-m", "etl", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509 - it calls what a forked process may call
    )


def run_etl(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    program: str = "etl",
) -> subprocess.CompletedProcess[str]:
    """`python -m etl`, or another program, with these arguments in a folder, to its end."""
    process = Process(arguments, folder, environment, program=program)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.arguments, process.returncode, out, err)


def without_settings(**variables: str) -> dict[str, str]:
    """The variables of this process but none of the job's, and these."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ETL_")} | variables


def _become(
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    output: str,
    limit: Callable[[], None] | None,
) -> None:
    for number, name in enumerate(("out", "err"), 1):
        with Path(output, name).open("wb") as stream:
            os.dup2(stream.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = arguments
    if limit is not None:
        limit()
    if arguments[0] == "etl":
        runpy.run_module("etl", run_name="__main__", alter_sys=True)
    else:
        script = Path(sys.executable).with_name(arguments[0])
        runpy.run_path(str(script), run_name="__main__")
