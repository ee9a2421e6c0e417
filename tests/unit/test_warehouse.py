"""The warehouse engine: how much memory it is given, for how long, and what its failures mean."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from etl.duckdb_failures import classify_duckdb
from etl.errors import ConfigError, ResourcesError, UnreachableError
from etl.memory import limited_memory
from etl.warehouse import KeptOpen, connect


def read_limit(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("usual", "little"),
    [("1.3GiB", "64.0 MiB"), ("1GiB", "64.0 MiB"), ("1500MiB", "64.0 MiB"), ("50MiB", "50.0 MiB")],
)
def test_memory_is_little_for_a_while_and_then_as_it_was(usual: str, little: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = 2; SET memory_limit = '{usual}'")
        before = read_limit(connection)
        for _ in range(3):
            with suppress(KeyError), limited_memory(connection, 32):
                assert read_limit(connection) == little
                raise KeyError
            assert read_limit(connection) == before


@pytest.mark.parametrize("file", ["w.duckdb", "w.duckdb.wal"])
def test_a_file_of_another_user_is_not_told_as_one_that_is_in_use(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody ran the job as root once."""
    (tmp_path / "w.duckdb").write_text("what cannot be opened")
    (tmp_path / file).touch()
    monkeypatch.setattr("os.access", lambda path, mode: path.name != file or not mode & os.W_OK)
    with pytest.raises(ResourcesError, match=rf"{file}: this user may not write it"):
        connect(tmp_path / "w.duckdb").__enter__()
    with pytest.raises(UnreachableError), connect(tmp_path / "w.duckdb", read_only=True):
        pass  # it may be read


def test_link_to_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    link = tmp_path / "warehouse.duckdb"
    link.symlink_to(tmp_path / "big" / "shop.duckdb")
    with pytest.raises(ConfigError, match=r"shop\.duckdb, which has another name"):
        KeptOpen(link).open()
    link.unlink()
    link.symlink_to(tmp_path / "big" / "warehouse.duckdb")
    kept = KeptOpen(link)
    kept.open()
    kept.close()


def test_warehouse_opens_again_after_a_signal_in_a_query(tmp_path: Path) -> None:
    """In a process of its own, which can be ended: it would wait for ever."""
    code = """if True:
        import signal, sys
        from pathlib import Path
        from etl.warehouse import connect

        def stop(*_):
            raise KeyError

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with connect(Path(sys.argv[1])) as c:
                c.execute("CREATE TABLE a AS SELECT sum(hash(range)) FROM range(60000000000)")
        except RuntimeError:
            with connect(Path(sys.argv[1])) as c:
                c.execute("SELECT 1")
        else:
            raise SystemExit("the query ended")
    """
    subprocess.run([sys.executable, "-c", code, tmp_path / "w.duckdb"], check=True, timeout=30)


@pytest.mark.parametrize("kind", [duckdb.IOException, duckdb.TransactionException])
def test_what_fails_on_a_full_disk_is_no_fault_of_the_query(
    kind: type[duckdb.Error], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a commit DuckDB says TransactionException, else IOException."""
    monkeypatch.setattr("etl.duckdb_failures.can_write", lambda folder: False)
    assert isinstance(classify_duckdb(kind("written"), tmp_path), ResourcesError)
    monkeypatch.setattr("etl.duckdb_failures.can_write", lambda folder: True)
    assert not isinstance(classify_duckdb(kind("written"), tmp_path), ResourcesError)


AT_COMMIT = """
import resource, signal, sys
from pathlib import Path
import duckdb
from etl.duckdb_failures import can_write, classify_duckdb

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, resource.RLIM_INFINITY))
with duckdb.connect(folder / "warehouse.duckdb") as connection:
    try:
        connection.execute("CREATE TABLE t AS SELECT repeat(uuid()::TEXT, 30) FROM range(50000)")
    except duckdb.TransactionException as error:
        print(can_write(folder), repr(classify_duckdb(error, folder)))
"""


def test_commit_that_does_not_fit_is_no_fault_of_the_query_though_its_room_is_free_again(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_COMMIT, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True ResourcesError"), done.stdout
    assert "MiB" in done.stdout
