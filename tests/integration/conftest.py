"""What the tests of this folder share: projects that were run once and are copied, a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from filelock import FileLock
from loguru import logger

from etl.demo import Replay
from etl.records import RunRecord
from tests.integration.projects import Shop
from tests.postgres_server import Server, running_server


@dataclass(frozen=True)
class Template:
    """A project that is made by the first test of a day (UTC) that asks for it, and copied.

    The test processes share it. It is not kept overnight: a model by days has a new interval then,
    and a run that was idle the day before is not.
    """

    root: Path
    name: str
    make: Callable[[Path], object]

    def made(self) -> Shop:
        """The project itself, which nobody may change."""
        folder = self.root / f"{self.name}-{datetime.now(UTC):%Y-%m-%d}"
        done = folder.with_suffix(".done")
        with FileLock(folder.with_suffix(".lock")):
            if not done.exists():
                self.make(folder)
                done.touch()
        return Shop(folder)

    def copy(self, folder: Path) -> Shop:
        """A copy, to do anything with."""
        return self.made().copy(folder)


@dataclass(frozen=True)
class FirstRun:
    """A small project's first run: what it left, what it told, how often the process forked."""

    shop: Shop
    record: RunRecord
    forks: int


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test processes keep what they copy."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def template(templates: Path) -> Template:
    """A small project after its first run: ann 50, bob 200, each with a tea and a cup."""

    def make(folder: Path) -> None:
        shop = _sold(folder)
        forks = 0
        fork = os.fork

        def count_fork() -> int:
            nonlocal forks
            forks += 1
            return fork()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fork", count_fork)
            _succeed(shop.run())
        shop.write("forks", str(forks))

    return Template(templates, "first_run", make)


@pytest.fixture
def first_run(template: Template) -> FirstRun:
    """The first run of `template`; nobody changes it."""
    shop = template.made()
    record = RunRecord.model_validate_json(shop.text("data/runs/latest/run.json"))
    return FirstRun(shop, record, int(shop.text("forks")))


@pytest.fixture(scope="session")
def aged_template(template: Template, templates: Path) -> Template:
    """The same two days later, after an idle run: no interval of these rows is evaluated again."""

    def make(folder: Path) -> None:
        shop = template.copy(folder)
        shop.age(days=2)
        _succeed(shop.go_on())

    return Template(templates, "aged", make)


@pytest.fixture(scope="session")
def extracted_template(templates: Path) -> Template:
    """The orders of `template` in raw, and nothing planned or built."""
    return Template(templates, "extracted", lambda folder: _succeed(_sold(folder).run("extract")))


@pytest.fixture
def shop(tmp_path: Path, template: Template) -> Shop:
    """A copy of `template`."""
    return template.copy(tmp_path / "shop")


@pytest.fixture
def aged(tmp_path: Path, aged_template: Template) -> Shop:
    """A copy of `aged_template`."""
    return aged_template.copy(tmp_path / "shop")


@pytest.fixture
def extracted(tmp_path: Path, extracted_template: Template) -> Shop:
    """A copy of `extracted_template`."""
    return extracted_template.copy(tmp_path / "shop")


@pytest.fixture
def fresh(tmp_path: Path) -> Shop:
    """A small project that never ran; its source has nothing yet."""
    return Shop.create(tmp_path / "shop")


def _sold(folder: Path) -> Shop:
    shop = Shop.create(folder)
    shop.sell((1, "ann", 50), (2, "bob", 200), items=("tea", "cup"))
    return shop


def _succeed(record: RunRecord) -> None:
    assert record.exit_code == 0, record.failures


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


@pytest.fixture
def replay() -> Iterator[Replay]:
    """The demo's APIs on 2026-01-02."""
    with Replay(date(2026, 1, 2), cache=True) as running:
        yield running


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The messages of warnings that were logged."""
    found: list[str] = []
    sink = logger.add(lambda m: found.append(m.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)
