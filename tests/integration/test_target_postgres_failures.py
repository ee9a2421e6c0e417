"""What PostgreSQL refuses, and what each failure is called; the target stays as it was."""

from __future__ import annotations

import dataclasses
import os
import socketserver
import struct
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    LoadError,
    ReconciliationError,
    Stopped,
    UnreachableError,
)
from etl.settings import Target
from etl.stop import Stop, stopping
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.postgres import tables
from etl.targets.postgres.server import connected, execute
from etl.targets.publication import Order
from etl.targets.server import loading
from etl.targets.server.published import Published
from tests.integration.servers import MERGE, A, B, Postgres, pg, warehouse

__all__ = ["pg", "warehouse"]

REFUSED = b"SFATAL\0C08P01\0Mno\0\0"
KEYED_B = Publication("marts.b", "reports.b", ("n",))
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'etl'"


def publish_to(pg: Postgres, dsn: str) -> EtlError:
    target = Target(kind="postgres", dsn=SecretStr(dsn))
    with pytest.raises(EtlError) as caught:
        SERVER_TARGETS["postgres"](pg.warehouse, Order("pg", (A,), ()), target)
    return caught.value


def test_rejected_password_is_told_by_its_state(pg: Postgres) -> None:
    error = publish_to(pg, pg.server.dsn(pg.database, password="wrong-one"))
    assert isinstance(error, AuthError)
    assert "28P01" in str(error)
    assert "wrong-one" not in str(error)


def test_rejected_password_is_told_in_a_process_with_many_open_files(pg: Postgres) -> None:
    with ExitStack() as files:
        for _ in range(1024):
            files.enter_context(Path(os.devnull).open("rb"))
        error = publish_to(pg, pg.server.dsn(pg.database, password="wrong-one"))
    assert isinstance(error, AuthError)
    assert "28P01" in str(error)


def test_user_that_the_server_turns_away_is_no_unreachable_server(pg: Postgres) -> None:
    error = publish_to(pg, pg.server.dsn(pg.database, user="nobody", password="x"))
    assert isinstance(error, AuthError)
    assert "28000" in str(error)


class Pooler(socketserver.StreamRequestHandler):
    """Refuses as PgBouncer does, a wrong password too: with 08P01."""

    knows_database = True

    def handle(self) -> None:
        self.read()
        if self.knows_database:
            self.say(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
            nonce = self.read(1).rpartition(b"r=")[2]
            self.say(b"R", struct.pack("!I", 11) + b"r=%bpooler,s=c2FsdA==,i=4096" % nonce)
            self.read(1)
        self.say(b"E", REFUSED)

    def read(self, kind: int = 0) -> bytes:
        head = self.rfile.read(kind + 4)
        return self.rfile.read(struct.unpack("!I", head[kind:])[0] - 4)

    def say(self, kind: bytes, what: bytes) -> None:
        self.wfile.write(kind + struct.pack("!I", len(what) + 4) + what)


class PoolerWithoutDatabase(Pooler):
    knows_database = False


@pytest.mark.parametrize(
    ("pooler", "kind", "state"),
    [(Pooler, AuthError, "28P01"), (PoolerWithoutDatabase, UnreachableError, "08P01")],
)
def test_password_that_a_pooler_rejects_is_told_from_its_other_refusals(
    pg: Postgres, pooler: type[Pooler], kind: type[EtlError], state: str
) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), pooler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        error = publish_to(pg, f"postgresql://etl:no@127.0.0.1:{port}/x?sslmode=disable")
        server.shutdown()
        thread.join()
    assert type(error) is kind
    assert state in str(error)


def test_missing_password_is_a_rejected_log_in(pg: Postgres) -> None:
    error = publish_to(pg, f"host={pg.server.folder} dbname={pg.database} user=etl")
    assert isinstance(error, AuthError)


def test_missing_database_is_a_setting(pg: Postgres) -> None:
    assert isinstance(publish_to(pg, pg.server.dsn("no_such")), ConfigError)


@pytest.mark.parametrize(
    ("asked", "state"),
    [("options=-cnosuch=1", "42704"), ("options=-cwork_mem=x", "22023"), ("", "55000")],
)
def test_log_in_that_cannot_be_as_it_is_asked_for_is_a_setting(
    pg: Postgres, asked: str, state: str
) -> None:
    if not asked:
        with pg.server.admin() as admin:
            admin.execute(f"ALTER DATABASE {pg.database} ALLOW_CONNECTIONS false".encode())
    error = publish_to(pg, f"{pg.dsn} {asked}")
    assert isinstance(error, ConfigError)
    assert state in str(error)


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


