"""The other limit: DuckDB writes CSV into a pipe, PostgreSQL's COPY reads it from there.

No key, no check, nothing to go on from.
Arguments: the warehouse, the server's address, a folder, to which it writes the wall and CPU
seconds of the load without the start of the process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import duckdb
import psycopg

KINDS = {"DOUBLE": "double precision", "VARCHAR": "text", "TIMESTAMP WITH TIME ZONE": "timestamptz"}

warehouse, dsn, folder = sys.argv[1:]
started, worked = time.perf_counter(), time.process_time()
pipe = Path(folder) / "rows.csv"
os.mkfifo(pipe)
with duckdb.connect(warehouse, read_only=True) as mart, psycopg.connect(dsn) as server:
    mart.execute("SET TimeZone = 'UTC'")
    kinds = mart.execute("DESCRIBE marts.wide").fetchall()
    listed = ", ".join(f'"{name}" {KINDS.get(kind, kind)}' for name, kind, *_ in kinds)
    server.execute(f"CREATE TABLE wide ({listed})")
    query = f"COPY (FROM marts.wide) TO '{pipe}' (FORMAT csv, HEADER false)"
    writer = threading.Thread(target=mart.execute, args=(query,))
    writer.start()
    with pipe.open("rb") as rows, server.cursor().copy("COPY wide FROM STDIN (FORMAT csv)") as copy:
        while chunk := rows.read(1 << 20):
            copy.write(chunk)
    writer.join()
seconds = f"{time.perf_counter() - started} {time.process_time() - worked}"
(Path(folder) / "seconds").write_text(seconds, encoding="ascii")
