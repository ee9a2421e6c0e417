"""The wheel holds all that the job needs and runs from anywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import cache_from_source, find_spec
from pathlib import Path

import pytest

from etl.targets.mssql.driver import INSTALL_MANAGER
from tests.contract.process import Models, new_job
from tests.processes import ROOT

LOCKS = ROOT / "requirements"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "--no-index", "-w", str(folder), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"etl"}
    assert "etl/run.schema.json" in names
    assert "etl/py.typed" in names
    assert any(n.startswith("etl/demo/") for n in names)
    templates = {p.relative_to(ROOT).as_posix() for p in (ROOT / "etl").rglob("*.template")}
    assert templates <= set(names)
    entry = next(n for n in names if n.endswith("entry_points.txt"))
    assert "etl = etl.__main__:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_a_wheel_installed_elsewhere_runs_a_project_and_makes_one(
    wheel: Path, tmp_path: Path
) -> None:
    site, project, elsewhere = (tmp_path / name for name in ("site", "project", "elsewhere"))
    for folder in (project, elsewhere):
        folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
         "--target", str(site), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    with new_job(project, models=Models.MUTUALS) as job:
        job.variables["ETL_SOURCES__BLUESKY__FOR_EACH__ACTOR"] = "[bulk-300.test]"
        variables = job.environment({"PYTHONPATH": str(site), "ETL_PROJECT": ""})
        where = subprocess.run(
            [sys.executable, "-c", "import etl; print(etl.__file__)"],
            cwd=elsewhere, env=variables, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert str(site) in where.stdout
        done = subprocess.run(
            [sys.executable, "-m", "etl", "run", "--project", str(project)],
            cwd=elsewhere, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project / "data" / "marts.duckdb").exists()
    assert list(elsewhere.iterdir()) == []
    made = subprocess.run(
        [sys.executable, "-m", "etl", "init", str(tmp_path / "new")],
        cwd=elsewhere, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "new" / ".gitignore").exists()
    assert list(elsewhere.iterdir()) == []


def locked(name: str) -> dict[str, set[str]]:
    """The packages of a lock with their versions (more than one: by platform)."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    pinned = re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE)
    for package, version in pinned:
        found.setdefault(package, set()).add(version)
    return found


def test_what_a_run_imports_is_compiled_by_the_setup() -> None:
    """A user who may not write into the installation would compile it again in every run."""
    modules = {
        "dlt": "pipeline/pipeline.py",
        "pandas": "core/frame.py",
        "sqlmesh": "core/context.py",
    }
    for package, module in modules.items():
        found = find_spec(package)
        assert found is not None
        assert found.origin is not None
        source = Path(found.origin).parent / module
        assert Path(cache_from_source(str(source))).exists(), source


def test_the_locks_hold_what_they_need_at_the_same_versions() -> None:
    """An image with extras installs their locks, without looking at what packages ask for."""
    everything, runtime = locked("dev"), locked("runtime")
    names = ("runtime", *(e for e in extras() if (ROOT / "requirements" / f"{e}.txt").exists()))
    assert len(names) > 3
    for name in names:
        lock = locked(name)
        assert runtime.keys() <= lock.keys(), f"requirements/{name}.txt: run `make lock`"
        assert {p: v for p, v in lock.items() if not v <= everything.get(p, set())} == {}, name


def test_what_an_extra_needs_of_debian_is_named_like_it_and_like_the_driver_says() -> None:
    needed = {p.stem: p.read_text(encoding="utf-8").split() for p in LOCKS.glob("*.apt")}
    assert needed.keys() <= set(extras())
    # The library's package in place of the tools around it.
    assert {"libodbc2": "unixodbc"}.get(needed["mssql"][0]) in INSTALL_MANAGER.split()
    assert needed["mssql"][1:] == [w for w in INSTALL_MANAGER.split() if w.startswith("lib")]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert '"/requirements/$extra.apt"' in dockerfile


def extras() -> list[str]:
    """The optional dependencies of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])
