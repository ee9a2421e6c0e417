"""Microsoft's own ODBC driver against a server that lets people in or does not: TLS, log-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from etl.errors import AuthError, EtlError, UnreachableError
from etl.settings import Target
from etl.targets import mssql
from etl.targets.mssql.driver import load_driver
from tests.sql_server import PASSWORD, Doorkeeper, running_doorkeeper


@pytest.fixture(scope="module")
def server() -> Iterator[Doorkeeper]:
    with running_doorkeeper() as running:
        yield running


def log_in(dsn: str) -> EtlError | None:
    """What a log-in fails with, None when it goes well."""
    try:
        with mssql.publish.server.connected(Target(kind="mssql", dsn=SecretStr(dsn)), "there"):
            return None
    except EtlError as error:
        return error


def test_right_password_opens_a_session_over_tls(server: Doorkeeper) -> None:
    assert log_in(server.dsn()) is None


def test_url_does_as_well(server: Doorkeeper) -> None:
    password = PASSWORD.replace(";", "%3B").replace("}", "%7D").replace("{", "%7B")
    address = f"mssql://etl:{password.replace('@', '%40')}@{server.host}:{server.port}/x"
    assert log_in(f"{address}?TrustServerCertificate=yes&Encrypt=yes") is None


def test_wrong_password_is_told_by_its_number(server: Doorkeeper) -> None:
    error = log_in(server.dsn("wrong-one"))
    assert isinstance(error, AuthError)
    assert "18456" in str(error)
    assert "wrong-one" not in str(error)


def test_certificate_that_nobody_vouches_for_is_refused(server: Doorkeeper) -> None:
    error = log_in(server.dsn(TrustServerCertificate="no"))
    assert isinstance(error, UnreachableError)
    assert "08001" in str(error)
    assert "TrustServerCertificate" in error.hint


def test_closed_port_is_unreachable(server: Doorkeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.targets.mssql.server.CONNECT_SECONDS", 1)
    error = log_in(server.dsn(Server="tcp:127.0.0.1,1"))
    assert isinstance(error, UnreachableError)
    assert PASSWORD not in str(error)


def test_driver_is_microsofts_from_the_wheel(server: Doorkeeper) -> None:
    pyodbc, driver = load_driver("there")
    connection = pyodbc.connect(f"Driver={driver};{server.dsn()}", timeout=10)
    try:
        assert connection.getinfo(pyodbc.SQL_DRIVER_NAME).startswith("libmsodbcsql-18")
    finally:
        connection.close()
