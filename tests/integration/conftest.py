"""What the tests of this folder share."""

from __future__ import annotations

import pytest

from tests.integration.projects import Shop


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A small project after its first run; tests work on copies of it."""
    project = Shop.create(tmp_path_factory.mktemp("template") / "shop")
    project.sell((1, "ann", 50), (2, "bob", 200), items=("tea", "cup"))
    assert project.run().exit_code == 0
    return project
