"""Copies the project that ships, without what a test does not run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.processes import ROOT

# SQLMesh would read the models' own tests in each process, and runs them in none.
NEVER = (".cache", "__pycache__", "logs", "tests")


def copy_project(folder: Path, *left_out: str) -> None:
    """Configuration and models, but for the files that match, and the loads of their marts.

    Each run loads all models that are there.
    """
    for part in ("config", "sqlmesh"):
        ignore = shutil.ignore_patterns(*NEVER, *left_out)
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    kept = {path.stem for path in (folder / "sqlmesh" / "models").rglob("*.sql")}
    for config in (folder / "config").glob("*.yaml"):
        lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
        loads = ((re.match(r"  - \{model: marts\.(\w+),", line), line) for line in lines)
        text = "".join(line for load, line in loads if not load or load[1] in kept)
        config.write_text(re.sub(r"(?m)^loads:\n(?!  - )", "loads: []\n", text), encoding="utf-8")
