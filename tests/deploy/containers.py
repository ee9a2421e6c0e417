"""Runs the job in containers of the image under test, with the interface of a job of processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.contract.process import Finished, Job, new_job

# `podman` with its options, as words: deploy/test/image knows what this machine needs.
PODMAN = os.environ.get("ETL_TEST_PODMAN", "").split()
IMAGE = os.environ.get("ETL_TEST_IMAGE", "")
UID = 10001
# As a cluster with the restricted Pod Security Standard runs it; and the shells are gone.
LOCKED = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,size=256m,mode=1777",
    "--cap-drop=ALL", "--security-opt=no-new-privileges",
    "--volume=/dev/null:/usr/bin/dash:ro", "--volume=/dev/null:/usr/bin/bash:ro",
    "--ulimit=nofile=10000:10000", "--ulimit=nproc=30000:30000",
)  # fmt: skip
FULL_DISK = f"size=1m,uid={UID},gid={UID}"


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One podman command, to its end."""
    return subprocess.run(
        [*PODMAN, *arguments], capture_output=True, text=True, timeout=300, check=check
    )


def run(*options: str, command: tuple[str, ...] = ("run",)) -> subprocess.CompletedProcess[str]:
    """One container of the image, to its end."""
    return podman("run", "--rm", *LOCKED, *options, IMAGE, *command, check=False)


class Container(subprocess.Popen[str]):
    """A container in the background; signals reach its process, as PID 1."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.container = f"etl-{uuid4().hex[:8]}"
        super().__init__(
            [*PODMAN, "run", "--rm", "--name", self.container, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=folder,  # where a container was out of memory, a file says so
        )  # fmt: skip

    def kill(self) -> None:
        """Kill the container; podman ends with it."""
        podman("kill", self.container, check=False)

    def send_signal(self, sig: int) -> None:
        """What a scheduler sends."""
        podman("kill", "--signal", str(int(sig)), self.container)


@dataclass
class ContainerJob(Job):
    """A copy of the project, mounted read-only; its data directory is the volume."""

    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start_process = self._start

    def run(
        self,
        *arguments: str,
        limit: Callable[[], None] | None = None,
        command: str = "run",
        **more: str,
    ) -> Finished:
        """`etl run …` in a container; a limit of a file's size becomes a full disk."""
        with small_disk(self.data) if limit is not None else nullcontext():
            process = self.start_process([command, *arguments], self.folder, self.environment(more))
            return self.finish(process)

    def last_words(self) -> dict[str, Any]:
        """What the failure left for Kubernetes."""
        found: dict[str, Any] = json.loads((self.data / "termination-log").read_bytes())
        return found

    def _start(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        limit: Callable[[], None] | None = None,
    ) -> Container:
        ours = {k: v for k, v in environment.items() if k.startswith("ETL_")}
        ours |= {"ETL_PROJECT": "/project", "ETL_TERMINATION_LOG": "/data/termination-log"}
        # The replay is on this machine's loopback, and there is no other network.
        return Container(
            folder, *LOCKED, "--network=host", f"--volume={self.data}:/data",
            f"--volume={folder}:/project:ro", *self.words,
            *(f"--env={k}={v}" for k, v in ours.items()), IMAGE, *arguments,
        )  # fmt: skip


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A real file system of 1 MB in the folder's place."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", FULL_DISK, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def new_container_job(folder: Path) -> Iterator[ContainerJob]:
    """A job with the shipped configuration and models, against the replay of 2026-01-01."""
    with new_job(folder) as job:
        job.data.mkdir()
        os.chown(job.data, UID, UID)
        yield ContainerJob(job.folder, job.replay, job.variables)
