"""Tables at PostgreSQL: what each strategy makes of them, and what of them is never touched."""

from __future__ import annotations

import pytest

from etl.errors import LoadError, ReconciliationError
from etl.targets import Publication
from etl.targets.postgres import staging
from tests.integration.test_target_postgres import A, B, Postgres, counts, pg, warehouse

__all__ = ["pg", "warehouse"]

MERGE = Publication("marts.a", "a", ("id",), "merge")
APPEND = Publication("marts.a", "a", ("id",), "append_once")
CHANGE = """
    UPDATE base.a SET v = 'changed' WHERE id = 1;
    DELETE FROM base.a WHERE id = 2;
    INSERT INTO base.a VALUES (10, 'new');
"""


@pytest.mark.parametrize("known", [True, False])
def test_merge_keeps_rows_that_left_the_mart(pg: Postgres, known: bool) -> None:
    pg.publish(MERGE)
    pg.change(CHANGE)
    if not known:
        pg.change("DROP SCHEMA etl_published CASCADE")
    assert counts(pg.publish(MERGE)["a"]) == ("published", 1, 1, 0, 11, True)
    rows = dict(pg.query("SELECT * FROM a"))
    assert (rows[1], rows[2], rows[10]) == ("changed", "v2", "new")
    # Back again, with another value.
    pg.change("INSERT INTO base.a VALUES (2, 'back')")
    assert counts(pg.publish(MERGE)["a"]) == ("published", 0, 1, 0, 11, True)
    assert pg.query("SELECT v FROM a WHERE id = 2") == [("back",)]


@pytest.mark.parametrize("known", [True, False])
def test_append_once_never_changes_what_is_there(pg: Postgres, known: bool) -> None:
    pg.publish(APPEND)
    pg.change(CHANGE)
    if not known:
        pg.change("DROP SCHEMA etl_published CASCADE")
    assert counts(pg.publish(APPEND)["a"]) == ("published", 1, 0, 0, 11, True)
    rows = dict(pg.query("SELECT * FROM a"))
    assert (rows[1], rows[2], rows[10]) == ("v1", "v2", "new")


def test_mart_of_no_rows_empties_the_table(pg: Postgres) -> None:
    pg.publish(A, B)
    pg.change("DELETE FROM base.a; DELETE FROM base.b")
    runs = pg.publish(A, B)
    assert counts(runs["a"]) == ("published", 0, 0, 10, 0, True)
    assert counts(runs["reports.b"]) == ("published", 0, 0, 6, 0, True)
    assert pg.publish(A, B)["reports.b"].status == "unchanged"


def test_first_publication_of_no_rows_makes_the_table(pg: Postgres) -> None:
    pg.change("DELETE FROM base.a")
    assert counts(pg.publish(A)["a"]) == ("unchanged", 0, 0, 0, 0, True)
    assert pg.query("SELECT count(*) FROM a") == [(0,)]


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


def test_new_column_of_the_mart_is_added_and_filled(pg: Postgres) -> None:
    pg.publish(A)
    pg.change("ALTER TABLE base.a ADD COLUMN n INTEGER; UPDATE base.a SET n = id * 2;"
              "CREATE OR REPLACE VIEW marts.a AS SELECT * FROM base.a")  # fmt: skip
    assert counts(pg.publish(A)["a"]) == ("published", 0, 10, 0, 10, True)
    assert pg.query("SELECT sum(n) FROM a") == [(90,)]
    assert pg.publish(A)["a"].status == "unchanged"


def test_only_the_named_columns_are_published(pg: Postgres) -> None:
    pg.change("CREATE OR REPLACE VIEW marts.a AS SELECT id, v, 'secret' AS s FROM base.a")
    pg.publish(Publication("marts.a", "a", ("id",), columns=("V", "id")))
    assert pg.query("SELECT * FROM a WHERE id = 1") == [("v1", 1)]


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


def test_without_primary_key_none_is_made(pg: Postgres) -> None:
    pg.publish(Publication("marts.a", "a", ("id",), primary_key=False))
    assert pg.query("SELECT count(*) FROM pg_indexes WHERE tablename = 'a'") == [(0,)]


def test_comments_of_the_mart_come_with_a_new_table(pg: Postgres) -> None:
    pg.change(
        """COMMENT ON VIEW marts.a IS 'about it''s \\ a'; COMMENT ON COLUMN marts.a.v IS 'the v'"""
    )
    pg.publish(A)
    assert pg.query("SELECT obj_description('a'::regclass), col_description('a'::regclass, 2)") == [
        ("about it's \\ a", "the v")
    ]


def test_dry_run_counts_and_changes_nothing(pg: Postgres) -> None:
    assert counts(pg.publish(A, dry_run=True)["a"])[:4] == ("dry_run", 10, 0, 0)
    assert pg.query("SELECT to_regclass('a'), to_regclass('etl_publications')") == [(None, None)]
    pg.publish(A)
    pg.change(CHANGE)
    for _ in range(2):
        assert counts(pg.publish(A, dry_run=True)["a"])[:4] == ("dry_run", 1, 1, 1)
    assert counts(pg.publish(A)["a"]) == ("published", 1, 1, 1, 10, True)


def test_held_back_table_keeps_its_rows(pg: Postgres) -> None:
    pg.publish(A, B)
    pg.change(CHANGE + "DELETE FROM base.b")
    runs = pg.publish(A, held_back=[B])
    assert runs["a"].status == "published"
    assert counts(runs["reports.b"]) == ("held_back", 0, 0, 0, 6, False)
    assert pg.query("SELECT count(*) FROM reports.b") == [(6,)]


def test_table_of_no_load_is_left_alone(pg: Postgres) -> None:
    pg.publish(A, B)
    pg.publish(A)
    assert pg.query("SELECT count(*) FROM reports.b") == [(6,)]


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


def test_new_table_that_does_not_hold_what_was_sent_is_not_committed(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "found_sum", lambda columns: "1")
    with pytest.raises(ReconciliationError, match="10 rows, checksum a arrived; 10 rows"):
        pg.publish(A)
    assert pg.query("SELECT to_regclass('a')") == [(None,)]


def test_new_table_whose_rows_do_not_bear_an_index_is_refused(pg: Postgres) -> None:
    pg.change("""CREATE OR REPLACE VIEW marts.a AS
        SELECT 1 AS id, string_agg(md5(i::VARCHAR), '') AS v FROM range(1000) AS r(i)""")
    with pytest.raises(LoadError, match=r"publishing public\.a at target pg failed.*54000"):
        pg.publish(Publication("marts.a", "a", ("id",), indexes=(("v",),)))
    assert pg.query("SELECT to_regclass('a')") == [(None,)]
