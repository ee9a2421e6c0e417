"""The limit: Arrow batches into a new table by ADBC's ingest, which is a binary COPY.

No key, no check, nothing to go on from.
Arguments: the warehouse, the server's address, a folder, to which it writes the wall and CPU
seconds of the load without the start of the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import duckdb

warehouse, dsn, folder = sys.argv[1:]
started, worked = time.perf_counter(), time.process_time()
with duckdb.connect(warehouse, read_only=True) as mart, adbc.connect(dsn) as server:
    # ADBC has no type for decimals but text.
    kinds = mart.execute("DESCRIBE marts.wide").fetchall()
    casts = ", ".join(
        f'"{name}"::DOUBLE AS "{name}"' if kind.startswith("DECIMAL") else f'"{name}"'
        for name, kind, *_ in kinds
    )
    reader = mart.execute(f"SELECT {casts} FROM marts.wide").to_arrow_reader(100_000)
    with server.cursor() as cursor:
        cursor.adbc_ingest("wide", reader, mode="create")
    server.commit()
seconds = f"{time.perf_counter() - started} {time.process_time() - worked}"
(Path(folder) / "seconds").write_text(seconds, encoding="ascii")