def test_rows_that_row_security_may_hide_are_told(pg: Postgres) -> None:
    """They would stay, and be counted by nobody."""
    pg.query("""
        CREATE TABLE a (id bigint PRIMARY KEY, v text); INSERT INTO a VALUES (100, 'hidden');
        GRANT ALL ON a TO etl; ALTER TABLE a ENABLE ROW LEVEL SECURITY
    """)
    for policy in ("", "CREATE POLICY few ON a USING (id < 50)",
                   "CREATE POLICY others ON a TO reader USING (true)"):  # fmt: skip
        if policy:
            pg.query(policy)
        with pytest.raises(AuthError, match=r"row security of public\.a .* may hide rows"):
            pg.publish(A)
    pg.query("CREATE POLICY everything ON a TO etl USING (true) WITH CHECK (true)")
    assert pg.publish(A)["a"].deleted == 1
    assert pg.rows() == pg.mart()
    pg.query("CREATE POLICY less ON a AS RESTRICTIVE FOR SELECT USING (id < 5)")
    with pytest.raises(AuthError, match="may hide rows"):
        pg.publish(A)
    pg.query("ALTER TABLE a DISABLE ROW LEVEL SECURITY")
    assert pg.publish(A)["a"].status == "unchanged"


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


def test_row_that_only_one_that_left_stands_against_is_not_named(pg: Postgres) -> None:
    """It is refused no more when that one is gone, as it is when a table is changed."""
    pg.query("""
        CREATE TABLE a (id bigint PRIMARY KEY, v text UNIQUE CHECK (v <> 'bad'));
        ALTER TABLE a OWNER TO etl
    """)
    pg.publish(A)
    # Another row has the text of one that left, and one more is bad.
    pg.change("UPDATE base.a SET id = 20 WHERE id = 3; INSERT INTO base.a VALUES (30, 'bad')")
    for _ in range(2):
        with pytest.raises(LoadError, match=r"row id = 30, .*23514"):
            pg.publish(A)
        pg.change("DROP SCHEMA IF EXISTS etl_published CASCADE")  # sent whole


@pytest.mark.parametrize("now", [("id", "v"), ()])
def test_primary_key_of_an_earlier_key_is_told_with_what_helps(
    pg: Postgres, now: tuple[str, ...]
) -> None:
    pg.publish(A)
    pg.change("INSERT INTO base.a VALUES (3, 'once more')")
    with pytest.raises(LoadError, match="a_pkey") as caught:
        pg.publish(Publication("marts.a", "a", now))
    assert "the primary key there is (id)" in caught.value.hint
    pg.query("DROP TABLE a")
    assert pg.publish(Publication("marts.a", "a", now))["a"].inserted == 11


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


def test_what_helps_at_rows_that_are_good_together_only(pg: Postgres) -> None:
    """Each of these hints is followed here."""
    both = A, KEYED_B
    pg.change("CREATE OR REPLACE TABLE base.a AS SELECT i AS id, i AS v FROM range(6) AS r(i)")
    pg.change("CREATE OR REPLACE TABLE base.b AS SELECT i AS n FROM range(6) AS r(i)")
    pg.publish(*both)
    pg.query("ALTER TABLE a ADD CONSTRAINT ranks UNIQUE (v)")
    pg.change("UPDATE base.a SET v = (v + 1) % 6")
    with pytest.raises(LoadError, match=r"constraint ranks: .*23505") as caught:
        pg.publish(*both)
    assert "DEFERRABLE" in caught.value.hint
    pg.query("ALTER TABLE a DROP CONSTRAINT ranks, ADD CONSTRAINT ranks UNIQUE (v) DEFERRABLE")
    assert pg.publish(*both)["a"].updated == 6
    pg.query("ALTER TABLE a ADD CONSTRAINT parents FOREIGN KEY (id) REFERENCES reports.b")
    pg.change("INSERT INTO base.a VALUES (6, 6); INSERT INTO base.b VALUES (6)")
    with pytest.raises(LoadError, match=r"constraint parents: .*23503") as caught:
        pg.publish(*both)
    assert "DEFERRABLE INITIALLY DEFERRED" in caught.value.hint
    pg.query("ALTER TABLE a ALTER CONSTRAINT parents DEFERRABLE INITIALLY DEFERRED")
    assert pg.publish(*both)["a"].inserted == 1


