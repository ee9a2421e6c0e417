"""Targets among other processes: readers, writers, kills and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.errors import ExitCode, LoadError, Stopped, UnreachableError
from etl.targets import FILE_TARGETS, Publication
from etl.targets.publication import take_order
from tests.integration.forking import Forks, forking

A = Publication("marts.a", "marts.a", ("id",))
B = Publication("marts.b", "marts.b", ("id",))
ROWS = 1000
# A group that files can be given to; their own where who runs the tests has no other.
OTHER_GROUP = 4711 if os.geteuid() == 0 else max(os.getgroups(), key=lambda g: g != os.getegid())

# Every row of a state holds the same number in both marts: a reader that sees two saw a mixture.
STATE = """
    CREATE OR REPLACE VIEW marts.a AS SELECT i AS id, {0} AS state FROM range({1}) AS r(i);
    CREATE OR REPLACE VIEW marts.b AS SELECT i AS id, {0} AS state FROM range({1}) AS r(i);
"""
# Publishes state 1 and dies at the n-th call of a function of `os`.
KILLED = """
import os, signal, sys
from pathlib import Path
import duckdb
from etl.targets import FILE_TARGETS, Publication
from etl.targets.publication import Order

def run():
    kind, warehouse, target, function, count = sys.argv[1:]
    original, calls = getattr(os, function), 0
    def die(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    setattr(os, function, die)
    order = Order("t", tuple(Publication(m, m, ("id",)) for m in ("marts.a", "marts.b")), ())
    FILE_TARGETS[kind](duckdb.connect(warehouse), order, Path(target))
"""
# Reads until its standard input closes; prints how many states it saw, or what went wrong.
READER = """
import select, sys
import duckdb
target, rows = sys.argv[1], int(sys.argv[2])
seen, reads = set(), 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    with duckdb.connect(target, read_only=True) as c:
        count, low, high = c.execute(
            "SELECT count(*), min(state), max(state) FROM (FROM marts.a UNION ALL FROM marts.b)"
        ).fetchone()
    assert count == 2 * rows and low == high, (count, low, high)
    seen.add(low)
    reads += 1
print(len(seen), reads)
"""
# Opens the file for writing, commits a row, and dies or stays.
WRITER = """
import os, sys, duckdb
c = duckdb.connect(sys.argv[1])
c.execute("SET checkpoint_threshold = '1GB'; INSERT INTO out.marts.a VALUES (-1, -1)")
if sys.argv[2] == "die":
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "target" / "out.duckdb"


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(tmp_path / "warehouse.duckdb"))
    connection.execute("CREATE SCHEMA marts;" + STATE.format(0, ROWS))
    yield connection
    connection.close()


def publish(
    kind: str,
    warehouse: duckdb.DuckDBPyConnection,
    path: Path,
    held_back: tuple[Publication, ...] = (),
) -> list[str]:
    runs = FILE_TARGETS[kind](warehouse, take_order("t", (A, B), held_back), path)
    assert held_back or all(run.reconciled for run in runs)
    return [run.status for run in runs]


def read_states(kind: str, path: Path) -> list[Any]:
    if kind == "duckdb":
        with duckdb.connect() as c:
            c.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
            return c.execute(
                "SELECT DISTINCT state FROM (FROM x.marts.a UNION FROM x.marts.b)"
            ).fetchall()
    files = [f"{path}/{table}/*.parquet" for table in ("marts.a", "marts.b")]
    return duckdb.execute("SELECT DISTINCT state FROM read_parquet($1)", [files]).fetchall()


@pytest.fixture(scope="module")
def killed() -> Iterator[Forks]:
    """Processes that are killed while they publish."""
    with forking(KILLED) as forks:
        yield forks


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("kind", "function", "count"),
    [
        ("duckdb", "fsync", 1),
        ("duckdb", "replace", 1),
        ("duckdb", "fsync", 2),
        ("parquet", "fsync", 1),
        ("parquet", "fsync", 7),
        ("parquet", "replace", 1),
        ("parquet", "replace", 2),
    ],
)
def test_publication_killed_anywhere_is_repaired_by_the_next(
    kind: str,
    function: str,
    count: int,
    first: bool,
    killed: Forks,
    tmp_path: Path,
    warehouse: duckdb.DuckDBPyConnection,
    path: Path,
) -> None:
    if not first:
        publish(kind, warehouse, path)
    warehouse.execute(STATE.format(1, ROWS))
    warehouse.close()
    code = killed.run(kind, tmp_path / "warehouse.duckdb", path, function, count)
    assert code == -signal.SIGKILL, "it survived"
    if not first:
        assert all(state in {(0,), (1,)} for state in read_states(kind, path))
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as again:
        publish(kind, again, path)
        assert read_states(kind, path) == [(1,)]
        for state in (2, 3):
            again.execute(STATE.format(state, ROWS))
            assert publish(kind, again, path) == ["published"] * 2
    names = {p.name for p in path.parent.iterdir()}
    assert names == {path.name}
    if kind == "parquet":
        versions = list((path / ".versions").glob("*/*"))
        assert len(versions) == 4, "each mart: the present version and the one before"


