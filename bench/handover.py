"""Rows that arrive in models: `sqlmesh init -t dlt`, the libraries' own way, beside this project.

Both read the API of tests/contract/library.py, on two days: books (merge, with a nested list),
loans (append), branches (replace). The libraries' way extracts at noon and runs SQLMesh after that
and after each midnight; its processes are given another clock, for its models are daily.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import yaml

from tests.contract.library import SOURCE, Library, books, branches, loans, open_library
from tests.contract.test_own_api import Project

WAYS = Path(__file__).parent / "ways"
ON_DAY, SCRIPT = WAYS / "on_day.py", WAYS / "library_dlt.py"
SQLMESH = Path(sys.executable).parent / "sqlmesh"
CLOCK = "time-machine==3.6.0"
TABLES = ("books", "books__copies", "loans", "branches")
KEYS = {"books": "id", "loans": "number", "branches": "town"}
NOON_1, NIGHT_1 = "2026-03-02 12:00:00", "2026-03-03 00:30:00"
NOON_2, NIGHT_2 = "2026-03-03 12:00:00", "2026-03-04 00:30:00"


class TheirWay:
    """dlt, `sqlmesh init -t dlt`, `plan`, `run`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.project = folder, folder / "project"
        self.project.mkdir()
        install = ("-m", "pip", "install", "-qq", "--no-deps", "--target", str(folder / "clock"))
        subprocess.run([sys.executable, *install, CLOCK], check=True)
        self.source = yaml.safe_load(SOURCE.format(url=url))["sources"]["library"]

    def _process(self, moment: str, command: Path, *arguments: str) -> None:
        environment = {
            "PYTHONPATH": str(self.folder / "clock"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1",
        }
        done = subprocess.run(
            [sys.executable, ON_DAY, moment, command, *arguments],
            cwd=self.project,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command} {arguments}: {(done.stdout + done.stderr)[-3000:]}")
        sys.stderr.write(f"  {moment}: {command.name} {arguments[0][:20]}: exit 0\n")

    def extract(self, moment: str) -> None:
        """The API as it is now."""
        self._process(moment, SCRIPT, json.dumps(self.source), str(self.folder))

    def start(self, moment: str) -> None:
        """Make the project and build its models."""
        pipeline = ("--dlt-pipeline", "library", "--dlt-path", str(self.folder / "dlt"))
        self._process(moment, SQLMESH, "init", "-t", "dlt", *pipeline, "duckdb")
        config = self.project / "config.yaml"
        text = config.read_text(encoding="utf-8")
        # The generated file names another one than the pipeline's.
        warehouse = str(self.folder / "library.duckdb")
        config.write_text(re.sub(r"(?m)^(\s+database:).*$", rf"\1 {warehouse}", text, count=1))
        self._process(moment, SQLMESH, "plan", "--no-prompts", "--auto-apply")

    def run(self, moment: str) -> None:
        """`sqlmesh run`, as cron would."""
        self._process(moment, SQLMESH, "run")

    def count(self) -> list[str]:
        """Rows of each model, and how many keys stand more than once."""
        models = {t: f"library_raw_sqlmesh.incremental_{t}" for t in TABLES}
        return count(self.folder / "library.duckdb", models)


def count(file: Path, models: dict[str, str]) -> list[str]:
    """Rows of each table's model; keys that stand more than once are told."""
    told = []
    with duckdb.connect(str(file), read_only=True) as connection:
        for table, model in models.items():
            key = KEYS.get(table)
            keys = f"COUNT(DISTINCT {key})" if key else "COUNT(*)"
            sql = f"SELECT COUNT(*), {keys} FROM {model}"
            rows, distinct = connection.execute(sql).fetchall()[0]
            told.append(str(rows) if rows == distinct else f"{rows} ({rows - distinct} twice)")
    return told


def truth(day: int) -> list[str]:
    """Rows that the API has on this day, deleted books left out."""
    kept = [b for b in books(day) if not b["deleted"]]
    copies = sum(len(b["copies"]) for b in kept)
    return [str(n) for n in (len(kept), copies, len(loans(day)), len(branches(day)))]


def run_theirs(library: Library, folder: Path) -> dict[str, list[str]]:
    """Their rows at each moment."""
    way = TheirWay(folder, library.url)
    found = {}
    library.day = 1
    way.extract(NOON_1)
    way.start(NOON_1)
    way.run(NOON_1)
    found["day 1, after extraction, `plan` and `run`"] = way.count()
    way.run(NIGHT_1)
    found["day 2, `run` after midnight"] = way.count()
    library.day = 2
    way.extract(NOON_2)
    way.run(NOON_2)
    found["day 2, after extraction and `run`"] = way.count()
    way.run(NIGHT_2)
    found["day 3, `run` after midnight"] = way.count()
    return found


def run_ours(library: Library, folder: Path) -> dict[str, list[str]]:
    """Our rows after each run."""
    models = {t: f"staging.stg_library__{t}" for t in TABLES}
    library.day = 1
    project = Project(folder, library)
    warehouse = project.folder / "data" / "warehouse.duckdb"
    found = {}
    project.etl("run", "--stage", "extract")
    project.etl("generate")
    project.etl("run")
    found["day 1, after `etl run`"] = count(warehouse, models)
    library.day = 2
    project.etl("run")
    found["day 2, after `etl run`"] = count(warehouse, models)
    return found


def show(name: str, cells: Sequence[str]) -> None:
    """A line of the table."""
    print(f"| {name} | {' | '.join(cells)} |")


def main() -> int:
    """Print a Markdown table of row counts."""
    with (
        tempfile.TemporaryDirectory() as theirs,
        tempfile.TemporaryDirectory() as ours,
        open_library() as library,
    ):
        their_rows = run_theirs(library, Path(theirs))
        our_rows = run_ours(library, Path(ours))
    show("rows", [*TABLES])
    show("---", ["---"] * len(TABLES))
    for day in (1, 2):
        show(f"the API, day {day}", truth(day))
    for way, rows in (("dlt + SQLMesh", their_rows), ("etl", our_rows)):
        for moment, cells in rows.items():
            show(f"{way}: {moment}", cells)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
