"""The second seed's load, into PostgreSQL: dlt's `sql_database` over SQLAlchemy, default load.

Arguments: the warehouse, the server's address, a folder, to which it writes the wall and CPU
seconds of the load without the start of the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import dlt
from dlt.sources.sql_database import sql_database

warehouse, dsn, folder = sys.argv[1:]
started, worked = time.perf_counter(), time.process_time()
source = sql_database(credentials=f"duckdb:///{warehouse}", schema="marts", table_names=["wide"])
pipeline = dlt.pipeline(
    "seed",
    pipelines_dir=folder,
    destination=dlt.destinations.postgres(dsn),
    dataset_name="reports",
)
pipeline.run(source, write_disposition="replace")
seconds = f"{time.perf_counter() - started} {time.process_time() - worked}"
(Path(folder) / "seconds").write_text(seconds, encoding="ascii")
