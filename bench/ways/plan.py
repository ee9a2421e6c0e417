"""`etl plan` on a project, timed after the imports: `seconds cpu-seconds`, then the plan's lines.

Argument: the project's folder.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from etl.libraries import prepare_libraries

prepare_libraries()
# SQLMesh imports pandas when it first needs it: that is start-up too.
for module in ("pandas", "etl.project.runner", "etl.planning"):
    importlib.import_module(module)


def main(folder: Path) -> None:
    """Print the plan's time and lines."""
    from etl.configuration import load_settings
    from etl.planning import show_plan

    started, cpu = time.perf_counter(), time.process_time()
    lines = show_plan(load_settings(folder), "prod", 0)
    print(f"{time.perf_counter() - started:.2f} {time.process_time() - cpu:.2f}")
    print("\n".join(lines))


main(Path(sys.argv[1]))
