"""Finds pyodbc and Microsoft's ODBC driver, and says how to get what is missing."""

from __future__ import annotations

import platform
from pathlib import Path
from types import ModuleType
from typing import Any

from etl.errors import ConfigError

INSTALL = "pip install 'etl-job[mssql]'"
INSTALL_MANAGER = "apt-get install unixodbc libgssapi-krb5-2 (macOS: brew install unixodbc)"
_NAMES = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
# Folders of the driver's wheel by what /etc/os-release calls the system or its relatives.
_FAMILIES = {"alpine": "alpine", "rhel": "rhel", "fedora": "rhel", "centos": "rhel",
             "suse": "suse"}  # fmt: skip
_OTHERWISE = "debian_ubuntu"


def load_driver(target: str) -> tuple[Any, str]:
    """The module pyodbc, and the driver as a connection string names it: a path, or a name.

    Raises:
        ConfigError: pyodbc, the driver manager or the driver is not installed.
    """
    try:
        import pyodbc
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the driver for target {target} is not installed", subject=target, hint=INSTALL
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"the ODBC driver manager, which target {target} needs, is not installed: {error}",
            subject=target,
            hint=INSTALL_MANAGER,
        ) from error
    # A connection per load: pooled ones would keep locks and temporary tables of a failed one.
    pyodbc.pooling = False
    driver = bundled_driver() or next((n for n in _NAMES if n in pyodbc.drivers()), None)
    if driver is None:
        raise ConfigError(
            f"Microsoft's ODBC driver 18, which target {target} needs, is not installed",
            subject=target,
            hint=INSTALL,
        )
    return pyodbc, str(driver)


def bundled_driver() -> Path | None:
    """The driver's library in the wheel that the extra brings; None without one for this system.

    unixODBC takes a path in place of a registered name, so nothing has to be written anywhere.
    """
    try:
        import mssql_python_odbc
    except ImportError:
        return None
    return find_library(mssql_python_odbc)


def find_library(wheel: ModuleType) -> Path | None:
    """The library in the wheel's folder for this system and machine."""
    if wheel.__file__ is None:
        return None
    libraries = Path(wheel.__file__).parent / "libs"
    machine = platform.machine().lower()
    names = {machine, "arm64"} if machine == "aarch64" else {machine}
    found = sorted(
        p
        for pattern in ("libmsodbcsql-*.so*", "libmsodbcsql*.dylib")
        for p in libraries.rglob(pattern)
        if names & set(p.parts)
    )
    family = _family()
    return next((p for p in found if family in p.parts), found[0] if found else None)


def _family() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return _OTHERWISE
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((_FAMILIES[n] for n in names if n in _FAMILIES), _OTHERWISE)
