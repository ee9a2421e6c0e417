"""Runs the real command as a process on a copy of the shipped project."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from etl.demo import Fault, Replay
from tests.processes import Process, without_settings
from tests.shipped_project import copy_project

DAY = date(2026, 1, 1)


@dataclass
class Job:
    """A copy of the project in a folder of its own, with the replay as its API."""

    folder: Path
    replay: Replay
    variables: dict[str, str] = field(default_factory=dict)
    start_process: Callable[..., Process | subprocess.Popen[str]] = Process

    @property
    def data(self) -> Path:
        """The job's data directory."""
        return self.folder / "data"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of the process: none of the caller's ETL_… ones."""
        return without_settings() | {
            "ETL_PROJECT": str(self.folder),
            "ETL_SOURCES__BLUESKY__CLIENT__BASE_URL": self.replay.base_url,
            "ETL_RETRY__FIRST_WAIT_SECONDS": "0.1",
            "ETL_RETRY__ATTEMPTS": "2",
            "ETL_SOURCES__BLUESKY__ATTEMPTS": "2",
            **self.variables,
            **(more or {}),
        }

    def run(
        self,
        *arguments: str,
        limit: Callable[[], None] | None = None,
        command: str = "run",
        **more: str,
    ) -> Finished:
        """`python -m etl run …`, to its end."""
        return self.finish(
            self.start_process([command, *arguments], self.folder, self.environment(more), limit)
        )

    def start(self, *arguments: str, **more: str) -> Process | subprocess.Popen[str]:
        """The same, in the background."""
        return self.start_process(["run", *arguments], self.folder, self.environment(more))

    def finish(self, process: Process | subprocess.Popen[str]) -> Finished:
        """How a process ends."""
        out, err = process.communicate(timeout=110)
        assert process.returncode is not None
        return Finished(process.returncode, out, err, self)

    def record(self) -> dict[str, Any]:
        """run.json of the newest run."""
        text = (self.data / "runs" / "latest" / "run.json").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
        return found

    def edit(self, path: str, old: str, new: str) -> None:
        """Change the project's text; the old one must be there."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")


@dataclass(frozen=True)
class Finished:
    """How a process ended."""

    code: int
    out: str
    err: str
    job: Job

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The failures of its record."""
        found: list[dict[str, Any]] = self.job.record()["failures"]
        return found


class Models(Enum):
    """How much of the shipped project a job holds: each process loads and builds all that is there.

    The values are the patterns of the files that are left out.
    """

    WHOLE = ""
    BLUESKY = "*shop* *revenue* *markets* *stock*"
    SHOP = "*bluesky* follow*.sql mutuals*.sql marts_*.sql *markets* *stock*"
    # One mart and the four models below it, for what is true of any project.
    MUTUALS = f"{BLUESKY} followers_*.sql follower_*.sql *__labels.sql marts_agree.sql"


@contextmanager
def new_job(
    folder: Path, *faults: Fault, token: str | None = None, models: Models = Models.BLUESKY
) -> Iterator[Job]:
    """A job with the shipped configuration and models, against the replay of 2026-01-01."""
    copy_project(folder, *models.value.split())
    with Replay(date=DAY, faults=faults, token=token) as replay:
        yield Job(folder, replay, {"ETL_DEMO": "true", "ETL_DEMO_DATE": DAY.isoformat()})


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Until this is true, and no longer than so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
