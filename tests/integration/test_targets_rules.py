"""Rules that hold for every kind of target: what is published, kept, counted and refused."""

from __future__ import annotations

import glob
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.errors import ConfigError, LoadError, ReconciliationError, ResourcesError
from etl.records import LoadRun
from etl.targets import FILE_TARGETS, Publication, catalog, duckdb_file, parquet_files
from etl.targets.publication import take_order
from etl.targets.relation import Fingerprint, Relation, fingerprint
from etl.warehouse import literal, quoted
from tests.integration.servers import counts, warehouse

A = Publication("marts.a", "marts.a", ("id",))
B = Publication("marts.b", "marts.b")
TYPES = """
    SELECT i AS id, 'b'::mood AS mood, {'x': i, 'y': [1, NULL]} AS s, MAP {'k': 1.5} AS m,
        1.23::DECIMAL(38,4) AS d, TIMESTAMPTZ '2024-01-01 00:00:00+05' AS tz, '{"a": 1}'::JSON AS j,
        uuid() AS u, '\\xAB\\x00'::BLOB AS bl, 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf,
        -0.0::DOUBLE AS zero, INTERVAL '1 month 1 microsecond' AS iv,
        170141183460469231731687303715::HUGEINT AS h, [1::HUGEINT << 70] AS lh, ['a'::mood] AS lm,
        200::UTINYINT AS ut, TIME '01:00:00.123456' AS t, '101'::BIT AS bi,
        TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS ns,
        TIMESTAMP_S '2020-01-01 00:00:01' AS sec,
        TIMESTAMP_MS '2020-01-01 00:00:00.001' AS ms, [1, 2]::INTEGER[2] AS arr,
        union_value(num := 2) AS un, NULL::INTEGER AS nothing, 123::BIGNUM AS big,
        DATE '0001-01-01' AS day, 'infinity'::TIMESTAMP AS ever, [[1], [2]] AS nested,
        {'when': {'at': NULL::TIMESTAMP}} AS deep
    FROM range(3) AS r(i)
"""


__all__ = ["warehouse"]


@pytest.fixture(params=list(FILE_TARGETS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Target:
    """A target under test, read as a stranger would read it."""

    def __init__(self, kind: str, warehouse: duckdb.DuckDBPyConnection, path: Path) -> None:
        self.kind, self.warehouse, self.path = kind, warehouse, path

    def publish(
        self, *publications: Publication, held_back: Iterable[Publication] = (), **options: bool
    ) -> dict[str, LoadRun]:
        order = take_order("t", publications, held_back)
        runs = FILE_TARGETS[self.kind](self.warehouse, order, self.path, **options)
        return {run.table: run for run in runs}

    def read(self, table: str, what: str = "*") -> list[Any]:
        if self.kind == "parquet":
            files = literal(glob.escape(f"{self.path}/{table}") + "/*.parquet")
            return duckdb.sql(
                f"SELECT {what} FROM read_parquet({files}, hive_partitioning = false) ORDER BY ALL"
            ).fetchall()
        code = (
            "import duckdb, sys, pickle\n"
            "c = duckdb.connect(sys.argv[1], read_only=True)\n"
            "sys.stdout.buffer.write(pickle.dumps(c.execute(sys.argv[2]).fetchall()))"
        )
        query = f"SELECT {what} FROM {table} ORDER BY ALL"
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.path), query], capture_output=True, check=True
        )
        return list(pickle.loads(done.stdout))

    def state(self) -> dict[str, tuple[int, int]]:
        """Inode and time of every file and link at the target and beside it."""
        return {
            str(p): (p.lstat().st_ino, p.lstat().st_mtime_ns)
            for p in sorted(self.path.parent.rglob("*"))
            if not p.name.startswith("warehouse") and (p.is_symlink() or p.is_file())
        }


@pytest.fixture
def target(kind: str, warehouse: duckdb.DuckDBPyConnection, tmp_path: Path) -> Target:
    return Target(kind, warehouse, tmp_path / "it's [1] a=b" / "out.duckdb")


def test_first_publication_brings_every_row(target: Target) -> None:
    runs = target.publish(A, B)
    assert counts(runs["marts.a"]) == ("published", 10, 0, 0, 10, True)
    assert counts(runs["marts.b"]) == ("published", 6, 0, 0, 6, True)
    assert target.read("marts.a") == [(i, f"v{i}") for i in range(10)]
    assert target.read("marts.b") == [(0,), (0,), (1,), (1,), (2,), (2,)]


