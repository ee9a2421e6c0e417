"""What the tests of containers share: a job whose project a container reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import ContainerJob, new_container_job


@pytest.fixture
def job(tmp_path: Path) -> Iterator[ContainerJob]:
    """The shipped project in a folder that the container's user may read."""
    tmp_path.chmod(0o755)
    with new_container_job(tmp_path) as job:
        yield job
