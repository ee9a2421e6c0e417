"""What the stages of one run share: settings, the growing record, how to stop, progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl.drift import Drift
from etl.errors import EtlError
from etl.progress import Progress
from etl.records import Options
from etl.runs import Run
from etl.settings import Settings, Source
from etl.stop import Stop
from etl.warehouse import KeptOpen

if TYPE_CHECKING:
    from etl.project.environment import Project


@dataclass
class RunContext:
    """Handed to every stage.

    `done_sources` need no second extraction when the stage is tried again; `transformed` tells the
    audit stage that the models' own audits have just run, `idle` that there was nothing to do.
    `drift` waits to be told, `contained` are failures of parts of sources that came in otherwise.
    """

    settings: Settings
    options: Options
    run: Run
    stop: Stop
    progress: Progress
    warehouse: KeptOpen
    done_sources: set[str] = field(default_factory=set)
    drift: dict[str, Drift] = field(default_factory=dict)
    contained: list[EtlError] = field(default_factory=list)
    transformed: bool = False
    idle: bool = False
    warehouse_turn: threading.Lock = field(default_factory=threading.Lock)
    importing: threading.Thread | None = None
    importing_turn: threading.Lock = field(default_factory=threading.Lock)
    _project: Project | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """The sources that this run reads."""
        active = self.settings.active_sources
        return {
            n: s for n, s in active.items() if not self.options.sources or n in self.options.sources
        }

    @property
    def refresh(self) -> bool:
        """True when raw is extracted anew; `--select` asks for models only, raw stays."""
        return self.options.full_refresh and not self.options.select

    @contextmanager
    def project(self) -> Iterator[Project]:
        """The SQLMesh project: parsed once in a run, but anew after an error."""
        from etl.project.environment import Project

        if self._project is None:
            self._project = Project(
                self.settings,
                self.options.environment,
                on_model=lambda name: self.progress.advance("models", name),
            )
        try:
            with self.stop.interrupting(self._project.interrupt):
                yield self._project
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free warehouse and state, if the project was opened."""
        project, self._project = self._project, None
        if project is not None:
            project.close()
