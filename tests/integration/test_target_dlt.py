"""Destinations of dlt as targets: rows, strategies, kills, counts, and what is refused."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy
from dlt.load.exceptions import LoadClientJobRetry

from etl.errors import (
    AuthError,
    ConfigError,
    LoadError,
    ReconciliationError,
    ResourcesError,
    UnreachableError,
)
from etl.libraries import prepare_libraries
from etl.records import LoadRun
from etl.settings import Strategy, Target
from etl.targets import SERVER_TARGETS, Publication
from etl.targets.dlt_destination.destination import Tables
from etl.targets.dlt_destination.failures import classify_delivery
from etl.targets.dlt_destination.values import add_up, agrees
from etl.targets.publication import take_order
from etl.targets.relation import describe

prepare_libraries()

B = Publication("marts.b", "b")


def by(strategy: Strategy = "replace", **more: Any) -> Publication:
    return Publication("marts.a", "A Table", ("Id",), strategy, **more)


class Place:
    """A destination of dlt as a target, read without dlt."""

    def __init__(
        self, destination: str, folder: Path, warehouse: duckdb.DuckDBPyConnection
    ) -> None:
        self.destination, self.folder, self.warehouse = destination, folder, warehouse
        options = {
            "duckdb": {"credentials": str(folder / "there.duckdb")},
            "filesystem": {"bucket_url": str(folder / "lake")},
        }
        self.target = Target(
            kind="dlt", destination=destination, options=options[destination],
            default_schema="reports",
        )  # fmt: skip

    def publish(
        self, *publications: Publication, held_back: Iterable[Publication] = (), **options: bool
    ) -> dict[str, LoadRun]:
        order = take_order("there", publications, held_back, self.target.schema_name)
        runs = SERVER_TARGETS["dlt"](self.warehouse, order, self.target, **options)
        return {r.table: r for r in runs}

    def read(self, table: str, what: str = "id, v") -> list[tuple[Any, ...]]:
        if self.destination == "filesystem":
            files = f"read_parquet('{self.folder}/lake/reports/{table}/*.parquet')"
            return duckdb.sql(f"SELECT {what} FROM {files} ORDER BY ALL").fetchall()
        with duckdb.connect(str(self.folder / "there.duckdb"), read_only=True) as connection:
            return connection.sql(f"SELECT {what} FROM reports.{table} ORDER BY ALL").fetchall()


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("""
            SET TimeZone = 'UTC'; CREATE SCHEMA marts;
            CREATE TABLE marts.a AS SELECT i AS "Id", 'v' || i AS v FROM range(10) AS r(i);
            CREATE TABLE marts.b AS SELECT i % 3 AS n FROM range(6) AS r(i);
        """)
        yield connection


@pytest.fixture(params=["duckdb", "filesystem"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, warehouse: duckdb.DuckDBPyConnection
) -> Place:
    return Place(request.param, tmp_path, warehouse)


@pytest.fixture
def file(tmp_path: Path, warehouse: duckdb.DuckDBPyConnection) -> Place:
    return Place("duckdb", tmp_path, warehouse)


def counts(run: LoadRun) -> tuple[str, int, int, int, int, bool]:
    return (run.status, run.inserted, run.updated, run.deleted, run.rows_at_target, run.reconciled)


OTHER = """
    UPDATE marts.a SET v = 'other' WHERE "Id" < 2;
    DELETE FROM marts.a WHERE "Id" > 7;
    INSERT INTO marts.a VALUES (10, 'new');
