"""Extraction of one cursor chain from an API into DuckDB: this project against other ways.

Whole processes on this machine, in alternating order, medians. The API is the replay's bulk actor
(100 rows and about 58 kB a page, one nested list) in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.measure import Timing, alternate, table, time_process

WAYS = Path(__file__).parent / "ways"
# Versions of the day on which the numbers in docs were taken.
SINGER = ("tap-rest-api-msdk==1.4.2", "target-duckdb==0.8.0", "duckdb==1.5.5")
RESULT = {"seed": ("seed.duckdb", "raw.followers"), "plain dlt": ("plain.duckdb", "raw.followers"),
          "limit": ("limit.duckdb", "followers"),
          "etl": ("warehouse.duckdb", "bench_raw.followers"),
          "singer": ("singer.duckdb", "raw.followers")}  # fmt: skip


@contextmanager
def api(latency: float) -> Iterator[str]:
    """The replay in a process of its own; yields its base URL."""
    process = subprocess.Popen(
        # The API's real limit would hold up the way that respects it.
        [sys.executable, "-m", "etl.demo", "--port", "0", "--latency", str(latency), "--cache",
         "--rate-limit", "1000000/1"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield next(word for word in line.split() if word.startswith("http"))
    finally:
        process.terminate()
        process.wait()


def script(name: str, url: str, actor: str, rows: int, number: int) -> Timing:
    """One of the scripts in bench/ways, in a fresh folder; its rows are counted."""
    with tempfile.TemporaryDirectory() as folder:
        timing = time_process(
            [sys.executable, str(WAYS / f"{name.replace(' ', '_')}.py"),
             url, actor, folder],
            {"RUNTIME__DLTHUB_TELEMETRY": "false"},
        )  # fmt: skip
        check(Path(folder), name, rows)
    return timing


def ours(url: str, actor: str, rows: int, number: int) -> Timing:
    """`etl run --stage extract` on a project with this one source."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config").mkdir()
        config = {
            "sources": {
                "bench": {
                    "client": {
                        "base_url": url,
                        "paginator": {
                            "type": "cursor", "cursor_path": "cursor", "cursor_param": "cursor",
                        },
                    },
                    "resources": [
                        {
                            "name": "followers",
                            "write_disposition": "append",
                            "endpoint": {
                                "path": "app.bsky.graph.getFollowers",
                                "params": {"actor": actor, "limit": 100},
                                "data_selector": "followers",
                            },
                        }
                    ],
                }
            },
            "data_dir": str(folder),
        }  # fmt: skip
        (folder / "config" / "etl.yaml").write_text(json.dumps(config))
        timing = time_process(
            [sys.executable, "-m", "etl", "run", "--project", name, "--stage", "extract"]
        )
        check(folder, "etl", rows)
    return timing


def check(folder: Path, name: str, rows: int) -> None:
    """The way brought every row: a fast way that loses some is no way."""
    import duckdb

    file, relation = RESULT[name]
    with duckdb.connect(str(folder / file), read_only=True) as connection:
        found = connection.sql(f"SELECT count(*) FROM {relation}").fetchone()
    if found != (rows,):
        raise RuntimeError(f"{name}: {found} rows instead of {rows}")


def install_singer(folder: Path) -> Path:
    """The Singer pair from the package index, in an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    binaries = folder / "venv" / "bin"
    subprocess.run([str(binaries / "python"), "-m", "pip", "install", "-qq", *SINGER], check=True)
    return binaries


def singer(binaries: Path, url: str, actor: str, rows: int, number: int) -> Timing:
    """tap-rest-api-msdk | target-duckdb; one process group, timed together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tap = {
            "api_url": url.rstrip("/"),
            "pagination_request_style": "jsonpath_paginator",
            "pagination_response_style": "default",
            "pagination_next_page_param": "cursor",
            "next_page_token_path": "$.cursor",
            "streams": [
                {
                    "name": "followers",
                    "path": "/app.bsky.graph.getFollowers",
                    "primary_keys": ["did"],  # target-duckdb refuses a stream without
                    "records_path": "$.followers[*]",
                    "params": {"actor": actor, "limit": 100},
                    "num_inference_records": 100,
                }
            ],
        }
        target = {"filepath": str(folder / "singer.duckdb"), "default_target_schema": "raw"}
        (folder / "tap.json").write_text(json.dumps(tap))
        (folder / "target.json").write_text(json.dumps(target))
        pipe = (
            f"set -o pipefail; {binaries}/tap-rest-api-msdk --config {folder}/tap.json "
            f"| {binaries}/target-duckdb --config {folder}/target.json"
        )
        done = time_process(["bash", "-c", pipe], {"PATH": f"{binaries}:{os.environ['PATH']}"})
        check(folder, "singer", rows)
        return done


def main(arguments: list[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench extract", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--with-singer", action="store_true", help="installs it from the index")
    parser.add_argument("--only", action="append", choices=list(RESULT))
    options = parser.parse_args(arguments)
    actor = f"bulk-{options.rows}.test"
    with api(options.latency) as url, tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[int], Timing]] = {
            name: partial(script, name, url, actor, options.rows)
            for name in ("seed", "plain dlt", "limit")
        }
        ways["etl"] = partial(ours, url, actor, options.rows)
        if options.with_singer:
            ways["singer"] = partial(singer, install_singer(Path(folder)), url, actor, options.rows)
        if options.only:
            ways = {name: way for name, way in ways.items() if name in options.only}
        results = alternate(ways, options.rounds)
    reference = "seed" if "seed" in results else next(iter(results))
    sys.stdout.write(
        f"{options.rows:,} rows, {options.latency:g} s latency, {options.rounds} rounds\n\n"
        + table(results, options.rows, reference) + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
