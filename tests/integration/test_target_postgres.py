"""What PostgreSQL has after publications: the rows, how few of them travel, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from etl.records import LoadRun
from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from tests.postgres_server import Server

A = Publication("marts.a", "a", ("id",))
B = Publication("marts.b", "reports.b")


class Postgres:
    """A database as a target, and a warehouse beside it."""

    def __init__(self, server: Server, warehouse: duckdb.DuckDBPyConnection) -> None:
        self.server, self.warehouse = server, warehouse
        self.database = server.create_database()

    @property
    def target(self) -> Target:
        return Target(kind="postgres", dsn=SecretStr(self.server.dsn(self.database)))

    def publish(self, *publications: Publication, **options: Any) -> dict[str, LoadRun]:
        publish = SERVER_TARGETS["postgres"]
        return {
            r.table: r for r in publish(self.warehouse, "pg", self.target, publications, **options)
        }

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.server.admin(self.database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def mart(self) -> list[tuple[Any, ...]]:
        return self.warehouse.execute("FROM marts.a ORDER BY ALL").fetchall()

    def change(self, sql: str) -> None:
        self.warehouse.execute(sql)


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


def counts(run: LoadRun) -> tuple[str, int, int, int, int, bool]:
    return (
        run.status,
        run.inserted,
        run.updated,
        run.deleted,
        run.rows_at_target,
        run.reconciled,
    )


def test_first_publication_brings_every_row(pg: Postgres) -> None:
    runs = pg.publish(A, B)
    assert counts(runs["a"]) == ("published", 10, 0, 0, 10, True)
    assert counts(runs["reports.b"]) == ("published", 6, 0, 0, 6, True)
    assert pg.query("SELECT * FROM a ORDER BY id") == [(i, f"v{i}") for i in range(10)]
    assert pg.query("SELECT * FROM reports.b ORDER BY n") == [(n,) for n in (0, 0, 1, 1, 2, 2)]


def test_only_the_difference_is_written(pg: Postgres) -> None:
    pg.publish(A, B)
    before = dict(pg.query("SELECT id, xmin::text FROM a"))
    pg.change("""
        UPDATE base.a SET v = NULL WHERE id < 3;
        DELETE FROM base.a WHERE id = 9;
        INSERT INTO base.a VALUES (10, 'new'), (11, 'new');
    """)
    runs = pg.publish(A, B)
    assert counts(runs["a"]) == ("published", 2, 3, 1, 11, True)
    assert counts(runs["reports.b"]) == ("unchanged", 0, 0, 0, 6, True)
    assert pg.query("SELECT * FROM a ORDER BY id") == pg.mart()
    after = dict(pg.query("SELECT id, xmin::text FROM a"))
    assert {i for i in after if after[i] == before.get(i)} == set(range(3, 9))
    assert counts(pg.publish(A, B)["a"]) == ("unchanged", 0, 0, 0, 11, True)


def test_each_table_remembers_its_own_difference(pg: Postgres) -> None:
    pg.change("""
        CREATE OR REPLACE TABLE base.b AS SELECT 'k' || i AS id, i AS n FROM range(6) AS r(i);
        CREATE OR REPLACE VIEW marts.b AS SELECT * FROM base.b
    """)
    both = A, Publication("marts.b", "reports.b", ("id",))
    pg.publish(*both)
    pg.change("DELETE FROM base.a WHERE id = 2; UPDATE base.b SET n = 7 WHERE id = 'k1'")
    runs = pg.publish(*both)
    assert counts(runs["a"])[:4] == ("published", 0, 0, 1)
    assert counts(runs["reports.b"])[:4] == ("published", 0, 1, 0)
    assert {r.status for r in pg.publish(*both).values()} == {"unchanged"}


@pytest.mark.parametrize(
    "foreign",
    [
        "UPDATE a SET v = 'theirs' WHERE id = 4",
        "DELETE FROM a WHERE id = 4",
        "INSERT INTO a VALUES (99, 'theirs')",
        "DELETE FROM a WHERE id = 4; INSERT INTO a VALUES (4, 'theirs')",
        "TRUNCATE a",
        "ALTER TABLE a DROP CONSTRAINT a_pkey; INSERT INTO a VALUES (4, 'theirs')",
        """ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a ALTER id DROP NOT NULL;
            INSERT INTO a VALUES (NULL, 'theirs')""",
        "ALTER TABLE a DROP COLUMN v",
        "DROP TABLE a",
        "DROP TABLE etl_publications",
        "UPDATE etl_publications SET publication_id = 'older'",
    ],
)
def test_what_others_did_to_the_table_is_noticed_and_mended(pg: Postgres, foreign: str) -> None:
    pg.publish(A)
    pg.query(foreign)
    assert pg.publish(A)["a"].reconciled
    assert pg.query("SELECT id, v FROM a ORDER BY id") == pg.mart()
    assert counts(pg.publish(A)["a"]) == ("unchanged", 0, 0, 0, 10, True)


def test_lost_memory_of_the_publication_costs_no_row(pg: Postgres) -> None:
    pg.publish(A)
    pg.change("DROP SCHEMA etl_published CASCADE; UPDATE base.a SET v = 'x' WHERE id = 1")
    assert counts(pg.publish(A)["a"]) == ("published", 0, 1, 0, 10, True)
    assert pg.query("SELECT * FROM a ORDER BY id") == pg.mart()
