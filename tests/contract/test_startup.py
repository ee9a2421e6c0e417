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
         "prometheus_client", "opentelemetry")  # fmt: skip
LIGHT = ("pydantic", "yaml", "loguru")
# Arguments, code, what they must not import besides. Those that must not import most come first:
# one process runs them all, and each is asked for what is new.
COMMANDS: list[tuple[str, int, tuple[str, ...]]] = [
    ("--help", 0, LIGHT),
    ("--version", 0, LIGHT),
    ("run --help", 0, LIGHT),
    ("lineage --help", 0, LIGHT),
    ("exit-codes", 0, LIGHT),
    ("exit-codes --format kubernetes", 0, LIGHT),
    ("exit-codes --format systemd", 0, LIGHT),
    ("nonsense", 2, LIGHT),
    ("run --stagee x", 2, LIGHT),
    ("status", 0, ()),
    ("status --json", 0, ()),
    ("config show", 0, ()),
    ("config schema", 0, ()),
    ("run --project /nonexistent", 2, ()),
    ("run --profile nosuch", 2, ()),
]
PROBE = """
import json, sys
from etl.cli import main
found, before = [], set()
for arguments in sys.argv[1:]:
    code = main(arguments.split())
    found.append([code, sorted(m for m in set(sys.modules) - before if "." not in m)])
    before = set(sys.modules)
print("\\n@", json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """The code of each command in a new process, and the modules that it was the first to need."""
    commands = [arguments for arguments, *_ in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *commands],
        cwd=ROOT,
        env={**os.environ, "ETL_DATA_DIR": str(tmp_path_factory.mktemp("data"))},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.rpartition("\n@ ")[2])
    return {a: (code, set(new)) for a, (code, new) in zip(commands, found, strict=True)}


@pytest.mark.parametrize(("arguments", "code", "more"), COMMANDS, ids=[a for a, *_ in COMMANDS])
def test_a_quick_command_imports_nothing_heavy(
    arguments: str,
    code: int,
    more: tuple[str, ...],
    imported: dict[str, tuple[int, set[str]]],
) -> None:
    found, modules = imported[arguments]
    assert found == code
    assert modules.isdisjoint({*HEAVY, *more})


def test_the_probe_sees_what_is_imported(imported: dict[str, tuple[int, set[str]]]) -> None:
    assert "argparse" in imported["--help"][1]
    assert {"pydantic", "yaml"} <= set().union(*(new for _, new in imported.values()))
