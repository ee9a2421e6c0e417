"""Killed at any point between extraction and commit, the next run has every row exactly once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

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

from etl.raw import Raw
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
    "before accept": lambda: before(Raw, "accept"),
    "before normalize": lambda: after(Raw, "accept"),
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
import etl.stages.extract
for folder, point in json.loads(sys.argv[2]):
    child = os.fork()
    if child == 0:
        POINTS[point]()
        extract_once(settings_of(Path(folder), json.loads(sys.argv[1])))
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


def kill(sources: dict[str, Any], points: list[tuple[str, str]]) -> None:
    """Extract into each folder and be killed at its point."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(sources), json.dumps(points)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]


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
@pytest.mark.parametrize(
    ("disposition", "earlier"), [("append", 0), ("replace", 1), ("merge", 0), ("merge", 1)]
)
def test_killed_anywhere_every_row_stands_once(
    tmp_path: Path, disposition: str, earlier: int
) -> None:
    merge = disposition == "merge"
    points = [*POINTS, "before a merge", "after a merge"] if merge else POINTS
    if disposition == "replace":
        points = points[::2]  # append is killed at every one
    elif merge:
        points = [p for p in points if "merge" in p or "child" in p or "_dlt_loads" in p]
    with Replay(date(2026, 1, 2), cache=True) as replay:
        source = bluesky(replay.base_url, "bulk-300.test", write_disposition=disposition)
        if merge:
            source["resource_defaults"]["primary_key"] = "did"
        folders = {point: tmp_path / str(number) for number, point in enumerate(points)}
        if earlier:
            extract_once(settings_of(tmp_path / "earlier", {"bluesky": source}))
            for folder in folders.values():
                shutil.copytree(tmp_path / "earlier", folder)
        kill({"bluesky": source}, [(str(folder), point) for point, folder in folders.items()])
        for point, folder in folders.items():
            settings = settings_of(folder, {"bluesky": source})
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
            [found] = ctx.run.sources
            assert found.rows == 300, point
            finished_now = survived and point not in {"after the package moved", "after commit"}
            assert len(found.load_ids) == 1 + finished_now, point
