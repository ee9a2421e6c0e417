"""What the stages of one run share: settings, the growing record, how to stop, progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl.progress import Progress
from etl.records import Options
from etl.runs import Run
from etl.settings import Settings, Source
from etl.stop import Stop

if TYPE_CHECKING:
    from etl.project.runner import Project


@dataclass
class RunContext:
    """Handed to every stage.

    `done_sources` need no second extraction when the stage is tried again; `transformed` tells the
    audit stage that the models' own audits have just run.
    """

    settings: Settings
    options: Options
    run: Run
    stop: Stop
    progress: Progress
    done_sources: set[str] = field(default_factory=set)
    transformed: bool = False
    warehouse_turn: threading.Lock = field(default_factory=threading.Lock)
    _project: Project | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """The sources that this run reads."""
        active = self.settings.active_sources
        return {n: s for n, s in active.items() if not self.options.sources or n in self.options.sources}

    @contextmanager
    def project(self) -> Iterator[Project]:
        """The SQLMesh project; parsed once, with fresh ears for each stage."""
        from etl.project.runner import Project

        project = Project(
            self.settings,
            self.options.environment,
            on_model=lambda name: self.progress.advance("models", name),
        )
        try:
            yield project
        finally:
            project.close()
