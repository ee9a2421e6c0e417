"""Servers as targets for the tests that hold at each of them: a database, and a warehouse beside.

What a test says in SQL is the same everywhere but for what stands here.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from etl.records import LoadRun
from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.publication import take_order
from tests.postgres_server import Server
from tests.sql_server import server_dsn

A = Publication("marts.a", "a", ("id",))
B = Publication("marts.b", "reports.b")
MERGE = Publication("marts.a", "a", ("id",), "merge")
APPEND = Publication("marts.a", "a", ("id",), "append_once")
# A row of table a changes, one goes, one comes.
CHANGE = """
    UPDATE base.a SET v = 'changed' WHERE id = 1;
    DELETE FROM base.a WHERE id = 2;
    INSERT INTO base.a VALUES (10, 'new');
"""
# The two tables in one state, of so many rows.
STATE = """
    CREATE OR REPLACE TABLE base.a AS SELECT i AS id, {0} AS state FROM range({1}) AS r(i);
    CREATE OR REPLACE TABLE base.b AS SELECT i AS id, {0} AS state FROM range({1}) AS r(i);
"""
# Code of a process that shall die at the n-th call of a method, before or after it.
DIE_AT = """
import os, signal

def die_at(owner, method, when, count):
    original, calls = getattr(owner, method), 0
    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == int(count) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, method, call)
