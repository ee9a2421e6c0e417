"""What answers at once imports nothing heavy: a probe must not pay for dlt or SQLMesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("dlt", "sqlmesh", "sqlglot", "pandas", "pyarrow", "duckdb", "requests", "rich", "tenacity",
         "prometheus_client")  # fmt: skip
LIGHT = ("pydantic", "yaml", "loguru")
PROBE = """
import json, sys
from etl.cli import main
code = main(sys.argv[1:])
print("\\n@", json.dumps([code, sorted(m for m in sys.modules if "." not in m)]))
"""


def probe(*arguments: str, tmp_path: Path) -> tuple[int, set[str]]:
    """The code of a command in a new process, and every module that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT,
        env={**os.environ, "ETL_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.rpartition("\n@ ")[2])
    return code, set(modules)


@pytest.mark.parametrize(
    ("arguments", "code", "more"),
    [
        (["--help"], 0, LIGHT),
        (["--version"], 0, LIGHT),
        (["run", "--help"], 0, LIGHT),
        (["lineage", "--help"], 0, LIGHT),
        (["exit-codes"], 0, LIGHT),
        (["exit-codes", "--format", "kubernetes"], 0, LIGHT),
        (["exit-codes", "--format", "systemd"], 0, LIGHT),
        (["nonsense"], 2, LIGHT),
        (["run", "--stagee", "x"], 2, LIGHT),
        (["status"], 0, ()),
        (["status", "--json"], 0, ()),
        (["config", "show"], 0, ()),
        (["config", "schema"], 0, ()),
        (["run", "--project", "/nonexistent"], 2, ()),
        (["run", "--profile", "nosuch"], 2, ()),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_a_quick_command_imports_nothing_heavy(
    arguments: list[str], code: int, more: tuple[str, ...], tmp_path: Path
) -> None:
    found, modules = probe(*arguments, tmp_path=tmp_path)
    assert found == code
    assert modules.isdisjoint({*HEAVY, *more})