"""


def test_marts_are_replaced_and_counted(place: Place) -> None:
    runs = place.publish(by(), B)
    assert counts(runs["A Table"]) == ("published", 10, 0, 0, 10, True)
    assert counts(runs["b"]) == ("published", 6, 0, 0, 6, True)
    place.warehouse.execute(OTHER + "DELETE FROM marts.b")
    dry = place.publish(by(), B, dry_run=True)
    assert counts(dry["A Table"]) == ("dry_run", 1, 8, 2, 10, False)
    assert len(place.read("a_table")) == 10
    runs = place.publish(by(), held_back=[B])
    assert counts(runs["A Table"]) == ("published", 1, 8, 2, 9, True)
    assert (runs["b"].status, runs["b"].rows_at_target) == ("held_back", 6)
    expected = place.warehouse.execute("FROM marts.a ORDER BY ALL").fetchall()
    assert place.read("a_table") == expected
    # A mart without rows, and a table that the newest of dlt's own notes does not name.
    assert counts(place.publish(B)["b"]) == ("published", 0, 0, 6, 0, True)
    assert place.read("a_table") == expected


def test_merge_and_append_once_where_dlt_can(file: Place) -> None:
    file.publish(by("merge"))
    file.warehouse.execute(OTHER)
    assert counts(file.publish(by("merge"))["A Table"]) == ("published", 1, 8, 0, 11, True)
    merged = [(0, "other"), (1, "other"), *((i, f"v{i}") for i in range(2, 10)), (10, "new")]
    assert file.read("a_table") == merged
    file.warehouse.execute("UPDATE marts.a SET v = 'x'; INSERT INTO marts.a VALUES (11, 'newer')")
    run = file.publish(by("append_once"))["A Table"]
    assert counts(run) == ("published", 1, 0, 0, 12, True)
    assert file.read("a_table") == [*merged, (11, "newer")]


def test_types_arrive(file: Place) -> None:
    file.warehouse.execute("""
        CREATE TABLE marts.t AS SELECT 1 AS id, TIMESTAMP '2024-01-01 01:02:03.000004' AS naive,
            TIMESTAMPTZ '2024-01-01 00:00:00+05' AS tz, 1.23::DECIMAL(38, 9) AS d,
            DATE '2024-01-01' AS day,
            170141183460469231731687303715::HUGEINT AS h, '🦋' AS u, 'nan'::DOUBLE AS nan, true AS b
    """)
    file.publish(Publication("marts.t", "t", ("id",)))
    assert (
        file.read("t", "* EXCLUDE (_dlt_load_id)")[0][:5]
        == file.warehouse.execute("FROM marts.t").fetchall()[0][:5]
    )
    assert file.read("t", "h, u, isnan(nan), b, typeof(naive)") == [
        (170141183460469231731687303715, "🦋", True, True, "TIMESTAMP")
    ]


def test_every_type_is_found_to_have_arrived(place: Place) -> None:
    place.warehouse.execute("""
        CREATE TABLE marts.t AS SELECT 1 AS id, 255::UTINYINT AS u1, 65535::USMALLINT AS u2,
            4294967295::UINTEGER AS u4, 9223372036854775807::UBIGINT AS u8, 0.1::FLOAT AS f,
            '-inf'::DOUBLE AS inf, '\\x00\\xFF'::BLOB AS b, uuid() AS uuid, TIME '24:00:00' AS t,
            DATE '0001-01-01' AS day, 'infinity'::TIMESTAMP AS ts, '1 day'::INTERVAL AS i,
            [1.5000, 12345678901234.5678]::DECIMAL(18,4)[] AS exact,
            ['a"\\', NULL, e'\\n'] AS texts, {'a': [{'b': DATE '2024-01-01'}]} AS nested,
            MAP {1: 'k'} AS m, '{"a": 1.50}'::JSON AS j, 'low'::ENUM('low') AS e,
            'a' || chr(0) AS nul, '' AS empty, repeat('ä', 1000000) AS long;
        INSERT INTO marts.t (id) VALUES (2)
    """)
    run = place.publish(Publication("marts.t", "t", ("id",)))["t"]
    assert counts(run) == ("published", 2, 0, 0, 2, True)
    sent = place.warehouse.execute("SELECT u4, b, t::VARCHAR, long FROM marts.t ORDER BY id")
    assert place.read("t", "u4, b, t::VARCHAR, long")[-2:] == sorted(
        sent.fetchall(), key=lambda r: r[0] is None
    )


@pytest.mark.parametrize(
    ("strategy", "value", "kept"),
    [
        ("replace", "0.1::DOUBLE", "FLOAT"),
        ("replace", "9007199254740993", "DOUBLE"),
        ("replace", "12345678901234567.891", "DOUBLE"),
        ("replace", "TIMESTAMP '2024-01-01 00:00:00.123456'", "TIMESTAMP_S"),
        ("replace", "'007'", "INTEGER"),
        ("merge", "'007'", "INTEGER"),
        ("append_once", "'007'", "INTEGER"),
    ],
)
def test_values_that_the_destination_changes_are_a_failed_load(
    file: Place, strategy: Strategy, value: str, kept: str
) -> None:
    """No database says that it rounds; only what stands there tells."""
    file.warehouse.execute(f'CREATE OR REPLACE TABLE marts.a AS SELECT 1 AS "Id", {value} AS v')
    file.publish(by(strategy))
    file.warehouse.execute(f'INSERT INTO marts.a SELECT 2 AS "Id", {value} AS v')
    with duckdb.connect(str(file.folder / "there.duckdb")) as there:
        there.execute(f"ALTER TABLE reports.a_table ALTER v TYPE {kept}")
    with pytest.raises(LoadError, match="A Table at target there: column `v` does not hold there"):
        file.publish(by(strategy))


def test_a_key_that_a_destination_writes_in_another_way_is_the_same_key(file: Place) -> None:
    """Drivers give times as `2024-01-01T00:00:00`: `append_once` took all rows for new ones."""
    file.warehouse.execute("""
        CREATE OR REPLACE TABLE marts.a AS
        SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) SECOND AS "Id", i AS v FROM range(3) AS r(i)
    """)
    file.publish(by())
    with duckdb.connect(str(file.folder / "there.duckdb")) as there:
        there.execute("""
            ALTER TABLE reports.a_table ALTER id TYPE VARCHAR
            USING strftime(id, '%Y-%m-%dT%H:%M:%S.%f')
        """)
    assert counts(file.publish(by(), dry_run=True)["A Table"]) == ("dry_run", 0, 3, 0, 3, False)


@pytest.mark.parametrize(("there", "agreed"), [("5.2500", True), ("5.26", False)])
def test_numbers_with_more_digits_than_duckdb_knows_are_compared(
    warehouse: duckdb.DuckDBPyConnection, there: str, agreed: bool
) -> None:
    mart = describe(warehouse, "(SELECT 5.25::DECIMAL(18,4) AS v)")
    column = pa.table({"x": pa.array([Decimal(there)], pa.decimal256(76, 38))})
    (total,) = add_up(warehouse, mart)
    assert agrees(warehouse, mart.columns[0], total, [column]) is agreed


def sink(items: Any, table: Any) -> None:
    """A destination that cannot be read back."""


def test_what_cannot_be_read_back_is_not_called_reconciled(file: Place) -> None:
    options = {"destination_callable": f"{__name__}.sink"}
    file.target = Target(kind="dlt", destination="destination", options=options)
    assert counts(file.publish(B)["b"]) == ("published", 6, 0, 0, 0, False)


def test_the_names_of_one_destination_do_not_decide_those_of_another(file: Place) -> None:
    """A function gets names as they are."""
    database, options = file.target, {"destination_callable": f"{__name__}.sink"}
    file.target = Target(kind="dlt", destination="destination", options=options)
    file.publish(by())
    file.target = database
    file.publish(by())
    assert len(file.read("a_table")) == 10


class OperationalError(Exception):
    """As every driver has one (PEP 249)."""


@pytest.mark.parametrize(
    ("cause", "kind", "told"),
    [
        (OverflowError("too large"), LoadError, "a_table at target there: OverflowError: too"),
        (duckdb.DataError("not taken"), LoadError, "DataError: not taken"),
        (OperationalError("gone"), UnreachableError, "cannot be reached: gone"),
        (ConnectionRefusedError(), UnreachableError, "cannot be reached"),
        (RuntimeError("odd"), UnreachableError, "a_table at target there: odd"),
        (OSError(errno.ENOSPC, "No space", "/x"), ResourcesError, "No space"),
        (PermissionError(errno.EACCES, "Denied", "/x"), ResourcesError, "Denied"),
        (PermissionError("Access Denied"), AuthError, "credentials were rejected: Access Denied"),
    ],
)
def test_a_job_that_dlt_tried_again_in_vain_has_the_class_of_its_cause(
    cause: Exception, kind: type[Exception], told: str
) -> None:
    failed = LoadClientJobRetry("1", "a_table.12ab.parquet", 5, 5, "Traceback", cause)
    found = classify_delivery(failed, "there")
    assert type(found) is kind
    assert told in str(found)


KILLED = """
import sys, duckdb, os, signal
from pathlib import Path
from tests.integration.test_target_dlt import Place, by
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
kind = {"duckdb": SqlJobClientBase, "filesystem": FilesystemClient}[sys.argv[1]]
def killed(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
# All rows are there, and dlt is about to note it.
kind.complete_load = killed
with duckdb.connect(sys.argv[2] + "/warehouse.duckdb") as warehouse:
    Place(sys.argv[1], Path(sys.argv[2]), warehouse).publish(by())
"""


def test_killed_before_dlt_notes_the_package_no_row_comes_twice(
    place: Place, tmp_path: Path
) -> None:
    place.publish(by())
    place.warehouse.execute(OTHER)
    expected = place.warehouse.execute("FROM marts.a ORDER BY ALL").fetchall()
    place.warehouse.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, place.destination, str(tmp_path)],
        env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any((tmp_path / "cache/destinations/there").iterdir())
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
        # What waits is not gone on with: the mart has changed since.
        warehouse.execute("INSERT INTO marts.a VALUES (77, 'later')")
        again = Place(place.destination, tmp_path, warehouse)
        assert again.publish(by())["A Table"].rows_at_target == 10
        assert again.read("a_table") == [*expected, (77, "later")]


HEAVY = """
import sys, duckdb
with duckdb.connect(sys.argv[1] + "/heavy.duckdb") as warehouse:
    warehouse.execute("SET preserve_insertion_order = false; CREATE SCHEMA marts")
    query = "SELECT i, repeat(md5(i::VARCHAR), 32) AS v FROM range(1_000_000) AS r(i)"
    warehouse.execute(f"CREATE TABLE marts.b AS {query}")
"""
PEAK = """
import resource, sys, duckdb
from pathlib import Path
from tests.integration.test_target_dlt import B, Place
with duckdb.connect(sys.argv[1] + "/heavy.duckdb") as warehouse:
    run = Place("filesystem", Path(sys.argv[1]), warehouse).publish(B)["b"]
assert run.reconciled, run
unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit)
"""


def test_memory_does_not_grow_with_the_mart(tmp_path: Path) -> None:
    """Here a gigabyte of texts, sent and read back."""
    # A process's peak begins with the memory of the one that started it: here a shell's.
    made, published = (
        subprocess.run(
            ["sh", "-c", '"$0" -c "$1" "$2"; exit $?', sys.executable, code, str(tmp_path)],
            env=os.environ, capture_output=True, text=True, check=False,
        )
        for code in (HEAVY, PEAK)
    )  # fmt: skip
    assert made.returncode == published.returncode == 0, made.stderr + published.stderr
    assert int(published.stdout.split()[-1]) < 530


def test_a_database_sends_what_is_read_back_in_parts(
    tmp_path: Path, warehouse: duckdb.DuckDBPyConnection
) -> None:
    """Drivers of MySQL and PostgreSQL would hold a whole column."""
    streamed = {}

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def note(
        _connection: Any, _cursor: Any, sql: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        streamed[sql] = context.execution_options.get("stream_results", False)

    there = Place("duckdb", tmp_path, warehouse)
    options = {"credentials": f"sqlite:///{tmp_path}/there.db"}
    there.target = Target(kind="dlt", destination="sqlalchemy", options=options)
    try:
        assert there.publish(by())["A Table"].reconciled
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    read = [was for sql, was in streamed.items() if 'FROM "public"."a_table"' in sql]
    assert read == [True] * 4


def test_rows_that_are_lost_are_noticed(file: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    count = Tables.count
    monkeypatch.setattr(Tables, "count", lambda *a: max(count(*a) - 1, 0))
    with pytest.raises(ReconciliationError, match="9 rows after publishing, 9 of them by this run"):
        file.publish(by())


@pytest.mark.parametrize(
    ("strategy", "now"),
    [
        ("replace", "i + 0.75"),
        ("replace", "(i + 0.75)::DOUBLE"),
        ("replace", "'00' || i"),
        ("merge", "(i + 0.75)::DOUBLE"),
    ],
)
def test_column_whose_type_takes_less_than_the_mart_has_is_told(
    file: Place, strategy: Strategy, now: str
) -> None:
    """dlt keeps the column as it is, and the database rounds: 1.75 would stand there as 2."""
    make = 'CREATE OR REPLACE TABLE marts.a AS SELECT i AS "Id", {} AS v FROM range(5) AS r(i)'
    file.warehouse.execute(make.format("i"))
    file.publish(by(strategy))
    file.warehouse.execute(make.format(now))
    with pytest.raises(LoadError, match="column `v` does not hold there"):
        file.publish(by(strategy))
    # Where it was dropped it is made anew: dlt's notes of it stay there.
    with duckdb.connect(str(file.folder / "there.duckdb")) as there:
        there.execute("DROP TABLE reports.a_table")
    file.publish(by(strategy))
    expected = file.warehouse.execute('SELECT "Id", v FROM marts.a ORDER BY ALL').fetchall()
    assert [(i, str(v)) for i, v in file.read("a_table")] == [
        (i, str(float(v)) if "DOUBLE" in now else str(v)) for i, v in expected
    ]


def test_column_may_change_its_type_where_files_are_replaced(
    tmp_path: Path, warehouse: duckdb.DuckDBPyConnection
) -> None:
    place = Place("filesystem", tmp_path, warehouse)
    warehouse.execute('CREATE OR REPLACE TABLE marts.a AS SELECT 1 AS "Id", 1 AS v')
    place.publish(by())
    warehouse.execute('CREATE OR REPLACE TABLE marts.a AS SELECT 1 AS "Id", 1.75::DOUBLE AS v')
    place.publish(by())
    assert place.read("a_table") == [(1, 1.75)]


def test_columns_come_and_go(place: Place) -> None:
    place.publish(by())
    place.warehouse.execute("ALTER TABLE marts.a ADD COLUMN w INTEGER DEFAULT 7")
    for dry_run in (True, False):
        run = place.publish(by(), dry_run=dry_run)["A Table"]
        assert (run.inserted, run.updated, run.deleted) == (0, 10, 0)
    assert place.read("a_table", "id, v, w") == [(i, f"v{i}", 7) for i in range(10)]
    place.warehouse.execute("ALTER TABLE marts.a DROP COLUMN v")
    place.publish(by())
    assert place.read("a_table", "id, w") == [(i, 7) for i in range(10)]


def test_column_that_dlt_made_of_another_type_is_found_again(place: Place) -> None:
    """Raw's `w__v_double` is no `w_v_double`: dlt takes the underscores for a path."""
    place.warehouse.execute("""
        ALTER TABLE marts.a ADD COLUMN w__v_double DOUBLE DEFAULT 1.5;
        ALTER TABLE marts.a RENAME "Id" TO id__v_text
    """)
    keyed = Publication("marts.a", "a", ("id__v_text",))
    place.publish(keyed)
    assert counts(place.publish(keyed)["a"]) == ("published", 0, 10, 0, 10, True)
    assert place.read("a", "id__v_text, w__v_double") == [(i, 1.5) for i in range(10)]