"""


class Place(ABC):
    """An empty database that the job's user may do everything in."""

    kind: str
    schema: str
    # Types of a table that somebody else made.
    text: str
    # What gives column `v` of table `a` another name.
    rename_v: str

    def __init__(self, warehouse: duckdb.DuckDBPyConnection) -> None:
        self.warehouse = warehouse

    @property
    @abstractmethod
    def dsn(self) -> str:
        """Its address."""

    @abstractmethod
    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run statements as somebody who may do anything."""

    @abstractmethod
    def versions(self, table: str) -> dict[Any, Any]:
        """What the server stamps on each row, by id."""

    @abstractmethod
    def indexes(self, table: str) -> int:
        """How many a table has."""

    @abstractmethod
    def add_trigger(self, event: str, sql: str) -> None:
        """Let table `a` run a statement after each of the job's own."""

    @property
    def target(self) -> Target:
        return Target.model_validate({"kind": self.kind, "dsn": SecretStr(self.dsn)})

    def publish(
        self, *publications: Publication, held_back: Iterable[Publication] = (), **options: bool
    ) -> dict[str, LoadRun]:
        order = take_order(self.name, publications, held_back, self.target.schema_name)
        runs = SERVER_TARGETS[self.kind](self.warehouse, order, self.target, **options)
        return {r.table: r for r in runs}

    @property
    def name(self) -> str:
        return "there"

    def make(self, columns: str) -> None:
        """Make table `a` as somebody else would; `text` stands for a text of any length."""
        self.query(f"CREATE TABLE a ({columns.replace('text', self.text)})")

    def exists(self, table: str) -> bool:
        schema, _, name = table.rpartition(".")
        found = self.query(
            "SELECT count(*) FROM information_schema.tables "
            f"WHERE table_schema = '{schema or self.schema}' AND table_name = '{name}'"
        )
        return found == [(1,)]

    def rows(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT id, v FROM a ORDER BY id")

    def count(self, table: str) -> int:
        ((found,),) = self.query(f"SELECT count(*) FROM {table}")
        return int(found)

    def mart(self) -> list[tuple[Any, ...]]:
        return self.warehouse.execute("SELECT id, v FROM marts.a ORDER BY ALL").fetchall()

    def change(self, sql: str) -> None:
        self.warehouse.execute(sql)


class Postgres(Place):
    """A new database of the tests' own server."""

    kind, schema, text = "postgres", "public", "text"
    rename_v = "ALTER TABLE a RENAME v TO former"

    def __init__(self, server: Server, warehouse: duckdb.DuckDBPyConnection) -> None:
        super().__init__(warehouse)
        self.server, self.database = server, server.create_database()

    @property
    def name(self) -> str:
        return "pg"

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.server.admin(self.database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def make(self, columns: str) -> None:
        super().make(columns)
        self.query("ALTER TABLE a OWNER TO etl")

    def versions(self, table: str) -> dict[Any, Any]:
        return dict(self.query(f"SELECT id, xmin::text FROM {table}"))

    def indexes(self, table: str) -> int:
        return len(self.query(f"SELECT 1 FROM pg_indexes WHERE tablename = '{table}'"))

    def add_trigger(self, event: str, sql: str) -> None:
        self.query(f"""
            CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN IF pg_trigger_depth() = 1 THEN {sql}; END IF; RETURN NULL; END $$;
            CREATE TRIGGER disturb AFTER {event} ON a EXECUTE FUNCTION disturb()
        """)


class SqlServer(Place):
    """The database that the variable names, emptied."""

    kind, schema, text = "mssql", "dbo", "nvarchar(max)"
    rename_v = "EXEC sp_rename 'a.v', 'former', 'COLUMN'"

    def __init__(self, dsn: str, warehouse: duckdb.DuckDBPyConnection) -> None:
        super().__init__(warehouse)
        self._dsn = dsn
        self._connection = self.connect()
        self.empty()

    def empty(self) -> None:
        """Drop what the tests made."""
        for type_, name in self.query(
            "SELECT CASE o.type WHEN 'V' THEN 'VIEW' WHEN 'U' THEN 'TABLE' WHEN 'TR' THEN "
            "'TRIGGER' ELSE 'FUNCTION' END, n.name + '.' + o.name FROM sys.objects o "
            "JOIN sys.schemas n ON n.schema_id = o.schema_id "
            "WHERE o.type IN ('U', 'V', 'TR', 'FN') AND n.name IN ('dbo', 'reports') "
            "ORDER BY CASE o.type WHEN 'TR' THEN 1 WHEN 'V' THEN 2 WHEN 'U' THEN 3 ELSE 4 END, "
            "o.create_date DESC"
        ):
            self.query(f"DROP {type_} {name}")

    def connect(self) -> Any:
        """A connection that commits each statement."""
        from etl.targets.mssql.address import read_address, write_address
        from etl.targets.mssql.driver import load_driver

        pyodbc, driver = load_driver("test")
        address = write_address(read_address(self._dsn, "test"))
        return pyodbc.connect(f"Driver={driver};{address}", autocommit=True)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def publishing_as(self, user: str) -> Iterator[None]:
        """Publish as somebody who has no rights yet; both log-in and user are gone afterwards."""
        from etl.targets.mssql.address import read_address, write_address

        password, ours = f"Aa1-{uuid.uuid4()}", self._dsn
        parts = read_address(ours, "test")
        named = {k: v for k, v in parts.items() if k.casefold() not in {"uid", "pwd"}}
        self.query(f"CREATE LOGIN {user} WITH PASSWORD = '{password}'")
        try:
            self.query(f"CREATE USER {user} FOR LOGIN {user}")
            self._dsn = write_address(named | {"UID": user, "PWD": password})
            yield
        finally:
            self._dsn = ours
            self.empty()  # not every server drops a user who has rights
            self.query(f"DROP USER IF EXISTS {user}")
            self.query(f"DROP LOGIN {user}")

    @property
    def dsn(self) -> str:
        return self._dsn

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql)
        rows = [tuple(r) for r in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def versions(self, table: str) -> dict[Any, Any]:
        return dict(self.query(f"SELECT id, CAST(etl_version AS bigint) FROM {table}"))

    def indexes(self, table: str) -> int:
        return len(
            self.query(
                f"SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID('{table}') AND index_id > 0"
            )
        )

    def add_trigger(self, event: str, sql: str) -> None:
        self.query(f"CREATE TRIGGER disturb ON a AFTER {event} AS IF TRIGGER_NESTLEVEL() = 1 {sql}")


def counts(run: LoadRun) -> tuple[str, int, int, int, int, bool]:
    return (
        run.status,
        run.inserted,
        run.updated,
        run.deleted,
        run.rows_at_target,
        run.reconciled,
    )


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(tmp_path / "warehouse.duckdb"))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("""
        CREATE SCHEMA marts; CREATE SCHEMA base;
        CREATE TABLE base.a AS SELECT i AS id, 'v' || i AS v FROM range(10) AS r(i);
        CREATE TABLE base.b AS SELECT i % 3 AS n FROM range(6) AS r(i);
        CREATE VIEW marts.a AS SELECT * FROM base.a;
        CREATE VIEW marts.b AS SELECT * FROM base.b;
    """)
    yield connection
    connection.close()


@pytest.fixture
def pg(postgres: Server, warehouse: duckdb.DuckDBPyConnection) -> Postgres:
    return Postgres(postgres, warehouse)


@pytest.fixture
def mssql(warehouse: duckdb.DuckDBPyConnection) -> Iterator[SqlServer]:
    place = SqlServer(server_dsn(), warehouse)
    yield place
    place.close()


@pytest.fixture(params=["pg", "mssql"])
def place(request: pytest.FixtureRequest) -> Place:
    """Every kind of server that there is a test server for."""
    found: Place = request.getfixturevalue(request.param)
    return found
