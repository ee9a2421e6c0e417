"""The job that soaks, with its API, its files and its PostgreSQL server."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.postgres_server import Server, running_server
from tests.processes import Process, without_settings
from tests.soak.api import ORDER, Api, serving
from tests.soak.project import TARGETS, Settings, write_project
from tests.soak.promise import BrokenError, check, check_history


@dataclass
class World:
    """One project in a folder.

    `seconds` is what a run took last, `over` are the versions of orders that had ended then.
    """

    folder: Path
    url: str
    api: Api
    server: Server
    database: str
    rng: random.Random
    settings: Settings = field(default_factory=Settings)
    seconds: float = 8.0
    over: set[tuple[Any, ...]] = field(default_factory=set)

    @property
    def data(self) -> Path:
        """The job's data directory."""
        return self.folder / "data"

    def connect(self) -> psycopg.Connection[Any]:
        """As a superuser, to the database that marts are published to."""
        return self.server.admin(self.database)

    def start(self, *arguments: str, limit: Callable[[], None] | None = None) -> Process:
        """`etl …`, in the background."""
        environment = without_settings(ETL_PROJECT=str(self.folder))
        if "pg" in self.settings.targets:
            environment["ETL_TARGETS__PG__DSN"] = self.server.dsn(self.database)
        return Process(arguments, self.folder, environment, limit)

    def etl(self, *arguments: str, codes: set[int], limit: Callable[[], None] | None = None) -> int:
        """`etl …` to its end, which has to be one of these codes. Raises BrokenError."""
        started = time.monotonic()
        process = self.start(*arguments, limit=limit)
        out, err = process.communicate(timeout=300)
        code = process.returncode
        assert code is not None
        if code not in codes:
            said = f"etl {' '.join(arguments)}: {code} instead of {sorted(codes)}"
            raise BrokenError(f"{said}\n{out}\n{err[-8000:]}")
        if set(arguments) <= {"run", "--full-refresh"} and code == 0:
            self.seconds = time.monotonic() - started
            self.check()
        return code

    def run(self) -> int:
        """`etl run`, which has to end with 0 and be right, whatever happened before."""
        return self.etl("run", codes={0})

    def follow_hints(self) -> str:
        """A run, and what its failures say that helps: then another one ends well."""
        code = self.etl("run", codes={0, 2, 3, 6, 7, 12})
        if code == 7:  # a column that raw has lost was made of another type again
            return f"7, without {self._drop_tables()} {self.follow_hints()}"
        if code == 0:
            return "0"
        if code == 6:
            for path in self.data.glob("state.duckdb*"):
                path.unlink()
            self.over.clear()
            # A history that stands needs a state.
            if self.etl("run", codes={0, 6, 7}) == 6:
                with duckdb.connect(str(self.data / "warehouse.duckdb")) as connection:
                    connection.execute("DROP VIEW marts.order_history")
            return f"6, without the state {self.follow_hints()}"
        hints = " ".join(failure["hint"] for failure in self._failures())
        helps = sorted(set(re.findall(r"etl run( --[-\w+*. ]+)", hints)))
        for arguments in helps:
            self.etl("run", *arguments.split(), codes={0, 2, 3, 12})
        return f"{code},{','.join(helps)}: {self.run()}"

    def _failures(self) -> list[dict[str, Any]]:
        record = json.loads((self.data / "runs" / "latest" / "run.json").read_text("utf-8"))
        return list(record["failures"])

    def _drop_tables(self) -> str:
        """Drop the tables that the failures name, at the server; they have to name one."""
        told = " ".join(failure["message"] for failure in self._failures())
        tables = sorted(set(re.findall(r"table (reports\.\w+) at target pg", told)))
        if not tables:
            raise BrokenError(told)
        with self.connect() as connection:
            connection.execute(f"DROP TABLE {', '.join(tables)}".encode())
        return ", ".join(tables)

    def stop(self, number: signal.Signals) -> int:
        """A run that gets a signal at some moment, or is over before."""
        process = self.start("run")
        time.sleep(self.rng.uniform(0.2, self.seconds))
        if process.is_running:
            process.send_signal(number)
        process.communicate(timeout=300)
        assert process.returncode is not None
        return process.returncode

    def check(
        self, resources: Collection[str] = tuple(ORDER), targets: Collection[str] = tuple(TARGETS)
    ) -> None:
        """Raise BrokenError when API, marts and targets differ, as far as they are asked for."""
        settings = self.settings
        read, reached = settings.resources & set(resources), settings.targets & set(targets)
        with self.connect() as server:
            check(self.data, server, self.api, settings, read, reached)
        self.over = check_history(self.data, self.over)

    def configure(self) -> None:
        """Write the settings as they are now."""
        self.settings.write(self.folder, self.url)


@contextmanager
def new_world(folder: Path, seed: int) -> Iterator[World]:
    """A job that has run once."""
    api = Api(random.Random(seed))
    api.change(200)
    with running_server() as server, serving(api) as url:
        database = server.create_database()
        world = World(folder, url, api, server, database, random.Random(seed))
        with world.connect() as connection:
            connection.execute("CREATE SCHEMA reports AUTHORIZATION etl")
        write_project(folder, url, world.settings)
        world.etl("run", "--stage", "extract", codes={0})
        world.etl("generate", codes={0})
        world.etl("run", codes={0})
        yield world