def test_unchanged_marts_leave_the_target_untouched(target: Target) -> None:
    target.publish(A, B)
    before = target.state()
    runs = target.publish(A, B)
    assert counts(runs["marts.a"]) == ("unchanged", 0, 0, 0, 10, True)
    assert counts(runs["marts.b"]) == ("unchanged", 0, 0, 0, 6, True)
    assert target.state() == before


def test_changes_are_counted_by_key(target: Target) -> None:
    target.publish(A, B)
    target.warehouse.execute("""
        UPDATE base.a SET v = NULL WHERE id < 3;
        DELETE FROM base.a WHERE id = 9;
        INSERT INTO base.a VALUES (10, 'new'), (11, 'new');
    """)
    runs = target.publish(A, B)
    assert counts(runs["marts.a"]) == ("published", 2, 3, 1, 11, True)
    assert counts(runs["marts.b"]) == ("unchanged", 0, 0, 0, 6, True)
    assert counts(target.publish(A, B)["marts.a"]) == ("unchanged", 0, 0, 0, 11, True)


def test_without_a_key_rows_are_counted_as_a_bag(target: Target) -> None:
    target.publish(B)
    target.warehouse.execute("INSERT INTO base.b VALUES (0), (7); DELETE FROM base.b WHERE n = 2")
    assert counts(target.publish(B)["marts.b"]) == ("published", 2, 0, 2, 6, True)


def test_a_new_column_updates_every_row_that_stays(target: Target) -> None:
    target.publish(A)
    target.warehouse.execute("""
        DELETE FROM base.a WHERE id = 0;
        CREATE OR REPLACE VIEW marts.a AS
            SELECT CASE WHEN id = 1 THEN 'one' ELSE id::VARCHAR END AS id, v, 1 AS w FROM base.a;
    """)
    assert counts(target.publish(A)["marts.a"]) == ("published", 1, 8, 2, 9, True)


def test_dry_run_counts_and_changes_nothing(target: Target) -> None:
    before = target.state()
    assert counts(target.publish(A, dry_run=True)["marts.a"]) == ("dry_run", 10, 0, 0, 0, False)
    assert target.state() == before
    target.publish(A)
    target.warehouse.execute("DELETE FROM base.a WHERE id > 7; UPDATE base.a SET v = 'x'")
    before = target.state()
    assert counts(target.publish(A, dry_run=True)["marts.a"]) == ("dry_run", 0, 8, 2, 10, False)
    assert target.state() == before


def test_held_back_mart_keeps_its_present_version(target: Target) -> None:
    target.publish(A, B)
    target.warehouse.execute("UPDATE base.a SET v = 'bad'; INSERT INTO base.b VALUES (9)")
    runs = target.publish(B, held_back=[A])
    assert counts(runs["marts.a"]) == ("held_back", 0, 0, 0, 10, False)
    assert counts(runs["marts.b"]) == ("published", 1, 0, 0, 7, True)
    assert target.read("marts.a", "v")[0] == ("v0",)


def test_mart_that_is_in_both_lists_is_held_back(target: Target) -> None:
    runs = target.publish(A, B, held_back=[A])
    assert counts(runs["marts.a"]) == ("held_back", 0, 0, 0, 0, False)
    assert counts(runs["marts.b"]) == ("published", 6, 0, 0, 6, True)
    with pytest.raises((duckdb.Error, subprocess.CalledProcessError)):
        target.read("marts.a")


def test_table_of_a_held_back_mart_is_not_taken_for_another_mart(target: Target) -> None:
    """Nothing would be published, and the run end with 0."""
    with pytest.raises(ConfigError, match=r"both go to table x"):
        target.publish(Publication("marts.b", "main.x"), held_back=[Publication("marts.a", "x")])


def test_table_of_the_default_schema_is_one_with_and_without_it() -> None:
    """A server's table would hold the second mart only, and the run end with 0."""
    both = [Publication("marts.a", "public.x"), Publication("marts.b", "x")]
    with pytest.raises(ConfigError, match="both go to table x"):
        take_order("t", both, (), "public")
    assert take_order("t", both, (), "reports").publish == tuple(both)


