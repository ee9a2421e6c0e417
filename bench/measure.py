"""Times whole processes: wall seconds and peak memory, in alternating order, as medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """One process: wall seconds, peak resident megabytes of the process itself, CPU seconds.

    Where they are known: wall and CPU seconds of the work itself, without the start of the process,
    and the CPU seconds of a server that worked for it.
    """

    seconds: float
    peak_mb: float
    cpu: float
    work: float = 0.0
    work_cpu: float = 0.0
    server_cpu: float = 0.0


def time_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Timing:
    """Run a command to its end.

    Raises:
        RuntimeError: it did not end with 0; with the end of what it said.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}: {said[-2000:].decode()}")
    scale = 1024 * 1024 if sys.platform == "darwin" else 1024
    return Timing(seconds, usage.ru_maxrss / scale, usage.ru_utime + usage.ru_stime)


def alternate(ways: Mapping[str, Callable[[int], Timing]], rounds: int) -> dict[str, list[Timing]]:
    """Every way once per round, one after the other: a slow minute hits all of them alike."""
    results: dict[str, list[Timing]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            results[name].append(way(number))
            sys.stderr.write(f"  round {number + 1}: {name} {results[name][-1].seconds:.2f} s\n")
    return results


def table(results: Mapping[str, Sequence[Timing]], rows: int, reference: str) -> str:
    """A Markdown table: medians, spread, rows per second, and the ratio to the reference."""
    base = statistics.median(t.seconds for t in results[reference])
    lines = [
        f"| way | seconds (median, min-max) | rows/s | peak MB | speed against {reference} |",
        "|---|---|---|---|---|",
    ]
    for name, timings in results.items():
        seconds = [t.seconds for t in timings]
        median = statistics.median(seconds)
        peak = statistics.median(t.peak_mb for t in timings)
        lines.append(
            f"| {name} | {median:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
            f"| {rows / median:,.0f} | {peak:.0f} | {base / median:.2f} x |"
        )
    return "\n".join(lines)


def ratios(results: Mapping[str, Sequence[Timing]], reference: str) -> str:
    """A line for each way: its seconds as a part of the reference's, by medians.

    Of wall and CPU, and of the work itself where that is known of both.
    """
    wall = {n: statistics.median(t.seconds for t in ts) for n, ts in results.items()}
    cpu = {n: statistics.median(t.cpu for t in ts) for n, ts in results.items()}
    work = {n: statistics.median(t.work for t in ts) for n, ts in results.items()}
    lines = []
    for name in results:
        line = (
            f"{name}: {cpu[name]:.1f} s of CPU; {wall[name] / wall[reference]:.2f} of the wall and "
            f"{cpu[name] / cpu[reference]:.2f} of the CPU seconds of {reference}"
        )
        if work[name] and work[reference]:
            line += f"; the work itself {work[name]:.1f} s, {work[name] / work[reference]:.2f}"
        lines.append(line)
    return "\n".join(lines)
