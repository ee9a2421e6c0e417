"""What PostgreSQL refuses, and what each failure is called; the target stays as it was."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import SecretStr

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    LoadError,
    ReconciliationError,
    UnreachableError,
)
from etl.settings import Target
from etl.targets import SERVER_TARGETS, Publication
from tests.integration.test_target_postgres import A, B, Postgres, pg, warehouse

__all__ = ["pg", "warehouse"]


def publish_to(pg: Postgres, dsn: str) -> EtlError:
    target = Target(kind="postgres", dsn=SecretStr(dsn))
    with pytest.raises(EtlError) as caught:
        SERVER_TARGETS["postgres"](pg.warehouse, "pg", target, [A])
    return caught.value


def test_rejected_password_is_told_by_its_state(pg: Postgres) -> None:
    error = publish_to(pg, pg.server.dsn(pg.database, password="wrong-one"))
    assert isinstance(error, AuthError)
    assert "28P01" in str(error)
    assert "wrong-one" not in str(error)


def test_user_that_the_server_turns_away_is_no_unreachable_server(pg: Postgres) -> None:
    error = publish_to(pg, pg.server.dsn(pg.database, user="nobody", password="x"))
    assert isinstance(error, AuthError)
    assert "28000" in str(error)


def test_missing_password_is_a_rejected_log_in(pg: Postgres) -> None:
    error = publish_to(pg, f"host={pg.server.folder} dbname={pg.database} user=etl")
    assert isinstance(error, AuthError)


def test_missing_database_is_a_setting(pg: Postgres) -> None:
    assert isinstance(publish_to(pg, pg.server.dsn("no_such")), ConfigError)


def test_no_server_is_unreachable(pg: Postgres) -> None:
    error = publish_to(pg, "postgresql://etl:s3cr3t@127.0.0.1:1/x")
    assert isinstance(error, UnreachableError)
    assert "s3cr3t" not in str(error)


def test_dsn_that_is_none_is_not_shown(pg: Postgres) -> None:
    error = publish_to(pg, "postgresql://etl:hunter2@[bad/x")
    assert isinstance(error, ConfigError)
    assert "hunter2" not in f"{error} {error.hint} {error.__cause__}"


def test_missing_driver_is_told_with_the_command(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = publish_to(pg, "postgresql:///x")
    assert isinstance(error, ConfigError)
    assert error.hint == "pip install 'etl-job[postgres]'"


@pytest.mark.parametrize(
    ("made", "column", "state"),
    [
        ("id bigint PRIMARY KEY, v varchar(5)", "v", "22001"),
        ("id bigint PRIMARY KEY, v text NOT NULL", "v", "23502"),
        ("id smallint PRIMARY KEY, v text", "id", "22003"),
        ("id bigint PRIMARY KEY, v text, CONSTRAINT short CHECK (length(v) < 6)", "short", "23514"),
    ],
)
@pytest.mark.parametrize("when", ["insert", "update"])
def test_refused_row_is_named(pg: Postgres, made: str, column: str, state: str, when: str) -> None:
    pg.query(f"CREATE TABLE a ({made}); ALTER TABLE a OWNER TO etl")
    rows = 3000
    pg.change(
        f"CREATE OR REPLACE TABLE base.a AS SELECT i AS id, 'v' AS v FROM range({rows}) AS r(i)"
    )
    if when == "update" and "smallint" not in made:
        pg.publish(A)
    before = pg.query("SELECT count(*) FROM a")
    bad = "NULL" if state == "23502" else "'longer'"
    if "smallint" in made:
        pg.change("UPDATE base.a SET id = 40000 WHERE id = 2345")
    else:
        pg.change(f"UPDATE base.a SET v = {bad} WHERE id = 2345")
    with pytest.raises(LoadError) as caught:
        pg.publish(A)
    key = 40000 if "smallint" in made else 2345
    assert f"table public.a at target pg, row id = {key}" in str(caught.value)
    assert column in str(caught.value)
    assert state in str(caught.value)
    assert pg.query("SELECT count(*) FROM a") == before


def test_foreign_key_without_its_row_is_refused(pg: Postgres) -> None:
    pg.query("""
        CREATE TABLE names (v text PRIMARY KEY);
        INSERT INTO names SELECT 'v' || generate_series(0, 8);
        CREATE TABLE a (id bigint PRIMARY KEY, v text REFERENCES names);
        ALTER TABLE a OWNER TO etl; GRANT SELECT ON names TO etl
    """)
    pg.query("ALTER TABLE names OWNER TO etl")
    with pytest.raises(LoadError, match=r"row id = 9, .*constraint a_v_fkey.*23503"):
        pg.publish(A)


def test_deferred_constraint_fails_at_the_commit_and_nothing_is_there(pg: Postgres) -> None:
    pg.query("""
        CREATE TABLE names (v text PRIMARY KEY);
        CREATE TABLE a (id bigint PRIMARY KEY,
            v text REFERENCES names DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE a OWNER TO etl; ALTER TABLE names OWNER TO etl
    """)
    with pytest.raises(LoadError, match="23503"):
        pg.publish(A)
    assert pg.query("SELECT count(*) FROM a") == [(0,)]
    pg.query("INSERT INTO names SELECT 'v' || generate_series(0, 9)")
    assert pg.publish(A)["a"].inserted == 10


@pytest.mark.parametrize("theirs", ["integer", "timestamp", "boolean"])
def test_column_of_another_type_is_told(pg: Postgres, theirs: str) -> None:
    pg.query(f"CREATE TABLE a (id bigint, v {theirs}); ALTER TABLE a OWNER TO etl")
    with pytest.raises(LoadError, match=f"v is {theirs}.* text in the mart") as caught:
        pg.publish(A)
    assert "drop the table" in caught.value.hint


def test_view_is_no_table_to_publish_into(pg: Postgres) -> None:
    pg.query("CREATE VIEW a AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match=r"public\.a at target pg is no table"):
        pg.publish(A)


@pytest.mark.parametrize(
    "locked",
    [
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; ALTER SCHEMA public OWNER TO postgres",
        "CREATE TABLE a (id bigint PRIMARY KEY, v text)",
    ],
)
def test_missing_grant_is_told_as_such(pg: Postgres, locked: str) -> None:
    pg.query(f"ALTER DATABASE {pg.database} OWNER TO postgres; {locked}")
    with pytest.raises(AuthError, match="42501") as caught:
        pg.publish(A)
    assert "docs/postgres.md" in caught.value.hint


def test_one_refused_table_leaves_all_tables_as_they_were(pg: Postgres) -> None:
    pg.publish(A, B)
    pg.query("ALTER TABLE a ADD CHECK (v <> 'bad')")
    pg.change("UPDATE base.a SET v = 'bad' WHERE id = 1; INSERT INTO base.b VALUES (7)")
    with pytest.raises(LoadError):
        pg.publish(A, B)
    assert pg.query("SELECT v FROM a WHERE id = 1") == [("v1",)]
    assert pg.query("SELECT count(*) FROM reports.b") == [(6,)]


@pytest.mark.parametrize("publication", [A, Publication("marts.a", "a")])
def test_trigger_that_changes_what_is_written_is_code_12_and_nothing_stays(
    pg: Postgres, publication: Publication
) -> None:
    pg.query("""
        CREATE TABLE a (id bigint, v text); ALTER TABLE a OWNER TO etl;
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN NEW.v := 'spoilt'; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON a FOR EACH ROW WHEN (NEW.id = 3)
            EXECUTE FUNCTION spoil()
    """)
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg: 10 rows .* 1 of them"):
        pg.publish(publication)
    assert pg.query("SELECT count(*) FROM a") == [(0,)]


def test_rule_that_swallows_rows_is_code_12(pg: Postgres) -> None:
    pg.query("""
        CREATE TABLE a (id bigint, v text); ALTER TABLE a OWNER TO etl;
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER lose BEFORE INSERT ON a FOR EACH ROW WHEN (NEW.id = 3)
            EXECUTE FUNCTION lose()
    """)
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg: 9 rows .* 10 in"):
        pg.publish(A)


def test_column_that_rounds_is_code_12(pg: Postgres) -> None:
    pg.query("CREATE TABLE a (id bigint PRIMARY KEY, v numeric(10,2)); ALTER TABLE a OWNER TO etl")
    pg.change("CREATE OR REPLACE TABLE base.a AS SELECT 1 AS id, 1.005::DECIMAL(10,3) AS v")
    with pytest.raises(ReconciliationError, match="1 of them with other values"):
        pg.publish(A)


def test_value_that_duckdb_cannot_compute_is_the_marts_failure(pg: Postgres) -> None:
    pg.change("CREATE OR REPLACE VIEW marts.a AS SELECT id, (v || 'x')::INTEGER AS v FROM base.a")
    with pytest.raises(LoadError):
        pg.publish(A)
    assert pg.query("SELECT to_regclass('a')") == [(None,)]


def test_writer_that_holds_the_table_is_waited_for_and_then_told(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg.publish(A)
    pg.change("DELETE FROM base.a WHERE id = 1")
    monkeypatch.setattr("etl.targets.postgres.server.LOCK_SECONDS", 0.1)
    with pg.server.admin(pg.database) as writer, writer.transaction():
        writer.execute("UPDATE a SET v = 'theirs' WHERE id = 2")
        with pytest.raises(UnreachableError, match="55P03"):
            pg.publish(A)
    assert pg.publish(A)["a"].reconciled
    assert pg.query("SELECT * FROM a ORDER BY id") == pg.mart()


def key_error(pg: Postgres, publication: Publication) -> Any:
    with pytest.raises(EtlError) as caught:
        pg.publish(publication)
    return caught.value


def test_wrong_keys_and_columns_are_told(pg: Postgres) -> None:
    assert "not unique" in str(key_error(pg, Publication("marts.b", "b", ("n",))))
    assert "no key" in str(key_error(pg, Publication("marts.b", "b", (), "merge")))
    wrong = Publication("marts.a", "a", ("id",), columns=("id", "w"))
    assert "`w`" in str(key_error(pg, wrong))
    assert "`v`" in str(
        key_error(pg, Publication("marts.a", "a", ("id",), indexes=(("v",),), columns=("id",)))
    )