def test_table_that_changed_its_case_leaves_no_earlier_version(target: Target) -> None:
    target.publish(A)
    target.publish(Publication("marts.a", "marts.A", ("id",)))
    if target.kind == "parquet":
        assert [p.name for p in target.path.iterdir() if p.name != ".versions"] == ["marts.A"]
    assert len(target.read("marts.A")) == 10


def test_nothing_to_publish_drops_nothing(target: Target) -> None:
    target.publish(A)
    before = target.state()
    assert target.publish() == {}
    assert target.state() == before


def test_table_that_no_load_names_is_dropped(target: Target) -> None:
    target.publish(A, B)
    target.publish(A)
    with pytest.raises((duckdb.Error, subprocess.CalledProcessError)):
        target.read("marts.b")


def test_file_with_tables_of_others_is_left_alone(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "shared.duckdb"
    with duckdb.connect(str(path)) as others:
        others.execute("CREATE TABLE theirs AS SELECT 1 AS n; CREATE VIEW seen AS FROM theirs")
    target = Target("duckdb", warehouse, path)
    before = path.read_bytes()
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=r"not make: view main\.seen, table main\.theirs"):
            target.publish(A, dry_run=dry_run)
    assert path.read_bytes() == before
    with duckdb.connect(str(path)) as others:
        others.execute("DROP VIEW seen; DROP TABLE theirs")
    target.publish(A, B)
    # A second job, with a warehouse of its own, is told the same of the first one's tables.
    with duckdb.connect(str(tmp_path / "second.duckdb")) as second:
        second.execute("CREATE SCHEMA marts; CREATE VIEW marts.c AS SELECT 1")
        with pytest.raises(ConfigError, match=r"table marts\.a, table marts\.b"):
            Target("duckdb", second, path).publish(Publication("marts.c", "c"))
    assert len(target.read("marts.a")) == 10


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("CREATE VIEW marts.b AS SELECT 1 AS n", "view marts.b"),  # in the place of a mart
        ("CREATE MACRO twice(x) AS 2 * x", "function main.twice"),
        ("CREATE SEQUENCE numbers", "sequence main.numbers"),
        ("CREATE TYPE mood AS ENUM ('glad')", "type main.mood"),
        ("CREATE INDEX by_v ON marts.a (v)", "index marts.by_v"),
    ],
)
def test_what_others_made_in_the_file_is_not_lost(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, made: str, what: str
) -> None:
    warehouse.execute("ALTER TABLE base.a ADD COLUMN e ENUM ('a type without a name')")
    target = Target("duckdb", warehouse, tmp_path / "out.duckdb")
    target.publish(A)
    with duckdb.connect(str(target.path)) as others:
        others.execute(made)
    with pytest.raises(ConfigError, match=f"not make: {what}"):
        target.publish(A, B)
    with duckdb.connect(str(target.path)) as others:
        others.execute(f"DROP {what.replace('function', 'macro')}")
    target.publish(A, B)


def test_two_jobs_may_publish_into_one_folder(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    target = Target("parquet", warehouse, tmp_path / "shared")
    target.publish(A, B)
    with duckdb.connect(str(tmp_path / "second.duckdb")) as second:
        second.execute("CREATE SCHEMA marts; CREATE VIEW marts.c AS SELECT 1 AS n")
        Target("parquet", second, target.path).publish(Publication("marts.c", "c"))
    target.publish(A)  # B, which is its own, is dropped
    assert sorted(p.name for p in target.path.glob("*") if p.is_symlink()) == ["c", "marts.a"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("INSERT INTO base.a VALUES (1, 'x'), (1, 'y')", "not unique: 2 duplicates in 12 rows"),
        ("INSERT INTO base.a VALUES (NULL, 'x')", "NULL in 1 of 11 rows"),
    ],
)
def test_bad_key_leaves_the_target_untouched(target: Target, change: str, says: str) -> None:
    target.publish(A, B)
    target.warehouse.execute(change)
    target.warehouse.execute("DELETE FROM base.b")
    before = target.state()
    with pytest.raises(LoadError, match=says):
        target.publish(B, A)
    assert target.state() == before