def test_hint_of_the_server_is_told(pg: Postgres) -> None:
    """As where rows of a table that is replicated have nothing to be known by."""
    keyless = Publication("marts.a", "a")
    pg.publish(keyless)
    pg.query("CREATE PUBLICATION everything FOR ALL TABLES")
    pg.change("UPDATE base.a SET v = 'x' WHERE id = 1")
    with pytest.raises(LoadError, match="55000") as caught:
        pg.publish(keyless)
    assert "REPLICA IDENTITY" in caught.value.hint
    pg.query("ALTER TABLE a REPLICA IDENTITY FULL")
    assert pg.publish(keyless)["a"].reconciled


@pytest.mark.parametrize(
    "effect",
    ["TRUNCATE a", "ALTER TABLE a DROP COLUMN v; ALTER TABLE a ADD COLUMN v text DEFAULT 'theirs'"],
)
@pytest.mark.parametrize("publication", [A, MERGE])
def test_table_that_a_trigger_of_another_empties_or_alters_is_compared(
    pg: Postgres, effect: str, publication: Publication
) -> None:
    """The server counts no rows of it then."""
    pg.change("CREATE OR REPLACE TABLE base.b AS SELECT i AS n FROM range(3) AS r(i)")
    both = publication, KEYED_B
    pg.publish(*both)
    pg.query(f"""
        CREATE FUNCTION rebuild() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN {effect}; RETURN NULL; END $$;
        CREATE TRIGGER rebuild AFTER INSERT ON reports.b EXECUTE FUNCTION rebuild();
        ALTER FUNCTION rebuild() SECURITY DEFINER
    """)
    pg.change("INSERT INTO base.b VALUES (3)")
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg"):
        pg.publish(*both)
    assert pg.rows() == pg.mart()


def test_rows_of_inherited_tables_are_counted_too(pg: Postgres) -> None:
    """Else what a trigger does beside them would make up for their number."""
    pg.publish(A)
    pg.query("""
        CREATE TABLE older () INHERITS (a); ALTER TABLE older OWNER TO etl;
        INSERT INTO older SELECT * FROM ONLY a WHERE id < 5; DELETE FROM ONLY a WHERE id < 5
    """)
    pg.publish(A)
    pg.query("""
        CREATE FUNCTION beside() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN UPDATE ONLY a SET v = 'theirs' WHERE id = 7; RETURN NULL; END $$;
        CREATE TRIGGER beside AFTER UPDATE ON older FOR EACH ROW EXECUTE FUNCTION beside()
    """)
    pg.change("UPDATE base.a SET v = 'ours' WHERE id = 1")
    with pytest.raises(ReconciliationError, match="1 of them with other values"):
        pg.publish(A)


def test_partitioned_table_is_published_into(pg: Postgres) -> None:
    pg.query("""
        CREATE TABLE a (id bigint, v text) PARTITION BY LIST (v);
        CREATE TABLE others PARTITION OF a DEFAULT;
        CREATE TABLE changed PARTITION OF a FOR VALUES IN ('changed');
        ALTER TABLE a OWNER TO etl; ALTER TABLE others OWNER TO etl;
        ALTER TABLE changed OWNER TO etl
    """)
    with pytest.raises(LoadError, match="0A000") as caught:
        pg.publish(A)
    assert "`primary_key: false`" in caught.value.hint
    without = Publication("marts.a", "a", ("id",), primary_key=False)
    pg.publish(without)
    pg.change("UPDATE base.a SET v = 'changed' WHERE id = 1; DELETE FROM base.a WHERE id = 2")
    assert pg.publish(without)["a"].rows_at_target == 9
    assert pg.rows() == pg.mart()
    assert pg.query("SELECT id FROM changed") == [(1,)]
    assert pg.publish(without)["a"].status == "unchanged"


def test_table_with_a_foreign_partition_is_refused(pg: Postgres) -> None:
    """Its rows have no versions, so what others change would not be seen."""
    pg.query("""
        CREATE FOREIGN DATA WRAPPER other; CREATE SERVER other FOREIGN DATA WRAPPER other;
        CREATE TABLE a (id bigint, v text) PARTITION BY HASH (id);
        CREATE FOREIGN TABLE a0 PARTITION OF a FOR VALUES WITH (MODULUS 1, REMAINDER 0)
            SERVER other;
        ALTER TABLE a OWNER TO etl;
    """)
    with pytest.raises(ConfigError, match="foreign"):
        pg.publish(A)


