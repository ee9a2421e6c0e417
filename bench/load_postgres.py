"""Loading of one mart into PostgreSQL: this project, whole and by difference, against other ways.

Whole processes on this machine, in alternating order, medians. The server is a real one, from a
wheel, with the settings that it ships with (fsync on); each first load finds a new database.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.measure import Timing, alternate, time_process
from tests.postgres_server import Server, running_server

WAYS = Path(__file__).parent / "ways"
# duckdb-engine 0.17.0 breaks on newer versions of SQLAlchemy.
OTHERS = ("dlt[postgres,sql_database,parquet]>=1.31,<1.32", "duckdb==1.5.5",
          "duckdb-engine==0.17.0", "sqlalchemy<2.0.55", "adbc-driver-manager",
          "adbc-driver-postgresql", "psycopg2-binary")  # fmt: skip
# 20 columns: integers, floats, decimals, texts, times, a flag.
MART = """
CREATE SCHEMA base; CREATE SCHEMA marts;
CREATE TABLE base.wide AS SELECT
    i AS id, i % 1000 AS a1, (i * 7919) % 100000 AS a2, (i % 50)::INTEGER AS a3,
    (i % 7)::SMALLINT AS a4, i * 31 AS a5, i * 0.37::DOUBLE AS d1, sqrt(i) AS d2,
    (i * 7919) % 10007 / 13.0::DOUBLE AS d3, i / 7.0::DOUBLE AS d4,
    ((i * 37) % 1000000 / 100)::DECIMAL(18, 2) AS m1,
    ((i * 101) % 1000000 / 10000)::DECIMAL(18, 4) AS m2,
    'customer ' || (i % 5000) AS t1, md5(i::VARCHAR) AS t2, 'status-' || (i % 5) AS t3,
    'Lorem ipsum dolor sit amet ' || i AS t4, DATE '2020-01-01' + (i % 2000)::INTEGER AS day,
    TIMESTAMP '2020-01-01' + to_seconds(i) AS at,
    TIMESTAMPTZ '2020-01-01 00:00:00+00' + to_milliseconds(i) AS tz, i % 3 = 0 AS flag
