"""This project's load of one mart into PostgreSQL, by the function that the load stage calls.

Arguments: the warehouse, the server's address, a folder.
"""

from __future__ import annotations

import sys

import duckdb
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication

warehouse, dsn, _ = sys.argv[1:]
target = Target(kind="postgres", dsn=SecretStr(dsn))
name = conninfo_to_dict(dsn)["dbname"]  # the warehouse remembers what each target has
with duckdb.connect(warehouse) as connection:
    connection.execute("SET TimeZone = 'UTC'")
    publish = SERVER_TARGETS["postgres"]
    (run,) = publish(connection, str(name), target, [Publication("marts.wide", "wide", ("id",))])
print(f"+{run.inserted} ~{run.updated} -{run.deleted} {run.reconciled}")
