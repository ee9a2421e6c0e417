"""What the tests of this folder share: projects that were run once and are copied, a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from filelock import FileLock
from loguru import logger

from etl.demo import Replay
from etl.records import RunRecord
from tests.integration.projects import Shop
from tests.postgres_server import Server, running_server


@dataclass(frozen=True)
class FirstRun:
    """A small project's first run: what it left, what it told, how often the process forked."""

    shop: Shop
    record: RunRecord
    forks: int


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """The first run of a small project; nobody changes it."""

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

    shop = Shop(_made_once(tmp_path_factory, "first_run", make))
    record = RunRecord.model_validate_json(shop.text("data/runs/latest/run.json"))
    return FirstRun(shop, record, int(shop.text("forks")))


@pytest.fixture(scope="session")
def template(first_run: FirstRun) -> Shop:
    """A small project after its first run: ann 50, bob 200, each with a tea and a cup."""
    return first_run.shop


@pytest.fixture(scope="session")
def aged_template(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same two days later, after an idle run: no interval of these rows is evaluated again."""

    def make(folder: Path) -> None:
        shop = template.copy(folder)
        shop.age(days=2)
        _succeed(shop.go_on())

    return Shop(_made_once(tmp_path_factory, "aged", make))


@pytest.fixture(scope="session")
def extracted_template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The orders of `template` in raw, and nothing planned or built."""

    def make(folder: Path) -> None:
        _succeed(_sold(folder).run("extract"))

    return Shop(_made_once(tmp_path_factory, "extracted", make))


@pytest.fixture
def shop(tmp_path: Path, template: Shop) -> Shop:
    """A copy of `template`."""
    return template.copy(tmp_path / "shop")


@pytest.fixture
def aged(tmp_path: Path, aged_template: Shop) -> Shop:
    """A copy of `aged_template`."""
    return aged_template.copy(tmp_path / "shop")


@pytest.fixture
def extracted(tmp_path: Path, extracted_template: Shop) -> Shop:
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


def _made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A folder that is made by the first of the test processes that asks for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


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