def test_files_without_the_key_that_a_mart_has_now_are_replaced(
    tmp_path: Path, warehouse: duckdb.DuckDBPyConnection
) -> None:
    """Nobody knows which rows stay."""
    lake = Place("filesystem", tmp_path, warehouse)
    lake.publish(by())
    warehouse.execute("ALTER TABLE marts.a ADD COLUMN code VARCHAR DEFAULT 'x'")
    run = lake.publish(Publication("marts.a", "A Table", ("Id", "code")))["A Table"]
    assert counts(run) == ("published", 10, 0, 10, 10, True)


def test_strategies_that_dlt_would_turn_into_append_are_refused(
    tmp_path: Path, warehouse: duckdb.DuckDBPyConnection
) -> None:
    lake = Place("filesystem", tmp_path, warehouse)
    strategies: tuple[Strategy, ...] = ("merge", "append_once")
    for strategy in strategies:
        with pytest.raises(ConfigError, match=f"cannot do strategy {strategy}"):
            lake.publish(by(strategy))
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("destination", "options", "kind", "said", "hint"),
    [
        ("no_such", {}, ConfigError, "no destination of this name", "dlt's documentation"),
        ("filesystem", {"bucket_ulr": "/x"}, ConfigError, "options.bucket_ulr", "bucket_url"),
        ("destination", {"destination_callable": "a:secret"}, ConfigError, "these options",
         "driver"),
        ("snowflake", {"credentials": "snowflake://a:b@c/d"}, ConfigError, "snowflake",
         "pip install 'dlt[snowflake]'"),
        ("duckdb", {"credentials": "/nowhere/x.duckdb"}, UnreachableError, "reached", "options"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_has_its_class(
    file: Place, destination: str, options: dict[str, Any], kind: type[Exception], said: str,
    hint: str,
) -> None:  # fmt: skip
    file.target = Target(kind="dlt", destination=destination, options=options)
    with pytest.raises(kind, match=said) as caught:
        file.publish(B)
    assert hint in str(getattr(caught.value, "hint", ""))
    assert "snowflake://a:b" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("destination", "address", "said"),
    [
        ("mssql", "mssql://a:b@127.0.0.1:1/d?driver=ODBC+Driver+18+for+SQL+Server",
         "Can't open lib 'ODBC Driver 18 for SQL Server'"),
        ("mssql", "mssql://a:b@127.0.0.1:1/d", "No supported ODBC driver"),
        ("mssql", "mssql://a:b@127.0.0.1:1/d?driver=FreeTDS", "`FreeTDS` is not supported"),
        ("sqlalchemy", "mssql+pyodbc://a:b@127.0.0.1:1/d?driver=none",
         "Can't open lib 'none'"),
        ("sqlalchemy", "mssql+pyodbc://a:b@nowhere", "no default driver specified"),
    ],
)  # fmt: skip
def test_a_missing_odbc_driver_is_told(
    file: Place, destination: str, address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the driver manager's own error, on a machine where no driver is registered."""
    pytest.importorskip("pyodbc", reason="needs pyodbc and libodbc.so.2", exc_type=ImportError)
    monkeypatch.setenv("ODBCSYSINI", str(file.folder))
    file.target = Target(kind="dlt", destination=destination, options={"credentials": address})
    with pytest.raises(ConfigError, match=said) as caught:
        file.publish(B)
    assert "etl-job[mssql]" in caught.value.hint
    assert "kind: mssql" in caught.value.hint


def test_refused_rows_are_a_failed_load(file: Place) -> None:
    file.publish(by())
    with duckdb.connect(str(file.folder / "there.duckdb")) as connection:
        connection.execute("ALTER TABLE reports.a_table ALTER v TYPE BIGINT USING id")
    with pytest.raises(LoadError, match="target there"):
        file.publish(by())
    # What the destination said may tell the credentials, and the package stays there.
    assert any((file.folder / "cache/destinations/there").iterdir())
    assert not list(file.folder.rglob("trace.pickle"))


@pytest.mark.parametrize("strategy", ["replace", "merge"])
def test_new_column_that_the_key_has_now_is_a_failed_load(file: Place, strategy: Strategy) -> None:
    """DuckDB cannot add one that takes no NULL; dlt would have it tried again for ever."""
    file.publish(by(strategy))
    file.warehouse.execute("ALTER TABLE marts.a ADD COLUMN code VARCHAR DEFAULT 'x'")
    keyed = Publication("marts.a", "A Table", ("Id", "code"), strategy)
    with pytest.raises(LoadError, match="Adding columns with constraints") as caught:
        file.publish(keyed)
    assert "drop the table" in caught.value.hint
    with duckdb.connect(str(file.folder / "there.duckdb")) as there:
        there.execute("DROP TABLE reports.a_table")
    assert file.publish(keyed)["A Table"].rows_at_target == 10


def test_tables_that_dlt_gives_one_name_are_refused(file: Place) -> None:
    with pytest.raises(ConfigError, match="`A Table` and `a_table` are one"):
        file.publish(by(), held_back=[Publication("marts.b", "a_table")])


def test_column_that_dlt_fills_itself_is_refused(place: Place) -> None:
    place.warehouse.execute("CREATE TABLE marts.c AS SELECT 1 AS n, 'mine' AS \"_DLT_load_id\"")
    with pytest.raises(ConfigError, match="_dlt_load_id, which dlt fills"):
        place.publish(Publication("marts.c", "c"))
    place.publish(Publication("marts.c", "c", columns=("n",)))
    assert place.read("c", "n") == [(1,)]


def test_table_with_a_schema_is_refused(file: Place) -> None:
    with pytest.raises(ConfigError, match="one schema"):
        file.publish(Publication("marts.b", "other.b"))