def test_mart_of_too_many_columns_to_be_compared_is_told(pg: Postgres) -> None:
    def change(texts: str) -> None:
        listed = ", ".join(f"'{texts}' AS c{i}" for i in range(1000))
        pg.change(f"CREATE OR REPLACE VIEW marts.a AS SELECT id, {listed} FROM base.a")

    change("v")
    pg.publish(A)
    change("w")
    with pytest.raises(LoadError, match="54011") as caught:
        pg.publish(A)
    assert "the load's `columns`" in caught.value.hint
    assert pg.publish(dataclasses.replace(A, columns=("id", "c7")))["a"].updated == 10


def test_table_that_cannot_be_made_is_named(pg: Postgres) -> None:
    listed = ", ".join(f"1 AS c{i}" for i in range(1600))
    pg.change(f"CREATE OR REPLACE VIEW marts.a AS SELECT id, {listed} FROM base.a")
    with pytest.raises(LoadError, match=r"publishing public\.a at target pg failed.*54011"):
        pg.publish(A)


def test_failure_inside_a_trigger_is_told_in_the_servers_words(pg: Postgres) -> None:
    pg.publish(A)
    pg.query("""
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM nowhere(1); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION note()
    """)
    pg.change("UPDATE base.a SET v = 'x' WHERE id = 1")
    with pytest.raises(LoadError, match=r"nowhere\(integer\) does not exist \(42883\)"):
        pg.publish(A)


@pytest.mark.parametrize("publication", [A, Publication("marts.a", "a")])
@pytest.mark.parametrize(
    ("value", "theirs", "ours"),
    [
        ("i + 0.5::DOUBLE", "bigint", "double precision"),
        ("'v' || i", "character(5)", "text"),
        ("1.005::DECIMAL(10,3)", "numeric(10,2)", "numeric(10,3)"),
    ],
)
def test_column_that_changes_the_values_of_its_mart_is_told(
    pg: Postgres, publication: Publication, value: str, theirs: str, ours: str
) -> None:
    pg.change(f"CREATE OR REPLACE TABLE base.a AS SELECT i AS id, {value} AS v FROM range(9) r(i)")
    pg.query(f"CREATE TABLE a (id bigint, v {theirs}); ALTER TABLE a OWNER TO etl")
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg: 9 rows") as caught:
        pg.publish(publication)
    assert f"; v is {theirs} there and {ours} in the mart" in str(caught.value)
    assert "ALTER COLUMN" in caught.value.hint
    assert pg.query("SELECT count(*) FROM a") == [(0,)]


@pytest.mark.parametrize("publication", [A, Publication("marts.a", "a")])
@pytest.mark.parametrize(
    ("fits", "loses"),
    [
        ("9007199254740991", "9007199254740993"),
        ("0.1::DECIMAL(38,18)", "12345678901234567.89::DECIMAL(38,18)"),
    ],
)
def test_numbers_that_lose_digits_in_a_column_of_floats_are_told(
    pg: Postgres, publication: Publication, fits: str, loses: str
) -> None:
    """As floats, both are the same to the server."""
    pg.query("CREATE TABLE a (id bigint, v double precision); ALTER TABLE a OWNER TO etl")
    pg.change(f"CREATE OR REPLACE TABLE base.a AS SELECT 1 AS id, {fits} AS v")
    assert pg.publish(publication)["a"].reconciled
    pg.change(f"CREATE OR REPLACE TABLE base.a AS SELECT 1 AS id, {loses} AS v")
    with pytest.raises(ReconciliationError, match=r"v is double precision there and .* lost"):
        pg.publish(publication)


def test_column_of_fixed_length_that_all_values_fill_is_taken(pg: Postgres) -> None:
    pg.query("CREATE TABLE a (id bigint, v char(2)); ALTER TABLE a OWNER TO etl")
    assert pg.publish(A)["a"].reconciled
    assert pg.publish(A)["a"].status == "unchanged"


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


def until_it_waits(pg: Postgres, published: Future[Any]) -> None:
    """Until a publication waits for a lock, or is done."""
    while not published.done() and pg.query(WAITING) == [(0,)]:
        time.sleep(0.01)


