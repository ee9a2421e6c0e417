"""SQL Servers for the tests: the one that a variable names, and one that only lets people in.

`ETL_TEST_MSSQL_DSN` is the address of a database that the tests may empty; docs/sqlserver.md says
how to start one. `pysqlbridge` speaks the protocol on loopback, log-in and TLS included, and has no
tables.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

VARIABLE = "ETL_TEST_MSSQL_DSN"
PASSWORD = "s3cret;of}{sql@server"
_MISSING = "no ODBC driver manager (libodbc.so.2): apt-get install unixodbc"


def require_driver() -> None:
    """Skip, and say how to get it, when the system has no driver manager."""
    try:
        import pyodbc  # noqa: F401
    except ImportError as error:
        pytest.skip(f"{_MISSING} ({error})")


def server_dsn() -> str:
    """The address of the server to test with; skips when there is none."""
    dsn = os.environ.get(VARIABLE)
    if not dsn:
        pytest.skip(f"{VARIABLE} names no SQL Server to test with (docs/sqlserver.md)")
    require_driver()
    return dsn


class Doorkeeper:
    """A server that lets `etl` in with the right password; `answers` fail with these numbers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.host, self.port = address

    def dsn(self, password: str = PASSWORD, **more: str) -> str:
        """An ODBC connection string."""
        parts = {"Server": f"tcp:{self.host},{self.port}", "UID": "etl", "PWD": password,
                 "Encrypt": "yes", "TrustServerCertificate": "yes"} | more  # fmt: skip
        return ";".join(f"{k}={{{v.replace('}', '}}')}}}" for k, v in parts.items())


@contextmanager
def running_doorkeeper() -> Iterator[Doorkeeper]:
    """Start the server on a free port, in a thread, and stop it."""
    require_driver()
    from pysqlbridge.logins import Login, LoginStore
    from pysqlbridge.server import BridgeServer, demo_handler

    logins = LoginStore([Login("etl", PASSWORD, hashed=False)])
    server: Any = BridgeServer("127.0.0.1", 0, logins=logins, query_handler=demo_handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Doorkeeper(server.address)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
