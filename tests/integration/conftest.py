"""What the tests of this folder share: projects that were run once and are copied, a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

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
    shop = Shop.create(tmp_path_factory.mktemp("template") / "shop")
    shop.sell((1, "ann", 50), (2, "bob", 200), items=("tea", "cup"))
    forks = 0
    fork = os.fork

    def count_fork() -> int:
        nonlocal forks
        forks += 1
        return fork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fork", count_fork)
        record = shop.run()
    assert record.exit_code == 0, record.failures
    return FirstRun(shop, record, forks)


@pytest.fixture(scope="session")
def template(first_run: FirstRun) -> Shop:
    """A small project after its first run: ann 50, bob 200, each with a tea and a cup."""
    return first_run.shop


@pytest.fixture(scope="session")
def aged_template(template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same two days later, after an idle run: no interval of these rows is evaluated again."""
    shop = template.copy(tmp_path_factory.mktemp("aged") / "shop")
    shop.age(days=2)
    record = shop.go_on()
    assert record.exit_code == 0, record.failures
    return shop


@pytest.fixture(scope="session")
def extracted_template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The orders of `template` in raw, and nothing planned or built."""
    shop = Shop.create(tmp_path_factory.mktemp("extracted") / "shop")
    shop.sell((1, "ann", 50), (2, "bob", 200), items=("tea", "cup"))
    record = shop.run("extract")
    assert record.exit_code == 0, record.failures
    return shop


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server
