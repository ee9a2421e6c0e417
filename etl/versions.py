"""The versions that a run worked with."""

from __future__ import annotations

import functools
import platform
from importlib import metadata


@functools.cache
def versions() -> dict[str, str]:
    """Python, ours, and the libraries that decide what a run does; read without importing them."""
    found = {"python": platform.python_version()}
    for name in ("etl-job", "dlt", "sqlmesh", "duckdb", "pyarrow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
