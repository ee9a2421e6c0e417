"""This project's load of one mart into PostgreSQL, by the function that the load stage calls.

Arguments: the warehouse, the server's address, a folder, to which it writes the wall and CPU
seconds of the load without the start of the process, and `evaluated` when the run has made the mart
anew.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

import duckdb
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.publication import Order

warehouse, dsn, folder, *more = sys.argv[1:]
# What every run has imported before it loads: DuckDB asks for pandas at the first parameter.
for library in ("pandas", "psycopg", "pyarrow"):
    import_module(library)
started, worked = time.perf_counter(), time.process_time()
target = Target(kind="postgres", dsn=SecretStr(dsn))
name = conninfo_to_dict(dsn)["dbname"]  # the warehouse remembers what each target has
with duckdb.connect(warehouse) as connection:
    connection.execute("SET TimeZone = 'UTC'")
    mart = Publication("marts.wide", "wide", ("id",), evaluated="evaluated" in more)
    (run,) = SERVER_TARGETS["postgres"](connection, Order(str(name), (mart,), ()), target)
seconds = f"{time.perf_counter() - started} {time.process_time() - worked}"
(Path(folder) / "seconds").write_text(seconds, encoding="ascii")
print(f"+{run.inserted} ~{run.updated} -{run.deleted} {run.reconciled}")