def test_reader_always_sees_one_whole_state(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    publish("duckdb", warehouse, path)
    reader = python(READER, path, ROWS)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    for state in range(1, 25):
        warehouse.execute(STATE.format(state, ROWS))
        publish("duckdb", warehouse, path)
    out, err = reader.communicate("stop\n")
    assert reader.returncode == 0, err
    states, reads = map(int, out.split())
    assert states > 1
    assert reads > 5


def test_reader_of_a_resolved_directory_outlives_a_publication(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    publish("parquet", warehouse, path)
    resolved = sorted((path / "marts.a").resolve().glob("*.parquet"))
    warehouse.execute(STATE.format(1, ROWS))
    publish("parquet", warehouse, path)
    publish("parquet", warehouse, path)  # nothing new: takes nothing away
    found = duckdb.execute(
        "SELECT min(state), max(state), count(*) FROM read_parquet($1)", [list(map(str, resolved))]
    )
    assert found.fetchall() == [(0, 0, ROWS)]


def test_no_file_of_a_new_version_has_an_old_name(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    # Who listed the old files through the link and opens them later must miss them, not mix.
    publish("parquet", warehouse, path)
    listed = list((path / "marts.a").glob("*.parquet"))
    warehouse.execute(STATE.format(1, ROWS))
    publish("parquet", warehouse, path)
    assert listed
    assert not any(file.exists() for file in listed)


def test_open_reader_keeps_its_file_and_stops_nobody(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    publish("duckdb", warehouse, path)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); "
        "print('ready', flush=True); sys.stdin.readline(); "
        "print(c.execute('SELECT DISTINCT state FROM marts.a').fetchall())"
    )
    reader = python(code, path)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    for state in (1, 2):
        warehouse.execute(STATE.format(state, ROWS))
        assert publish("duckdb", warehouse, path) == ["published"] * 2
    out, err = reader.communicate("go\n")
    assert out == "[(0,)]\n", err


def test_living_writer_is_refused(warehouse: duckdb.DuckDBPyConnection, path: Path) -> None:
    publish("duckdb", warehouse, path)
    writer = python(WRITER, path, "stay")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    try:
        warehouse.execute(STATE.format(1, ROWS))
        with pytest.raises(UnreachableError, match="open for writing in another process") as error:
            publish("duckdb", warehouse, path)
        assert error.value.code is ExitCode.CONNECTION
        assert str(path) in error.value.message
        assert Path(f"{path}.wal").exists(), "what a living writer writes is its own"
    finally:
        writer.communicate()
    assert publish("duckdb", warehouse, path) == ["published"] * 2
    assert read_states("duckdb", path) == [(1,)]


@pytest.mark.parametrize("state", [0, 1])
def test_log_of_a_dead_writer_does_not_reach_the_next_version(
    state: int, warehouse: duckdb.DuckDBPyConnection, path: Path, warnings: list[str]
) -> None:
    publish("duckdb", warehouse, path)
    python(WRITER, path, "die").communicate()
    assert Path(f"{path}.wal").exists()
    warehouse.execute(STATE.format(state, ROWS))
    publish("duckdb", warehouse, path)
    assert not Path(f"{path}.wal").exists()
    assert read_states("duckdb", path) == [(state,)]
    assert any("write-ahead log" in text for text in warnings)


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0", b"\xff" * 5000])
def test_damaged_file_is_built_anew(
    damage: bytes, warehouse: duckdb.DuckDBPyConnection, path: Path, warnings: list[str]
) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    assert publish("duckdb", warehouse, path) == ["published"] * 2
    assert any("damaged" in text for text in warnings)


def _damage_blocks(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(16384, len(content), 4096):
        content[place : place + 64] = b"\x55" * 64
    path.write_bytes(content)


def test_damaged_blocks_are_built_anew(
    warehouse: duckdb.DuckDBPyConnection, path: Path, warnings: list[str]
) -> None:
    publish("duckdb", warehouse, path)
    _damage_blocks(path)
    assert publish("duckdb", warehouse, path) == ["published"] * 2
    assert any("damaged" in text for text in warnings)
    assert publish("duckdb", warehouse, path) == ["unchanged"] * 2


def test_damaged_file_is_an_error_when_a_table_must_be_kept(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    publish("duckdb", warehouse, path)
    _damage_blocks(path)
    before = path.read_bytes()
    with pytest.raises(LoadError, match=r"damaged: the present version of marts\.a cannot be kept"):
        publish("duckdb", warehouse, path, held_back=(A,))
    assert path.read_bytes() == before


def test_damaged_parquet_is_written_anew(
    warehouse: duckdb.DuckDBPyConnection, path: Path, warnings: list[str]
) -> None:
    publish("parquet", warehouse, path)
    for file in path.glob("marts.a/*.parquet"):
        file.write_bytes(b"PAR1")
    assert publish("parquet", warehouse, path) == ["published", "unchanged"]
    assert any("damaged" in text for text in warnings)


def test_strangers_directories_are_not_touched(
    warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    for name in ("marts.a", "marts.b"):
        (path / name).mkdir(parents=True)
    (path / "marts.a" / "theirs.csv").write_text("1")
    (path / "other").mkdir()
    with pytest.raises(LoadError, match=r"marts\.a, .*marts\.b: in the way") as refused:
        publish("parquet", warehouse, path)
    assert "copied by what follows links?" in refused.value.hint
    assert (path / "marts.a" / "theirs.csv").read_text() == "1"
    assert (path / "other").is_dir()


def test_comments_come_along(warehouse: duckdb.DuckDBPyConnection, path: Path) -> None:
    warehouse.execute(
        "COMMENT ON VIEW marts.a IS 'it''s a'; COMMENT ON COLUMN marts.a.state IS 'the \"state\"'"
    )
    publish("duckdb", warehouse, path)
    with duckdb.connect(str(path), read_only=True) as c:
        table = c.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'a'").fetchall()
        column = c.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE comment IS NOT NULL"
        ).fetchall()
    assert (table, column) == ([("it's a",)], [("state", 'the "state"')])
    assert publish("duckdb", warehouse, path) == ["unchanged"] * 2
    warehouse.execute("COMMENT ON COLUMN marts.a.state IS 'now clearer'")
    assert publish("duckdb", warehouse, path) == ["published", "unchanged"]
    held = publish("duckdb", warehouse, path, held_back=(A,))
    assert held == ["unchanged", "held_back"]


def test_link_group_and_mode_of_the_file_stay(
    warehouse: duckdb.DuckDBPyConnection, path: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.duckdb"
    path.parent.mkdir()
    link.symlink_to(path)
    publish("duckdb", warehouse, link)
    path.chmod(0o640)
    os.chown(path, -1, OTHER_GROUP)
    warehouse.execute(STATE.format(1, ROWS))
    publish("duckdb", warehouse, link)
    assert link.is_symlink()
    assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o640, OTHER_GROUP)


@pytest.mark.skipif(os.getegid() == OTHER_GROUP, reason="no other group to give a file to")
def test_group_that_cannot_stay_is_told(
    warehouse: duckdb.DuckDBPyConnection,
    path: Path,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path.parent.mkdir()
    publish("duckdb", warehouse, path)
    os.chown(path, -1, OTHER_GROUP)
    monkeypatch.setattr("os.chown", refuse)
    warehouse.execute(STATE.format(1, ROWS))
    publish("duckdb", warehouse, path)
    assert any("group could not stay" in text for text in warnings)


def test_schema_named_like_the_file_is_warned_of(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, warnings: list[str]
) -> None:
    publish("duckdb", warehouse, tmp_path / "marts.duckdb")
    assert any("marts.marts.<table>" in text for text in warnings)


@pytest.mark.parametrize("kind", list(FILE_TARGETS))
def test_stop_in_the_middle_of_a_query_is_passed_on(
    kind: str, warehouse: duckdb.DuckDBPyConnection, path: Path
) -> None:
    publish(kind, warehouse, path)
    warehouse.execute(
        "CREATE OR REPLACE VIEW marts.a AS SELECT a.i AS id, sum(hash(a.i + b.j)) AS state "
        "FROM range(100000) AS a(i), range(1000000) AS b(j) GROUP BY ALL"
    )

    def stop(*_: object) -> None:
        raise Stopped(ExitCode.TERMINATED)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Stopped):
            publish(kind, warehouse, path)
    finally:
        signal.signal(signal.SIGALRM, before)
    warehouse.execute(STATE.format(1, ROWS))
    assert publish(kind, warehouse, path) == ["published"] * 2
    assert list(path.parent.iterdir()) == [path]
