"""Progress: what the run is doing, live on a terminal, a line now and then everywhere else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from loguru import logger

from etl.logs import shared_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Live
    from rich.progress import TaskID

Kind = Literal["pages", "rows", "models"]

LINE_EVERY_SECONDS = 30.0


@dataclass
class _Subject:
    """What was counted for one source, or for all models of a stage."""

    last_line: float
    task: TaskID | None = None
    counts: Counter[Kind] = field(default_factory=Counter)


class Progress:
    """Counts pages, rows and models from any thread and shows them.

    Leave it as a context manager: that gives the terminal its cursor back, whatever happened.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or shared_console()
        self._clock = clock
        self._lock = threading.Lock()
        self._stage = ""
        self._subjects: dict[str, _Subject] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console is not None:
            self._live = _make_live(self._console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with suppress(OSError):  # the terminal was closed
                self._live.stop()
            self._live = None

    def stage(self, name: str) -> None:
        """Begin a stage: what the one before counted is done."""
        with self._lock:
            for subject in self._subjects.values():
                if self._live is not None and subject.task is not None:
                    self._live.remove_task(subject.task)
            self._stage, self._subjects = name, {}

    def advance(self, kind: Kind, subject: str, amount: int = 1) -> None:
        """Count `amount` more pages or rows of a source; or models, `subject` being the last."""
        key = "models" if kind == "models" else subject
        now = self._clock()
        line: dict[str, int] | None = None
        with self._lock:
            entry = self._subjects.setdefault(key, _Subject(last_line=now))
            entry.counts[kind] += amount
            if self._live is not None:
                if entry.task is None:
                    entry.task = self._live.add_task(key, stage=self._stage, said="", total=None)
                self._live.update(entry.task, said=_describe(entry.counts, subject))
            elif now - entry.last_line >= LINE_EVERY_SECONDS:
                entry.last_line = now
                line = {str(k): n for k, n in entry.counts.items()}
        if line is not None:
            # Outside of the lock: writing may wait for a slow reader of standard error.
            where = {} if kind == "models" else {"source": subject}
            event = "transforming" if kind == "models" else "extracting"
            logger.bind(**where, **line).info(event)


def _describe(counts: Counter[Kind], subject: str) -> str:
    said = ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
    return f"{said}: {subject}" if "models" in counts else said


def _make_live(console: Console) -> Live:
    from rich.progress import Progress as Live
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    # Standard output carries data: rich must not lead it to the terminal's other stream.
    return Live(
        SpinnerColumn(),
        TextColumn("{task.fields[stage]} {task.description}", markup=False),
        TextColumn("{task.fields[said]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