def test_change_of_a_writer_that_was_waited_for_is_seen_whatever_the_roles_isolation(
    pg: Postgres,
) -> None:
    """Else what is looked at is the table before the wait."""
    pg.query(f"ALTER ROLE etl IN DATABASE {pg.database} SET default_transaction_isolation "
             "= 'repeatable read'")  # fmt: skip
    pg.publish(A)
    pg.change("UPDATE base.a SET v = 'ours' WHERE id = 1")
    with ThreadPoolExecutor(1) as job, pg.server.admin(pg.database) as writer:
        with writer.transaction():
            writer.execute("UPDATE a SET v = 'theirs' WHERE id = 2")
            published = job.submit(pg.publish, A)
            until_it_waits(pg, published)
        assert published.result()["a"].updated == 2
    assert pg.rows() == pg.mart()


def test_column_that_another_job_adds_meanwhile_is_not_added_again(pg: Postgres) -> None:
    pg.publish(A)
    pg.change("CREATE OR REPLACE VIEW marts.a AS SELECT *, id * 2 AS n FROM base.a")
    with ThreadPoolExecutor(1) as job, pg.server.admin(pg.database) as other:
        with other.transaction():
            other.execute("LOCK TABLE a IN SHARE ROW EXCLUSIVE MODE; ALTER TABLE a ADD n bigint")
            published = job.submit(pg.publish, A)
            until_it_waits(pg, published)
        assert published.result()["a"].updated == 10


# What each publication makes first at an empty database, beside the table of marks.
MADE = pytest.mark.parametrize(
    ("made", "publication"),
    [('CREATE TABLE "public"."a"', A), ('CREATE SCHEMA "reports"', B)],
)


@MADE
def test_table_or_schema_that_another_session_is_making_is_class_4(
    pg: Postgres, made: str, publication: Publication
) -> None:
    """The server calls it a key that is there twice: one of its catalog's."""
    with ThreadPoolExecutor(1) as job, pg.server.admin(pg.database) as other:
        with other.transaction():
            other.execute(f"{made} {'(id bigint)' if 'TABLE' in made else ''}".encode())
            published = job.submit(pg.publish, publication)
            until_it_waits(pg, published)
        with pytest.raises(UnreachableError, match="23505") as caught:
            published.result()
        assert "run again" in caught.value.hint


@MADE
def test_table_or_schema_that_another_session_has_made_since_it_was_looked_for_is_class_4(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch, made: str, publication: Publication
) -> None:
    """Its rows are not ours, and nobody has locked it."""

    def execute_late(connection: Any, sql: str, *values: Any) -> Any:
        if sql.startswith(made):
            pg.query(f"{made} {'(id bigint)' if 'TABLE' in made else ''}")
        return execute(connection, sql, *values)

    monkeypatch.setattr(tables, "execute", execute_late)
    with pytest.raises(UnreachableError, match="already exists") as caught:
        pg.publish(publication)
    assert "run again" in caught.value.hint


def test_wait_for_the_warehouse_does_not_end_the_transaction(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg.query(f"ALTER ROLE etl IN DATABASE {pg.database} "
             "SET idle_in_transaction_session_timeout = '50ms'")  # fmt: skip
    stage = loading.Loading.stage

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return stage(*arguments)

    monkeypatch.setattr(loading.Loading, "stage", slow)
    assert pg.publish(A)["a"].reconciled


@pytest.mark.parametrize(("role", "load"), [("off", "local"), ("remote_apply", "remote_apply")])
def test_what_is_committed_is_on_the_disk_whatever_the_role_says(
    pg: Postgres, role: str, load: str
) -> None:
    pg.query(f"ALTER ROLE etl IN DATABASE {pg.database} SET synchronous_commit = {role}")
    with connected(pg.dsn, "pg") as connection:
        assert connection.execute("SHOW synchronous_commit").fetchall() == [(load,)]


def test_statement_of_a_run_that_is_stopped_does_not_go_on_at_the_server(pg: Postgres) -> None:
    stop = Stop()
    with stopping(stop, lambda _: None), connected(pg.dsn, "pg") as connection:
        stop.after(0.5)
        with pytest.raises(Stopped):
            execute(connection, "SELECT pg_sleep(60)")
    deadline = time.monotonic() + 10
    while pg.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)'"):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)


def test_address_may_say_otherwise_how_long_a_host_is_waited_for(pg: Postgres) -> None:
    with connected(f"{pg.dsn} keepalives_idle=7", "pg") as connection:
        said = connection.info.get_parameters()
    assert (said["keepalives_idle"], said["keepalives_count"]) == ("7", "6")


