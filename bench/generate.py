"""`etl generate` for 200 raw tables, and `etl plan` after one of them got a column.

Whole processes on this machine, in alternating order, medians. The tables are those of bench/many;
dlt records their schemas in one extraction. Beside it: the imports alone, which nothing that uses
both libraries can be faster than, and SQLMesh's own generator on the same pipeline.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Timing, alternate, time_process

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PATHS = {"PYTHONPATH": str(ROOT)}
QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1"}
WRITTEN = ("models", "audits", "external_models", ".generated")


class Many:
    """A project with one source of many tables, extracted once."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.files = folder / "sqlmesh"
        self.files.mkdir()
        shutil.copy2(ROOT / "sqlmesh" / "config.py", self.files)
        (folder / "config").mkdir()
        self.configure()

    def configure(self, wider: int | None = None) -> None:
        """Root table `wider` has one column more from now on."""
        arguments = {"count": self.count, "wider": wider}
        source = {"factory": "bench.many:tables", "arguments": arguments}
        config = {"transform": {"start": "2026-01-01"}, "sources": {"many": source}}
        (self.folder / "config" / "etl.yaml").write_text(json.dumps(config))

    def etl(self, *arguments: str) -> Timing:
        """A command as a process."""
        command = [sys.executable, "-m", "etl", *arguments, "--project", str(self.folder)]
        return time_process(command, PATHS)

    def generate(self, *, anew: bool) -> Timing:
        """`etl generate`; anew: nothing was generated before."""
        if anew:
            for name in WRITTEN:
                shutil.rmtree(self.files / name, ignore_errors=True)
        return self.etl("generate")

    def plan(self, cache: Path | None) -> tuple[Timing, list[str]]:
        """`etl plan` after its imports, with this copy of SQLMesh's cache."""
        place = self.folder / "data" / "cache"
        shutil.rmtree(place, ignore_errors=True)
        if cache is not None:
            shutil.copytree(cache, place)
        command = [sys.executable, "-m", "bench.ways.plan", str(self.folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        first, *lines = done.stdout.splitlines()
        seconds, cpu = (float(n) for n in first.split())
        return Timing(seconds, 0, cpu), lines


def imports(_: int) -> Timing:
    """The two libraries and nothing else."""
    return time_process([sys.executable, "-c", "import dlt, sqlmesh"], QUIET)


def sqlmesh_init(many: Many, _: int) -> Timing:
    """SQLMesh's own generator, in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = ["--dlt-pipeline", "many", "--dlt-path", str(many.folder / "data" / "dlt")]
        command = [str(BIN / "sqlmesh"), "init", "-t", "dlt", *pipeline, "duckdb"]
        timing = time_process(command, QUIET, Path(folder))
        found = len(list(Path(folder).glob("models/*.sql")))
        sys.stderr.write(f"  sqlmesh init wrote {found} models\n")
    return timing


def show(name: str, timings: Sequence[Timing]) -> None:
    """A line of the table."""
    seconds, cpu = [t.seconds for t in timings], [t.cpu for t in timings]
    print(
        f"| {name} | {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
        f"| {statistics.median(cpu):.2f} |"
    )


def touched(lines: Sequence[str]) -> list[str]:
    """The models that a plan says have changed themselves."""
    found = [re.match(r"transform: (?:added|breaking|non-breaking) ([\w.]+)", t) for t in lines]
    return sorted(m[1] for m in found if m)


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=200, help="a multiple of eight")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = Many(Path(folder), options.tables)
        many.etl("run", "--stage", "extract")
        ways: dict[str, Callable[[int], Timing]] = {
            "import dlt, sqlmesh": imports,
            "sqlmesh init -t dlt": lambda n: sqlmesh_init(many, n),
            "etl generate, the first time": lambda _: many.generate(anew=True),
            "etl generate, nothing new": lambda _: many.generate(anew=False),
        }
        results = alternate(ways, options.rounds)
        models = len(list(many.files.glob("models/*/*.sql")))
        many.etl("run", "--stage", "transform")
        many.configure(wider=1)
        many.etl("run", "--stage", "extract")
        results["etl generate, a column more"] = [many.generate(anew=False)]
        cache = Path(folder) / "cache"
        shutil.copytree(many.folder / "data" / "cache", cache)
        plans: dict[str, list[Timing]] = {"of the last run": [], "empty": []}
        lines: list[str] = []
        for _ in range(options.rounds):
            for name, copy in (("of the last run", cache), ("empty", None)):
                timing, lines = many.plan(copy)
                plans[name].append(timing)
    print(f"{options.tables} raw tables, {models} models, {options.rounds} rounds\n")
    print("| process | seconds (median, min-max) | CPU seconds |")
    print("|---|---|---|")
    for name, timings in results.items():
        show(name, timings)
    for name, timings in plans.items():
        show(f"etl plan after its imports, cache {name}", timings)
    print(f"\nA column more in root_001; the plan names: {', '.join(touched(lines))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
