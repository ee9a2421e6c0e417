"""Tables at PostgreSQL: what each strategy makes of them, and what of them is never touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etl.errors import LoadError, ReconciliationError
from etl.targets import Publication, server
from etl.targets.postgres import session, staging, tables, versions
from etl.targets.server.loading import read_mart
from etl.targets.server.session import Delivery, Table, Versions
from tests.integration.servers import APPEND, CHANGE, MERGE, A, Postgres, counts, pg, warehouse

__all__ = ["pg", "warehouse"]


def test_table_keeps_indexes_grants_views_comments_and_other_columns(pg: Postgres) -> None:
    pg.publish(A)
    before = pg.query("SELECT 'a'::regclass::oid")
    pg.query("""
        CREATE INDEX by_v ON a (v); GRANT SELECT ON a TO reader;
        CREATE VIEW up AS SELECT upper(v) AS v FROM a;
        COMMENT ON TABLE a IS 'ours'; ALTER TABLE a ADD COLUMN note text DEFAULT 'theirs'
    """)
    for change in (CHANGE, "DROP SCHEMA etl_published CASCADE", "DELETE FROM base.a WHERE id > 5"):
        pg.change(change)
        pg.publish(A)
    assert pg.query("SELECT 'a'::regclass::oid") == before
    assert pg.query("SELECT indexname FROM pg_indexes WHERE tablename = 'a' ORDER BY 1") == [
        ("a_pkey",), ("by_v",),
    ]  # fmt: skip
    assert pg.query("SELECT has_table_privilege('reader', 'a', 'SELECT')") == [(True,)]
    assert pg.query("SELECT obj_description('a'::regclass)") == [("ours",)]
    assert pg.query("SELECT count(*) FROM up") == [(5,)]
    assert pg.query("SELECT DISTINCT note FROM a") == [("theirs",)]


def test_keys_and_indexes_are_made_once_and_refuse_duplicates(pg: Postgres) -> None:
    made = Publication("marts.a", "a", ("id",), indexes=(("v",), ("v", "id")))
    for _ in range(2):
        pg.publish(made)
    found = [d for (d,) in pg.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'a'")]
    assert len(found) == 3
    assert any("UNIQUE" in d and "(id)" in d for d in found)
    assert any(d.endswith("(v, id)") for d in found)
    with pytest.raises(Exception, match="duplicate key"):
        pg.query("INSERT INTO a VALUES (1, 'twice')")
    # Named later, made later.
    pg.publish(Publication("marts.a", "a", ("id",), primary_key=False, indexes=(("id", "v"),)))
    assert len(pg.query("SELECT 1 FROM pg_indexes WHERE tablename = 'a'")) == 4


def test_comments_of_the_mart_come_with_a_new_table(pg: Postgres) -> None:
    pg.change(
        """COMMENT ON VIEW marts.a IS 'about it''s \\ a'; COMMENT ON COLUMN marts.a.v IS 'the v'"""
    )
    pg.publish(A)
    assert pg.query("SELECT obj_description('a'::regclass), col_description('a'::regclass, 2)") == [
        ("about it's \\ a", "the v")
    ]


def test_role_with_grants_alone_can_publish_into_a_table_that_is_there(pg: Postgres) -> None:
    """What docs/postgres.md says a role needs when tables are made by somebody else."""
    pg.query(f"ALTER DATABASE {pg.database} OWNER TO postgres")
    pg.query("""
        CREATE TABLE a (id bigint PRIMARY KEY, v text);
        CREATE TABLE etl_publications (table_name text PRIMARY KEY, model text NOT NULL,
            publication_id text NOT NULL, rows bigint NOT NULL, versions numeric NOT NULL,
            published_at timestamptz NOT NULL);
        GRANT SELECT, INSERT, UPDATE, DELETE ON a, etl_publications TO etl
    """)
    pg.query(f"GRANT TEMPORARY ON DATABASE {pg.database} TO etl")
    assert pg.publish(A)["a"].reconciled
    pg.change(CHANGE)
    assert counts(pg.publish(A)["a"]) == ("published", 1, 1, 1, 10, True)


def test_only_a_new_table_whose_values_keep_their_types_is_filled_without_staging(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged: list[str] = []
    stage = staging.stage

    def noted(connection: Any, delivery: Delivery[Any]) -> Any:
        staged.append(delivery.table.plain)
        return stage(connection, delivery)

    monkeypatch.setattr(session, "stage", noted)
    pg.change("CREATE OR REPLACE VIEW marts.b AS SELECT [id] AS ids FROM base.a")
    runs = pg.publish(A, Publication("marts.b", "b"))
    assert {run.inserted for run in runs.values()} == {10}
    assert staged == ["public.b"]  # jsonb is text on its way
    pg.change("UPDATE base.a SET v = 'x' WHERE id = 1")
    assert counts(pg.publish(A)["a"]) == ("published", 0, 1, 0, 10, True)
    assert staged == ["public.b", "public.a"]  # nothing went


def test_new_table_that_does_not_hold_what_was_sent_is_not_committed(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "found_sum", lambda columns: "1")
    with pytest.raises(ReconciliationError, match="10 rows, checksum 1 arrived; 10 rows"):
        pg.publish(A)
    assert pg.query("SELECT to_regclass('a')") == [(None,)]


@pytest.mark.parametrize("version", [14_00_00, 18_00_00])
def test_versions_tell_every_change_and_may_be_summed_by_several_processes(
    pg: Postgres, version: int
) -> None:
    summed = f"SELECT count(*), {versions.sum_versions(version)} FROM a AS t"
    pg.publish(A)
    with pg.server.admin(pg.database) as connection:
        for setting in (
            "parallel_setup_cost",
            "parallel_tuple_cost",
            "min_parallel_table_scan_size",
        ):
            connection.execute(f"SET {setting} = 0".encode())
        plan = connection.execute(f"EXPLAIN {summed}".encode()).fetchall()
        assert any("Parallel Seq Scan" in line for (line,) in plan)
        seen = [connection.execute(summed.encode()).fetchone()]
        with connection.transaction():
            for i in (1, 2):
                with connection.transaction():  # rows of one are stamped with a number of its own
                    connection.execute("UPDATE a SET v = v || 'x' WHERE id = %s", [i])
                seen.append(connection.execute(summed.encode()).fetchone())
                assert versions.count_writes(connection, Table("public", "a")) == i
        assert connection.execute(summed.encode()).fetchone() == seen[-1]
        connection.execute("UPDATE a SET v = v WHERE id = 1")
        seen.append(connection.execute(summed.encode()).fetchone())
        assert len(set(seen)) == 4
        connection.execute("DELETE FROM a")
        with versions.counting(connection, Table("public", "a")) as counted:
            assert counted() == Versions()


@pytest.mark.parametrize("evaluated", [True, False])
@pytest.mark.parametrize("publication", [A, MERGE, APPEND])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE base.a SET v = 'changed' WHERE id = 1",
        "DELETE FROM base.a WHERE id = 2",
        "INSERT INTO base.a VALUES (10, 'new')",
        CHANGE,
        "SELECT 1",
    ],
)
def test_mark_of_a_small_change_is_what_the_table_has(
    pg: Postgres, publication: Publication, change: str, *, evaluated: bool
) -> None:
    """Though the table was counted before the change alone; so the next difference is known."""
    publication = replace(publication, evaluated=evaluated)
    pg.publish(publication)
    pg.query("UPDATE a SET v = 'theirs' WHERE id = 3")
    for i in range(2):
        pg.publish(publication)
        pg.change(change if i == 0 else "DELETE FROM base.a WHERE id IN (5, 10)")
        done = pg.publish(publication)["a"]
        assert done.rows_at_target == pg.count("a")
        summed = versions.sum_versions(18_00_00)
        assert pg.query("SELECT rows, versions FROM etl_publications") == pg.query(
            f"SELECT count(*), {summed} FROM a AS t"
        )
        if publication.strategy == "replace":
            assert pg.rows() == pg.mart()


@pytest.mark.parametrize(("cache", "cost"), [("4GB", "1"), ("8kB", "4")])
def test_few_rows_are_found_by_an_index_where_the_table_fits_the_memory(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch, cache: str, cost: str
) -> None:
    """Either way what was read is in the order of the table; only the first is sure to be there."""
    pg.publish(A)
    pg.query(f"ALTER DATABASE {pg.database} SET effective_cache_size = '{cache}'")
    pg.change("UPDATE base.a SET v = 'x' WHERE id = 1")
    costs: list[Any] = []
    add_indexes = tables.add_indexes

    def noted(connection: Any, *args: Any) -> None:
        costs.extend(connection.execute("SHOW random_page_cost").fetchone())
        add_indexes(connection, *args)

    monkeypatch.setattr(tables, "add_indexes", noted)
    assert pg.publish(A)["a"].updated == 1
    assert costs == [cost]


def test_load_that_needs_more_memory_than_it_is_first_given_gets_it(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "SELECT current_setting('memory_limit')"
    usual = pg.warehouse.execute(limit).fetchone()
    pg.change("CREATE OR REPLACE TABLE base.a AS SELECT i AS id, md5(i::VARCHAR) AS v "
              "FROM range(100000) AS r(i)")  # fmt: skip
    limits: list[Any] = []

    def noted(kind: Any, cursor: Any, *args: Any) -> Any:
        limits.append(cursor.execute(limit).fetchone())
        return read_mart(kind, cursor, *args)

    monkeypatch.setattr(server, "read_mart", noted)
    monkeypatch.setattr(server, "MEGABYTES_PER_THREAD", (1,))
    assert pg.publish(A)["a"].inserted == 100_000
    assert len(limits) == 2  # a first time with too little
    assert limits[1] == usual
    pg.publish(A)
    assert pg.warehouse.execute(limit).fetchone() == usual


def test_new_table_whose_rows_do_not_bear_an_index_is_refused(pg: Postgres) -> None:
    pg.change("""CREATE OR REPLACE VIEW marts.a AS
        SELECT 1 AS id, string_agg(md5(i::VARCHAR), '') AS v FROM range(1000) AS r(i)""")
    with pytest.raises(LoadError, match=r"publishing public\.a at target pg failed.*54000"):
        pg.publish(Publication("marts.a", "a", ("id",), indexes=(("v",),)))
    assert pg.query("SELECT to_regclass('a')") == [(None,)]
