"""What dlt and SQLMesh must find in the process before they are imported."""

from __future__ import annotations

import gc
import os

_DEFAULTS = {
    # No telemetry: neither library sends anything unless the user says so.
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1",
    # Signals are ours: one handler stops the whole run, not only dlt's part of it.
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    # SQLMesh would fork workers to parse models: slower for tens of models, and no process with
    # other threads (DuckDB's, dlt's) should fork.
    "MAX_FORK_WORKERS": "1",
    # Load files are read once, on this machine: compressing them costs more than it saves.
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    # Rows that wait in memory to be written, as Python objects; dlt's 5,000 are no quicker.
    "DATA_WRITER__BUFFER_MAX_ITEMS": "2000",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
    # One file after the other: DuckDB uses all cores for each, and their memory does not add up.
    "LOAD__WORKERS": "1",
    # Arrow tables, too, say which load package brought them: staging and reconciliation ask.
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
    # Credentials are those of the settings: requests would put the ones of ~/.netrc in place of an
    # Authorization header, and add them to addresses that need none.
    "NETRC": os.devnull,
}


def prepare_libraries() -> None:
    """Set our defaults; a variable that the user has set stays.

    Garbage is looked for less often: parsed models are millions of small objects that stay to the
    end, and looking through them is 40 % of the time that a project of 300 models takes to load.
    """
    gc.set_threshold(100_000, 50, 100)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