@pytest.mark.parametrize(
    ("setting", "state"),
    [("default_transaction_read_only = on", "25006"), ("statement_timeout = '1ms'", "57014")],
)
def test_setting_of_the_role_that_keeps_it_from_writing_is_told(
    pg: Postgres, setting: str, state: str
) -> None:
    pg.change("INSERT INTO base.a SELECT i, 'v' FROM range(100, 20000) AS r(i)")
    pg.query(f"ALTER ROLE etl IN DATABASE {pg.database} SET {setting}")
    with pytest.raises(UnreachableError, match=state) as caught:
        pg.publish(A)
    assert setting.partition(" ")[0] in caught.value.hint


OTHERS_ROW = "UPDATE a SET v = 'theirs' WHERE id = 5"
LATE = f"""
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {OTHERS_ROW}; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON a DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION late()
"""
OTHER_TABLE = f"""
    CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {OTHERS_ROW}; RETURN NULL; END $$;
    CREATE TRIGGER other AFTER INSERT ON reports.b FOR EACH ROW EXECUTE FUNCTION other()
"""


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("effect", [LATE, OTHER_TABLE])
def test_what_a_trigger_does_to_a_table_when_that_was_published_is_code_12(
    pg: Postgres, effect: str, is_changed: bool
) -> None:
    """In the end of the transaction, or because of another table."""
    pg.change("CREATE OR REPLACE TABLE base.b AS SELECT i AS n FROM range(3) AS r(i)")
    both = A, KEYED_B
    pg.publish(*both)
    pg.query(effect)
    pg.change("INSERT INTO base.b VALUES (3)")
    if is_changed or effect == LATE:
        pg.change("UPDATE base.a SET v = 'ours' WHERE id = 1")
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg"):
        pg.publish(*both)
    assert pg.rows() == [(i, f"v{i}") for i in range(10)]
    assert pg.count("reports.b") == 3


def test_rows_that_a_foreign_key_deletes_from_another_table_are_missed(pg: Postgres) -> None:
    pg.change("CREATE OR REPLACE TABLE base.b AS SELECT i AS n FROM range(10) AS r(i)")
    both = A, KEYED_B
    pg.publish(*both)
    pg.query("ALTER TABLE a ADD FOREIGN KEY (id) REFERENCES reports.b ON DELETE CASCADE")
    pg.change("DELETE FROM base.b WHERE n = 9")
    with pytest.raises(ReconciliationError, match=r"public\.a at target pg: 9 rows .* 10 in"):
        pg.publish(*both)
    pg.change("DELETE FROM base.a WHERE id = 9")
    assert {run.rows_at_target for run in pg.publish(*both).values()} == {9}


def test_table_whose_name_the_server_would_cut_is_refused(pg: Postgres) -> None:
    """Two of them that begin alike would be one."""
    for name in ("n" * 64, f"{'s' * 64}.a"):
        with pytest.raises(ConfigError, match="longer than the 63 bytes of a name at target pg"):
            pg.publish(Publication("marts.a", name, ("id",)))


def test_column_that_nobody_may_write_is_told_with_what_to_do(pg: Postgres) -> None:
    pg.query("CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY, v text);"
             "ALTER TABLE a OWNER TO etl")  # fmt: skip
    with pytest.raises(LoadError, match="428C9") as caught:
        pg.publish(A)
    assert "the table at the target" in caught.value.hint


def test_connection_that_is_lost_while_the_warehouse_compares_is_class_4(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg.publish(A)
    compare = Published.compare

    def cut(*arguments: Any, **options: Any) -> Any:
        pg.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etl'")
        return compare(*arguments, **options)

    monkeypatch.setattr(Published, "compare", cut)
    pg.change("UPDATE base.a SET v = 'ours' WHERE id = 1")
    with pytest.raises(UnreachableError, match="publishing at target pg"):
        pg.publish(A)
    monkeypatch.undo()
    assert pg.publish(A)["a"].updated == 1


def test_mart_that_fails_while_the_server_counts_is_told(pg: Postgres) -> None:
    pg.publish(A)
    pg.change("""CREATE OR REPLACE VIEW marts.a AS
        SELECT id, CASE WHEN id < 9 THEN v ELSE error('bad row') END AS v FROM base.a""")
    with pytest.raises(LoadError, match="bad row"):
        pg.publish(A)
    pg.change("CREATE OR REPLACE VIEW marts.a AS FROM base.a")
    assert pg.publish(A)["a"].status == "unchanged"
