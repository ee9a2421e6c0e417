"""`etl plan` on a project, timed after the imports: `seconds cpu-seconds`, then the plan's lines.

Argument: the project's folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from etl.libraries import prepare_libraries

prepare_libraries()

import pandas  # noqa: E402, F401 - SQLMesh imports it when it first needs it

import etl.project.runner  # noqa: E402, F401
from etl.configuration import load_settings  # noqa: E402
from etl.planning import show_plan  # noqa: E402

started, cpu = time.perf_counter(), time.process_time()
lines = show_plan(load_settings(Path(sys.argv[1])), "prod", 0)
print(f"{time.perf_counter() - started:.2f} {time.process_time() - cpu:.2f}")
print("\n".join(lines))
