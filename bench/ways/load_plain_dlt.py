"""A plain dlt script that loads a mart into PostgreSQL from Arrow batches, by Parquet over ADBC.

Arguments: the warehouse, the server's address, a folder, to which it writes the wall and CPU
seconds of the load without the start of the process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa

warehouse, dsn, folder = sys.argv[1:]
started, worked = time.perf_counter(), time.process_time()


@dlt.resource
def wide() -> Iterator[Any]:
    with duckdb.connect(warehouse, read_only=True) as connection:
        for batch in connection.execute("FROM marts.wide").to_arrow_reader(100_000):
            yield pa.Table.from_batches([batch])


pipeline = dlt.pipeline(
    "plain",
    pipelines_dir=folder,
    destination=dlt.destinations.postgres(dsn),
    dataset_name="reports",
)
pipeline.run(wide(), write_disposition="replace", loader_file_format="parquet")
seconds = f"{time.perf_counter() - started} {time.process_time() - worked}"
(Path(folder) / "seconds").write_text(seconds, encoding="ascii")
