"""Killed at any point between extraction and commit, the next run has every row exactly once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl.arrival import uncounted
from etl.demo import Replay
from tests.integration.extracting import bluesky, extract_once, query, settings_of

ROOT = Path(__file__).parents[2]

# Each point replaces a function by one that ends the process before or after it, as kill -9 does.
CHILD = """
import os, signal, sys, json
from pathlib import Path
from tests.integration.extracting import extract_once, settings_of

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name, when=lambda *a, **k: True):
    real = getattr(owner, name)
    def replaced(*args, **kwargs):
        if when(*args, **kwargs):
            die()
        return real(*args, **kwargs)
    setattr(owner, name, replaced)

def after(owner, name, when=lambda *a, **k: True):
    real = getattr(owner, name)
    def replaced(*args, **kwargs):
        result = real(*args, **kwargs)
        if when(*args, **kwargs):
            die()
        return result
    setattr(owner, name, replaced)

from etl.raw.packages import Packages
from etl.raw.pipeline import Raw
from dlt.common.storages import LoadStorage
from dlt.common.storages.load_package import PackageStorage
from dlt.load.load import Load
from dlt.destinations.impl.duckdb.duck import DuckDbClient, DuckDbCopyJob
from dlt.destinations.job_client_impl import SqlLoadJob
from dlt.normalize.normalize import Normalize

begun = []
def nth(n):
    def when(self, *a, **k):
        begun.append(1)
        return len(begun) == n
    return when

job_of = lambda table: lambda self, *a, **k: self._file_path.split("/")[-1].startswith(table + ".")
POINTS = {
    "before accept": lambda: before(Packages, "accept"),
    "before normalize": lambda: after(Packages, "accept"),
    "in normalize": lambda: before(Normalize, "map_single"),
    "between normalize's two notes": lambda: after(LoadStorage, "commit_new_load_package"),
    "before load": lambda: before(Load, "run"),
    "before the first file": lambda: before(DuckDbCopyJob, "run"),
    "after the schema was changed": lambda: after(Load, "initialize_package"),
    "between files": lambda: after(PackageStorage, "complete_job", nth(2)),
    "after the last file": lambda: before(Load, "complete_package"),
    "after a root's commit": lambda: after(DuckDbCopyJob, "run", job_of("followers")),
    "after a child's commit": lambda: after(DuckDbCopyJob, "run", job_of("followers__labels")),
    "after dlt's note of the commit": lambda: before(Load, "complete_jobs", nth(3)),
    "before a merge": lambda: before(SqlLoadJob, "run"),
    "after a merge": lambda: after(SqlLoadJob, "run"),
    "before _dlt_loads": lambda: before(DuckDbClient, "complete_load"),
    "after _dlt_loads": lambda: after(DuckDbClient, "complete_load"),
    "after the package moved": lambda: after(LoadStorage, "complete_load_package"),
    "after commit": lambda: after(Raw, "commit"),
}
# One process pays for the imports; each point is met by a fork of it.
import tests.preload, etl.stages.extract
for folder, point, sources in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        POINTS[point]()
        extract_once(settings_of(Path(folder), sources))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        sys.exit(f"{point} was never reached")
"""

POINTS = [
    "before accept", "before normalize", "in normalize", "between normalize's two notes",
    "before load", "before the first file", "after the schema was changed", "between files",
    "after the last file", "after a root's commit", "after a child's commit",
    "after dlt's note of the commit", "before _dlt_loads", "after _dlt_loads",
    "after the package moved", "after commit",
]  # fmt: skip
CHECKED_ONLY_IN_MEMORY = {"before accept"}
# Up to the load, packages of any disposition go the same way; append is killed at every point.
IN_LOAD = [
    "after the schema was changed", "after a child's commit", "after the last file",
    "before _dlt_loads", "after the package moved",
]  # fmt: skip
IN_MERGE = [
    "before a merge", "after a merge", "after a child's commit", "before _dlt_loads",
    "after _dlt_loads",
]  # fmt: skip
# By disposition, and by how many loads came before the killed one.
KILLED = {
    ("append", 0): POINTS,
    ("replace", 1): IN_LOAD,
    ("merge", 0): IN_MERGE,
    ("merge", 1): IN_MERGE,
}
Case = tuple[str, int]


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(date(2026, 1, 2), cache=True) as replay:
        yield replay


def source_of(replay: Replay, disposition: str) -> dict[str, Any]:
    source: dict[str, Any] = bluesky(
        replay.base_url, "bulk-300.test", write_disposition=disposition
    )
    if disposition == "merge":
        source["resource_defaults"]["primary_key"] = "did"
    return {"bluesky": source}


@pytest.fixture(scope="module")
def killed(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, Path]]:
    """For each case and point, the folder of an extraction that was killed there."""
    found: dict[Case, dict[str, Path]] = {}
    asked = []
    for case, points in KILLED.items():
        disposition, earlier = case
        sources, top = source_of(replay, disposition), tmp_path_factory.mktemp("killed")
        found[case] = {point: top / str(number) for number, point in enumerate(points)}
        if earlier:
            extract_once(settings_of(top / "earlier", sources))
        for point, folder in found[case].items():
            if earlier:
                shutil.copytree(top / "earlier", folder)
            asked.append((str(folder), point, sources))
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return found


def shape(settings: Any) -> dict[str, Any]:
    def one(sql: str) -> tuple[Any, ...]:
        return query(settings, sql)[0]

    return {
        "rows": one("SELECT count(*), count(DISTINCT did) FROM bluesky_raw.followers"),
        "labels": one(
            "SELECT count(*), count(DISTINCT _dlt_id) FROM bluesky_raw.followers__labels"
        ),
        "orphans": one(
            "SELECT count(*) FROM bluesky_raw.followers__labels l "
            "ANTI JOIN bluesky_raw.followers f ON f._dlt_id = l._dlt_parent_id"
        )[0],
        "uncommitted": one(
            "SELECT count(*) FROM bluesky_raw.followers f ANTI JOIN bluesky_raw._dlt_loads l "
            "ON f._dlt_load_id = l.load_id AND l.status = 0"
        )[0],
        "packages": one("SELECT count(*), count(DISTINCT load_id) FROM bluesky_raw._dlt_loads"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("disposition", "earlier"), KILLED)
def test_killed_anywhere_every_row_stands_once(
    replay: Replay, killed: dict[Case, dict[str, Path]], disposition: str, earlier: int
) -> None:
    for point, folder in killed[disposition, earlier].items():
        settings = settings_of(folder, source_of(replay, disposition))
        ctx = extract_once(settings)
        survived = point not in CHECKED_ONLY_IN_MEMORY
        packages = 1 + earlier + survived
        rows = 300 * packages if disposition == "append" else 300
        assert shape(settings) == {
            "rows": (rows, 300),
            "labels": (rows, rows),
            "orphans": 0,
            "uncommitted": 0,
            "packages": (packages, packages),
        }, point
        # The killed package is counted as well; what was extracted is known by its note.
        assert len(ctx.run.reconciliations) == 1 + survived, point
        assert uncounted(settings, "bluesky") == [], point
        [found] = ctx.run.sources
        assert found.rows == 300, point
        finished_now = survived and point not in {"after the package moved", "after commit"}
        assert len(found.load_ids) == 1 + finished_now, point
