"""dlt and SQLMesh send nothing about who uses them: each is asked in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DLT = """
from etl.cli import main
main(["config", "schema"])
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration
print("\\n@", resolve_configuration(RuntimeConfiguration()).dlthub_telemetry)
"""
SQLMESH = """
from etl.cli import main
main(["config", "schema"])
from sqlmesh.core import analytics
print("\\n@", type(analytics.collector._dispatcher).__name__)
"""
# In these SQLMesh is imported before the variable is set.
AS_A_LIBRARY = """
from pathlib import Path
from etl.configuration import load_settings
from etl.project.engine import read_models
from sqlmesh.core import analytics
with read_models(load_settings(Path(), "default")):
    print("\\n@", type(analytics.collector._dispatcher).__name__)
"""
PLAIN_SQLMESH = """
from sqlmesh import Context
from sqlmesh.core import analytics
Context(paths="sqlmesh", load=False)
print("\\n@", type(analytics.collector._dispatcher).__name__)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(DLT, "False", id="dlt"),
        pytest.param(SQLMESH, "NoopEventDispatcher", id="SQLMesh"),
        pytest.param(AS_A_LIBRARY, "NoopEventDispatcher", id="SQLMesh without etl's command"),
        pytest.param(PLAIN_SQLMESH, "NoopEventDispatcher", id="SQLMesh's own command"),
    ],
)
def test_no_telemetry_unless_the_user_says_so(script: str, said: str, tmp_path: Path) -> None:
    # Without what other tests have set in this process by now.
    environment = {
        k: v for k, v in os.environ.items() if "TELEMETRY" not in k and "ANALYTICS" not in k
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path), "ETL_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rpartition("\n@ ")[2].strip() == said