FROM range({rows}) AS r(i);
CREATE VIEW marts.wide AS FROM base.wide;
"""

# A row on each of the server's pages, and those of a new day.
SCATTERED = "id % 100 = {number} % 100"
TOGETHER = "id // ({rows} // 100) = {number} % 100"

QUERY = """
import sys, duckdb
with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(sys.stdin.read())
"""


class Bench:
    """A warehouse with the mart, a server, and the interpreters of the ways."""

    def __init__(self, folder: Path, server: Server, rows: int, others: Path | None) -> None:
        self.folder, self.server, self.rows, self.others = folder, server, rows, others
        self.warehouse = folder / "warehouse.duckdb"
        self.kept = server.create_database()  # the difference goes to what was loaded before
        self.query(MART.format(rows=rows))

    def query(self, sql: str) -> None:
        """In a process of its own: a child's peak is told as its parent's at least."""
        subprocess.run(
            [sys.executable, "-c", QUERY, self.warehouse],
            input=sql, text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def load(self, way: str, database: str, schema: str, *more: str) -> Timing:
        """One process; its rows are counted at the server."""
        python = sys.executable
        if way in {"seed", "plain_dlt", "limit"} and self.others is not None:
            python = str(self.others / "bin" / "python")
        before = self.server_cpu()
        with tempfile.TemporaryDirectory() as folder:
            dsn = self.server.dsn(database) if way in {"etl", "copy"} else self.url(database)
            timing = time_process(
                [python, str(WAYS / f"load_{way}.py"), str(self.warehouse), dsn, folder, *more],
                {"RUNTIME__DLTHUB_TELEMETRY": "false",
                 "PYTHONPATH": str(WAYS.parents[1]) if way == "etl" else ""},
            )  # fmt: skip
            work, cpu = map(float, (Path(folder) / "seconds").read_text("ascii").split())
        server_cpu = self.server_cpu() - before
        timing = replace(timing, work=work, work_cpu=cpu, server_cpu=server_cpu)
        with self.server.admin(database) as connection:
            found = connection.execute(
                f"SELECT count(*), sum(a5) FROM {schema}.wide".encode()
            ).fetchone()
        if found is None or found[0] != self.rows:
            raise RuntimeError(f"{way}: {found} instead of {self.rows} rows")
        return timing

    def server_cpu(self) -> float:
        """CPU seconds of all sessions that are over; 0 where the system does not tell."""
        with self.server.admin() as connection:
            row: tuple[int] | None = (1,)
            while row != (0,):
                # A session ends a moment after its client has gone.
                row = connection.execute(
                    "SELECT count(*)::int FROM pg_stat_activity WHERE backend_type IN "
                    "('client backend', 'parallel worker') AND pid <> pg_backend_pid()"
                ).fetchone()
        process = (self.server.folder / "postmaster.pid").read_text(encoding="utf-8").split()[0]
        stat = Path(f"/proc/{process}/stat")
        if not stat.exists():
            return 0.0
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def url(self, database: str) -> str:
        """The address for drivers that read no other form; the superuser needs no password."""
        return f"postgresql://postgres:x@localhost/{database}?host={self.server.folder}"

    def first(self, way: str, schema: str, number: int) -> Timing:
        """Into a database of its own, gone afterwards."""
        database = self.server.create_database()
        timing = self.load(way, database, schema)
        with self.server.admin() as connection:
            connection.execute(f"DROP DATABASE {database}".encode())
        return timing

    def again(self, changed: str, number: int, *, known: bool = True) -> Timing:
        """What was loaded before is loaded again, the rows of a condition `changed`; empty: none.

        Not `known`: the warehouse has lost what it remembered, so that all rows travel.
        """
        self.load("etl", self.kept, "public")  # untimed: what the round before left is brought over
        self.query("CHECKPOINT" if known else "DROP SCHEMA etl_published CASCADE; CHECKPOINT")
        if changed:
            condition = changed.format(number=number, rows=self.rows)
            self.query(f"UPDATE base.wide SET a1 = a1 + 1 WHERE {condition}")
        with self.server.admin(self.kept) as connection:
            connection.execute("CHECKPOINT")
        # A mart that this run did not evaluate is not likely to have changed, as the stage says.
        return self.load("etl", self.kept, "public", *(["evaluated"] if changed else []))


def table(results: Mapping[str, Sequence[Timing]], rows: int, reference: str) -> str:
    """A Markdown table of medians: whole processes, and the loads without the start of these."""

    def median(way: str, field: str) -> float:
        return statistics.median(float(getattr(t, field)) for t in results[way])

    def cpu(way: str) -> float:
        return median(way, "work_cpu") + median(way, "server_cpu")

    heads = ("way", "whole process, seconds (min-max)", "the load itself (min-max)",
             "rows/s of the load", "peak MB", "CPU seconds: start + load + server",
             f"of {reference}: process, load, CPU of the load")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for way, timings in results.items():
        spread = {
            field: f"{median(way, field):.2f} ({min(found):.2f}-{max(found):.2f})"
            for field in ("seconds", "work")
            if (found := [getattr(t, field) for t in timings])
        }
        start = median(way, "cpu") - median(way, "work_cpu")
        parts = [median(way, f) / median(reference, f) for f in ("seconds", "work")]
        told = ", ".join(f"{part:.2f}" for part in [*parts, cpu(way) / cpu(reference)])
        lines.append(
            f"| {way} | {spread['seconds']} | {spread['work']} | {rows / median(way, 'work'):,.0f} "
            f"| {median(way, 'peak_mb'):.0f} "
            f"| {start:.1f} + {median(way, 'work_cpu'):.1f} + {median(way, 'server_cpu'):.1f} "
            f"| {told} |"
        )
    return "\n".join(lines)


def install_others(folder: Path) -> Path:
    """What the other ways need, from the package index, in an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-qq", *OTHERS], check=True)
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Print one table, and the ratios that matter."""
    parser = argparse.ArgumentParser(prog="python -m bench load_postgres", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--with-others", action="store_true",
                        help="dlt's ways and ADBC; installs them from the index")  # fmt: skip
    parser.add_argument("--environment", type=Path, help="… and keeps them in this folder")
    parser.add_argument("--only", action="append", help="only this way; repeat for more")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        with server.admin() as connection:
            connection.execute("ALTER SYSTEM RESET ALL")
            connection.execute("SELECT pg_reload_conf()")
        others = options.environment or Path(name) / "others"
        if options.with_others and not (others / "bin").exists():
            install_others(others)
        bench = Bench(Path(name), server, options.rows, others if options.with_others else None)
        ways: dict[str, Callable[[int], Timing]] = {}
        if options.with_others:
            ways["seed"] = partial(bench.first, "seed", "reports")
            ways["plain dlt"] = partial(bench.first, "plain_dlt", "reports")
            ways["limit: ADBC"] = partial(bench.first, "limit", "public")
        ways["limit: CSV, COPY"] = partial(bench.first, "copy", "public")
        ways["etl, full"] = partial(bench.first, "etl", "public")
        ways["etl, 1 % changed, all sent"] = partial(bench.again, SCATTERED, known=False)
        ways["etl, 1 % changed"] = partial(bench.again, SCATTERED)
        ways["etl, 1 % side by side"] = partial(bench.again, TOGETHER)
        ways["etl, no change"] = partial(bench.again, "")
        if unknown := set(options.only or ()) - ways.keys():
            parser.error(f"--only {', '.join(unknown)}: the ways are {'; '.join(ways)}")
        if options.only:
            ways = {name: way for name, way in ways.items() if name in options.only}
        results = alternate(ways, options.rounds)
    reference = "etl, full" if "etl, full" in results else next(iter(results))
    state = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end"
    sys.stdout.write(
        f"{options.rows:,} rows, 20 columns, {options.rounds} rounds; {state}\n\n"
        + table(results, options.rows, reference) + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
