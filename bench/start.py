"""Start-up and an idle run: whole processes, medians; optionally beside `dbt build`.

The idle run is the demo job with an API that has nothing; the other one reads the snapshot of the
same day again. Where their seconds go is read from their own run records.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
ETL = Path(sys.executable).parent / "etl"
DBT = ("dbt-core==1.11.16", "dbt-duckdb==1.11.1", "duckdb==1.5.5")
DAY = {"ETL_DEMO_DATE": "2026-01-02", "ETL_PROFILE": "demo"}


def seconds_of(command: Sequence[object], code: int, env: dict[str, str], cwd: Path) -> float:
    """Wall seconds of a process that has to end with this code."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        check=False,
    )
    taken = time.perf_counter() - started
    if done.returncode != code:
        raise SystemExit(
            f"{command} ended with {done.returncode}: "
            f"{(done.stdout + done.stderr).decode()[-2000:]}"
        )
    return taken


def show(name: str, times: Sequence[float], target: float | None = None) -> None:
    """A line of the table."""
    wanted = f"< {target:g}" if target else ""
    print(
        f"| {name} | {statistics.median(times):.2f} "
        f"| {min(times):.2f}-{max(times):.2f} | {wanted} |"
    )


def bench_commands(rounds: int, data: Path) -> None:
    """The commands that a scheduler's probe or a person waits for."""
    env = {"ETL_DATA_DIR": str(data)}
    commands = {
        "etl --help": (["--help"], 0, 0.3),
        "etl exit-codes": (["exit-codes"], 0, 0.3),
        "a usage error": (["run", "--nosuch"], 2, 0.3),
        "etl status": (["status"], 0, 0.6),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (arguments, code, _target) in commands.items():
            times[name].append(seconds_of([ETL, *arguments], code, env, ROOT))
    for name, (_arguments, _code, target) in commands.items():
        show(name, times[name], target)


def bench_runs(rounds: int, data: Path) -> None:
    """`etl run` after a first one, and the seconds of its stages."""
    env = {"ETL_DATA_DIR": str(data), **DAY}
    seconds_of([ETL, "run"], 0, env, ROOT)
    # An actor whom nobody follows: nothing to extract, transform or publish. The shop's and the
    # markets' replays always have rows: tables that are read whole, days that are read again.
    empty = {
        "ETL_SOURCES__BLUESKY__FOR_EACH__ACTOR": '["bulk-0.test"]',
        "ETL_SOURCES__BLUESKY__REQUIRED": "false",
        "ETL_SOURCES__SHOP__ENABLED": "false",
        "ETL_SOURCES__MARKETS__ENABLED": "false",
    }
    seconds_of([ETL, "run"], 0, env | empty, ROOT)
    bench_run("idle etl run", rounds, data, env | empty, 4)
    bench_run("etl run, the same day again", rounds, data, env)


def bench_run(
    name: str, rounds: int, data: Path, env: dict[str, str], target: float | None = None
) -> None:
    """One kind of run, in seconds and by its stages."""
    times, stages = [], []
    for _ in range(rounds):
        times.append(seconds_of([ETL, "run"], 0, env, ROOT))
        record = json.loads((data / "runs" / "latest" / "run.json").read_text(encoding="utf-8"))
        stages.append({s["name"]: s["seconds"] for s in record["stages"]})
    show(name, times, target)
    for stage in stages[0]:
        show(f"… in {stage}", [s[stage] for s in stages])
    show("… outside the stages", [t - sum(s.values()) for t, s in zip(times, stages, strict=True)])


def bench_dbt(rounds: int, folder: Path) -> None:
    """`dbt build` with as many models on DuckDB, in an environment of its own."""
    models = len(list((ROOT / "sqlmesh" / "models").rglob("*.sql")))
    venv.create(folder / "venv", with_pip=True)
    binary = folder / "venv" / "bin"
    install = [binary / "python", "-m", "pip", "install", "-q", *DBT]
    seconds_of(install, 0, {}, folder)
    project = folder / "project"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(
        "name: idle\nversion: 1.0.0\nprofile: idle\nmodel-paths: [models]\n"
    )
    (project / "profiles.yml").write_text(
        "idle:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: idle.duckdb, threads: 2}\n"
    )
    for n in range(models):
        below = f"SELECT * FROM {{{{ ref('m{n - 1}') }}}}" if n else "SELECT 1 AS id"
        (project / "models" / f"m{n}.sql").write_text(
            "{{ config(materialized='table') }}\n" + below
        )
    (project / "models" / "tests.yml").write_text(
        "models:\n"
        + "".join(
            f"  - {{name: m{n}, columns: [{{name: id, data_tests: [not_null, unique]}}]}}\n"
            for n in range(models)
        )
    )
    env = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}
    build = [binary / "dbt", "build", "--profiles-dir", "."]
    seconds_of(build, 0, env, project)
    times = [seconds_of(build, 0, env, project) for _ in range(rounds)]
    show(f"dbt build again, {models} models, 2 tests each", times)


def main() -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--with-dbt", action="store_true", help=f"install {', '.join(DBT)}")
    options = parser.parse_args()
    print("| process | seconds (median) | min-max | wanted |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        bench_runs(options.rounds, data)
        bench_commands(options.rounds * 2, data)
        if options.with_dbt:
            bench_dbt(options.rounds, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
