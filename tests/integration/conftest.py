"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.projects import Shop
from tests.postgres_server import Server, running_server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A small project after its first run; tests work on copies of it."""
    project = Shop.create(tmp_path_factory.mktemp("template") / "shop")
    project.sell((1, "ann", 50), (2, "bob", 200), items=("tea", "cup"))
    assert project.run().exit_code == 0
    return project


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server
