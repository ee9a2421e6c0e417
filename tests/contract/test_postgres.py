"""`etl run --profile postgres` as a process: its exit codes, its record, its silence on secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl.configuration import load_settings
from tests.contract.process import Job, new_job
from tests.postgres_server import PASSWORD, Server
from tests.processes import ROOT

VARIABLE = "ETL_TARGETS__POSTGRES__DSN"


@pytest.fixture(scope="module")
def database(postgres: Server) -> str:
    return postgres.create_database()


@pytest.fixture(scope="module")
def job(postgres: Server, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job after its first run."""
    with new_job(tmp_path_factory.mktemp("job")) as made:
        # As a URL, the way people write it: with a password that has to be encoded.
        password = PASSWORD.replace(":", "%3A").replace("@", "%40")
        host = str(postgres.folder).replace("/", "%2F")
        made.variables[VARIABLE] = f"postgresql://etl:{password}@/{database}?host={host}"
        made.variables["ETL_SOURCES__BLUESKY__FOR_EACH__ACTOR"] = "[bulk-300.test]"
        done = made.run("--profile", "postgres")
        assert done.code == 0, done.err
        yield made


def test_the_profile_publishes_every_mart_of_the_demo() -> None:
    """What a run of it brings to a server is seen by `make demo-postgres`, in every check."""
    demo = load_settings(ROOT, "demo", {})
    both = load_settings(ROOT, "demo,postgres", {VARIABLE: "host=x"})
    assert {x.model for x in demo.loads} == {x.model for x in both.loads}
    assert both.sources == demo.sources
    make, checks = (ROOT / "Makefile").read_text(), (ROOT / ".ci/run").read_text()
    assert "$(BIN)/python -m tests.demo_postgres\n" in make
    assert "step make demo-postgres\n" in checks


@pytest.fixture
def admin(postgres: Server, database: str) -> Admin:
    return Admin(postgres, database)


class Admin:
    """The superuser's hand in the database."""

    def __init__(self, server: Server, database: str) -> None:
        self.server, self.database = server, database

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with self.server.admin(self.database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


def load(
    job: Job, *arguments: str, dsn: str | None = None, profile: str = "postgres"
) -> tuple[int, str]:
    if dsn is not None:
        job = replace(job, variables=job.variables | {VARIABLE: dsn, "ETL_RETRY__ATTEMPTS": "1"})
    done = job.run("--profile", profile, "--stage", "load", *arguments)
    return done.code, done.err + done.out


def test_all_marts_are_published_with_their_keys(job: Job, admin: Admin) -> None:
    assert load(job)[0] == 0
    loads = {x["table"]: x for x in job.record()["loads"]}
    assert set(loads) == {"followers_daily", "follower_changes", "mutuals", "follower_labels"}
    for table, run in loads.items():
        assert run["reconciled"]
        assert admin.query(f"SELECT count(*) FROM marts.{table}") == [(run["rows_at_target"],)]
    assert loads["followers_daily"]["rows_at_target"] > 0
    keys = admin.query("SELECT count(*) FROM pg_constraint WHERE contype = 'p' "
                       "AND connamespace = 'marts'::regnamespace")  # fmt: skip
    assert keys == [(5,)]  # the four, and the bookkeeping's


def test_password_appears_nowhere(job: Job) -> None:
    code, said = load(job, "--json")
    shown = job.run("show", "--profile", "postgres", command="config")
    assert (code, shown.code) == (0, 0)
    written = b"".join(p.read_bytes() for p in (job.data / "runs").rglob("*") if p.is_file())
    for text in (said, shown.out, shown.err, written.decode(errors="replace")):
        assert PASSWORD not in text
        assert "s3cret" not in text


def test_dry_run_tells_what_would_change(job: Job, admin: Admin) -> None:
    assert load(job)[0] == 0
    admin.query("DELETE FROM marts.followers_daily")
    code, said = load(job, "--dry-run")
    assert code == 0
    assert "load marts.followers_daily → postgres: +" in said
    assert "load marts.mutuals → postgres: +0 ~0 -0" in said
    assert admin.query("SELECT count(*) FROM marts.followers_daily") == [(0,)]
    assert load(job)[0] == 0


def test_missing_address_is_code_2(job: Job) -> None:
    code, said = load(job, dsn="")
    assert code == 2
    assert VARIABLE in said


def test_closed_port_is_code_4(job: Job) -> None:
    code, said = load(job, dsn="postgresql://etl:s3cretly@127.0.0.1:1/x")
    assert code == 4
    assert "s3cretly" not in said


def test_rejected_password_is_code_13(job: Job, postgres: Server, database: str) -> None:
    code, said = load(job, dsn=postgres.dsn(database, password="s3cretly"))
    assert code == 13
    assert "s3cretly" not in said


def test_refused_row_is_code_7_and_the_table_is_as_it_was(job: Job, admin: Admin) -> None:
    admin.query("DELETE FROM marts.followers_daily; ALTER TABLE marts.followers_daily "
                "ADD CONSTRAINT never CHECK (false)")  # fmt: skip
    code, said = load(job)
    assert code == 7
    assert "marts.followers_daily" in said
    assert "never" in said
    assert admin.query("SELECT count(*) FROM marts.followers_daily") == [(0,)]
    admin.query("ALTER TABLE marts.followers_daily DROP CONSTRAINT never")
    assert load(job)[0] == 0


def test_lost_row_is_code_12(job: Job, admin: Admin) -> None:
    admin.query("""
        DELETE FROM marts.followers_daily;
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER lose BEFORE INSERT ON marts.followers_daily FOR EACH ROW
            EXECUTE FUNCTION lose()
    """)
    code, said = load(job)
    assert code == 12
    assert "marts.followers_daily at target postgres: 0 rows after publishing" in said
    admin.query("DROP FUNCTION lose CASCADE")
    assert load(job)[0] == 0


def test_target_that_is_down_holds_back_no_other(job: Job) -> None:
    text = (job.folder / "config/postgres.yaml").read_text(encoding="utf-8")
    (job.folder / "config/both.yaml").write_text(
        text + "  - {model: marts.mutuals, target: marts}\n", encoding="utf-8"
    )
    (job.data / "marts.duckdb").unlink(missing_ok=True)
    code, _ = load(job, profile="both", dsn="postgresql://127.0.0.1:1/x")
    assert code == 4
    statuses = {(x["target"], x["status"]) for x in job.record()["loads"]}
    assert statuses == {("marts", "published"), ("postgres", "failed")}
    assert Path(job.data / "marts.duckdb").exists()