def test_failed_check_leaves_the_target_untouched(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.publish(A, B)
    before = target.state()
    target.warehouse.execute("CREATE OR REPLACE VIEW marts.a AS SELECT id, random() v FROM base.a")
    with pytest.raises(ReconciliationError, match=r"marts\.a at target t: 10 rows.* in the wareh"):
        target.publish(A, B)
    assert target.state() == before


def test_rows_lost_while_writing_are_found(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = duckdb_file._create

    def lose(cursor: duckdb.DuckDBPyConnection, catalog: str, table: str, version: Any) -> None:
        create(cursor, catalog, table, version)
        cursor.execute(f'DELETE FROM "{catalog}".{table} WHERE id = 1')

    monkeypatch.setattr(duckdb_file, "_create", lose)
    with pytest.raises(ReconciliationError, match="9 rows"):
        Target("duckdb", warehouse, tmp_path / "out.duckdb").publish(A)
    assert not (tmp_path / "out.duckdb").exists()


def test_rows_that_readers_miss_are_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    module = duckdb_file if target.kind == "duckdb" else parquet_files
    query = module.query
    monkeypatch.setattr(module, "query", lambda *a: (query(*a)[0] - 1,))
    with pytest.raises(ReconciliationError, match="9 rows after publishing, 10 expected"):
        target.publish(A)


@pytest.mark.parametrize(
    ("publications", "says"),
    [
        ([Publication("marts.a", "marts.a", ("nope",))], "key `nope` is not a published column"),
        ([A, Publication("marts.b", "MARTS.A")], "both go to table"),
        ([Publication("marts.a", "../a")], "is not a table name"),
        ([Publication("marts.a", "marts.")], "is not a table name"),
    ],
)
def test_wrong_load_is_a_matter_of_configuration(
    target: Target, publications: list[Publication], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        target.publish(*publications)


def test_path_where_something_of_another_kind_stands_is_left_alone(target: Target) -> None:
    target.path.parent.mkdir(exist_ok=True)
    if target.kind == "parquet":
        target.path.touch()
    else:
        target.path.mkdir()
    before = target.state()
    with pytest.raises(ConfigError, match=r"out\.duckdb of target t is (a|no) folder"):
        target.publish(A)
    assert target.state() == before


def test_missing_mart_is_named(target: Target) -> None:
    with pytest.raises(LoadError, match=r"marts\.nope cannot be read"):
        target.publish(Publication("marts.nope", "marts.nope"))


def test_mart_that_fails_on_reading_is_named(target: Target) -> None:
    target.warehouse.execute(
        "CREATE OR REPLACE VIEW marts.a AS SELECT v::INTEGER AS id FROM base.a"
    )
    with pytest.raises(LoadError, match=r"marts\.a cannot be read"):
        target.publish(A)


def test_empty_mart_is_published_with_its_columns(target: Target) -> None:
    target.warehouse.execute("DELETE FROM base.a")
    assert counts(target.publish(A)["marts.a"]) == ("published", 0, 0, 0, 0, True)
    assert target.read("marts.a", "id, v") == []
    assert counts(target.publish(A)["marts.a"]) == ("unchanged", 0, 0, 0, 0, True)


def test_odd_names_stand_as_they_are(target: Target) -> None:
    names = ['a "quoted" one', "select", "ünï çode", "a.b", "it's", "h", "n", "k0", "o", " "]
    columns = ", ".join(f"{i} AS {quoted(name)}" for i, name in enumerate(names))
    target.warehouse.execute(f'CREATE VIEW marts."o\'d ""d" AS SELECT {columns}')
    odd = Publication("marts.o'd \"d", "My Marts.o'd \"d", tuple(names))
    assert counts(target.publish(odd)[odd.table]) == ("published", 1, 0, 0, 1, True)
    assert counts(target.publish(odd)[odd.table]) == ("unchanged", 0, 0, 0, 1, True)
    target.warehouse.execute(f'CREATE OR REPLACE VIEW marts."o\'d ""d" AS SELECT {columns}, 1 AS x')
    assert counts(target.publish(odd)[odd.table]) == ("published", 0, 1, 0, 1, True)
    fewer = Publication(odd.model, odd.table, tuple(names[:-1]))
    last = columns.replace('9 AS " "', '7 AS " "')
    target.warehouse.execute(
        f'CREATE OR REPLACE VIEW marts."o\'d ""d" AS SELECT {last}, 1 AS x '
        f"UNION ALL SELECT {columns.replace('0 AS', '-1 AS', 1)}, 1"
    )
    assert counts(target.publish(fewer)[odd.table]) == ("published", 1, 1, 0, 2, True)


def test_every_type_arrives_and_stays_unchanged(target: Target) -> None:
    target.warehouse.execute(f"CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE base.t AS {TYPES}")
    target.warehouse.execute("CREATE VIEW marts.t AS SELECT * FROM base.t")
    every = Publication("marts.t", "marts.t", ("id",))
    assert counts(target.publish(every)["marts.t"]) == ("published", 3, 0, 0, 3, True)
    assert counts(target.publish(every)["marts.t"]) == ("unchanged", 0, 0, 0, 3, True)
    what = "h::VARCHAR, lh[1]::VARCHAR, mood::VARCHAR, iv::VARCHAR, nan::VARCHAR, arr::VARCHAR"
    assert target.read("marts.t", what)[0] == (
        "170141183460469231731687303715",
        "1180591620717411303424",
        "b",
        "1 month 00:00:00.000001",
        "nan",
        "[1, 2]",
    )


def test_empty_list_is_another_value_than_null(target: Target) -> None:
    # hash([]) = hash(NULL) in DuckDB: a plain hash would call this unchanged.
    target.warehouse.execute("CREATE VIEW marts.t AS SELECT 1 AS id, []::INTEGER[] AS x")
    nested = Publication("marts.t", "marts.t", ("id",))
    target.publish(nested)
    target.warehouse.execute(
        "CREATE OR REPLACE VIEW marts.t AS SELECT 1 AS id, NULL::INTEGER[] AS x"
    )
    assert counts(target.publish(nested)["marts.t"]) == ("published", 0, 1, 0, 1, True)


def test_swapped_values_of_two_rows_are_seen(target: Target) -> None:
    target.publish(A)
    target.warehouse.execute("UPDATE base.a SET v = 'v' || (1 - id) WHERE id < 2")
    assert counts(target.publish(A)["marts.a"]) == ("published", 0, 2, 0, 10, True)


def test_full_disk_is_a_matter_of_resources(target: Target) -> None:
    # The limit on a file's size makes write() fail as a full disk does, without root.
    target.publish(A)
    target.warehouse.execute(
        "CREATE VIEW marts.big AS SELECT i AS id, md5(i::VARCHAR) AS v FROM range(400000) AS r(i)"
    )
    target.warehouse.close()
    before = target.state()
    code = """
import resource, sys
from pathlib import Path
import duckdb
from etl.errors import ResourcesError
from etl.targets import FILE_TARGETS, Publication
from etl.targets.publication import Order
c = duckdb.connect(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    big = Publication("marts.big", "marts.a", ("id",))
    FILE_TARGETS[sys.argv[1]](c, Order("t", (big,), ()), Path(sys.argv[3]))
except ResourcesError as error:
    print(error)
    sys.exit(14)
"""
    where = str(target.path.parent.parent / "warehouse.duckdb")
    done = subprocess.run(
        [sys.executable, "-c", code, target.kind, where, str(target.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, target.state()) == (14, before), done.stderr
    assert "File too large" in done.stdout


def test_out_of_memory_is_not_taken_for_damage(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Publication("marts.a", "marts.a", ("id",), "append_once")
    target.publish(kept)
    module = {"duckdb": catalog, "parquet": parquet_files}[target.kind]

    def run_out(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Fingerprint:
        if "etl_" in relation.sql or "read_parquet" in relation.sql:
            raise duckdb.OutOfMemoryException("could not allocate")
        return fingerprint(cursor, relation)

    monkeypatch.setattr(module, "fingerprint", run_out)
    with pytest.raises(ResourcesError, match="out of memory"):
        target.publish(kept)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_directory_without_permission_is_a_matter_of_resources(target: Target) -> None:
    target.path.parent.mkdir()
    target.path.parent.chmod(0o500)
    with pytest.raises(ResourcesError):
        target.publish(A)


def test_mart_of_long_values_needs_little_memory(
    target: Target, warehouse: duckdb.DuckDBPyConnection
) -> None:
    warehouse.execute(
        "CREATE TABLE base.long AS SELECT i AS id, repeat(md5(i::VARCHAR), 32) AS v "
        "FROM range(100000) AS r(i)"
    )
    warehouse.execute("CREATE VIEW marts.long AS FROM base.long")
    warehouse.execute("SET memory_limit = '100MB'")
    run = target.publish(Publication("marts.long", "long", ("id",)))["long"]
    assert (run.status, run.rows_at_target) == ("published", 100_000)
    assert target.read("long", "count(*), count(DISTINCT v)") == [(100_000, 100_000)]
