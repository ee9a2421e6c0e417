"""What goes wrong: kills, failing APIs and servers, lost files, other people's hands."""

from __future__ import annotations

import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import psycopg

from tests.soak.api import FAULTS, ORDER
from tests.soak.project import MARTS, SHOP
from tests.soak.promise import BrokenError
from tests.soak.world import World


def kill(world: World) -> str:
    world.api.change(3)
    return str(world.stop(signal.SIGKILL))


def terminate(world: World) -> str:
    number = world.rng.choice([signal.SIGTERM, signal.SIGINT])
    code = world.stop(number)
    # Before Python is ready to stop cleanly, the signal ends it.
    if code not in {0, 128 + number, -number}:
        raise BrokenError(f"{number.name}: {code}")
    return str(code)


def fail_api(world: World) -> str:
    world.api.change(5)
    fault = world.rng.choice(sorted(world.settings.resources)), world.rng.choice(sorted(FAULTS))
    world.api.fault = fault
    try:
        code = world.etl("run", codes={FAULTS[fault[1]]})
    finally:
        world.api.fault = None
    # The other source is published as ever.
    world.check(ORDER.keys() - SHOP if fault[0] in SHOP else SHOP)
    return f"{fault}: {code}"


def busy_api(world: World) -> str:
    """Rows change while they are read; the run after it has all of them."""

    def work() -> None:
        world.api.change(1)
        time.sleep(0.02)

    with _meanwhile(work):
        process = world.start("run")
        process.communicate(timeout=300)
    # 3: a row came twice, and is upserted.
    if process.returncode not in {0, 3}:
        raise BrokenError(f"run while rows change: {process.returncode}")
    return str(world.run())


def empty_resource(world: World) -> str:
    name = world.rng.choice(["countries", "people", "stores"])
    rows, world.api.rows[name] = world.api.rows[name], {}
    try:
        return f"{name}: {world.etl('run', codes={0, 3})}"  # 3: it had many pages
    finally:
        world.api.rows[name] = rows


def fail_target(world: World) -> str:
    """The server lets nobody in; the files are published as ever."""
    world.api.change(5)
    shut, opened, code = world.rng.choice([
        ("NOLOGIN", "LOGIN", 13), ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1", 4)
    ])  # fmt: skip
    with world.connect() as connection:
        connection.execute(f"ALTER ROLE etl {shut}".encode())
        try:
            world.etl("run", codes={code if "pg" in world.settings.targets else 0})
        finally:
            connection.execute(f"ALTER ROLE etl {opened}".encode())
    world.check(targets={"marts", "lake"})
    return f"{shut}: {code}"


def disconnect(world: World) -> str:
    """Somebody ends the job's sessions at the server while it works."""
    world.api.change(20)

    def work() -> None:
        with world.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etl'"
            )
        time.sleep(world.rng.choice([0.005, 0.2]))

    with _meanwhile(work):
        return str(world.etl("run", codes={0, 4}))


def run_out(world: World) -> str:
    """Room, memory or handles end at some point."""
    world.api.change(20)
    kind, size = world.rng.choice([
        ("FSIZE", int(10 ** world.rng.uniform(3, 6))),
        ("AS", int(world.rng.uniform(0.9, 2.2) * 2**30)),
        ("NOFILE", world.rng.randrange(12, 60)),
    ])  # fmt: skip
    # DuckDB has no number for what it says of too many open files.
    codes = {0, 7, 14} if kind == "NOFILE" else {0, 14}
    code = world.etl("run", codes=codes, limit=partial(_limit, kind, size))
    return f"{kind} {size}: {code}"


def tamper(world: World) -> str:
    """Somebody works at the published tables."""
    mart = world.rng.choice(world.settings.marts)
    table, column = f"reports.{world.settings.tables[mart]}", MARTS[mart].columns[-1]
    some = f"ctid IN (SELECT ctid FROM {table} LIMIT 2)"
    sql = world.rng.choice([
        f"DELETE FROM {table} WHERE {some}", f"TRUNCATE {table}", f"VACUUM FULL {table}",
        f"UPDATE {table} SET {column} = NULL WHERE {some}", f"DROP TABLE {table} CASCADE",
        f"CREATE OR REPLACE VIEW {table}_v AS SELECT * FROM {table}",
        f"CREATE INDEX ON {table} ({column})", "DROP TABLE IF EXISTS reports.etl_publications",
    ])  # fmt: skip
    try:
        with world.connect() as connection:
            connection.execute(sql.encode())
    except psycopg.Error as error:
        return f"{sql}: {type(error).__name__}"
    return sql


def tamper_files(world: World) -> str:
    """Somebody works at the published files."""
    mart = world.rng.choice(world.settings.marts)
    table = world.settings.tables[mart]
    folder, key = world.data / "lake" / table, MARTS[mart].key[0]
    sql = world.rng.choice([
        "", f"DELETE FROM {table} WHERE rowid < 2", f"DROP TABLE {table}",
        f"UPDATE {table} SET {key} = {key} WHERE rowid < 2", f"INSERT INTO {table} FROM {table}",
        f"ALTER TABLE {table} ADD COLUMN theirs INT",
    ])  # fmt: skip
    files = sorted(folder.glob("*"))
    if not sql and files:
        lost = world.rng.choice([folder, *files])
        _remove(lost)
        return f"lost {lost.relative_to(world.data)}"
    try:
        with duckdb.connect(str(world.data / "marts.duckdb")) as connection:
            connection.execute(sql)
    except duckdb.Error as error:
        return f"{sql}: {type(error).__name__}"
    return sql


def remove(world: World) -> str:
    """What a run makes again by itself."""
    name = world.rng.choice(["marts.duckdb", "lake", "cache", "runs", "dlt"])
    if name in {"marts.duckdb", "lake"} and set(world.settings.strategies.values()) != {"replace"}:
        return f"{name} has rows that are nowhere else"
    _remove(world.data / name)
    return f"{name}: {world.run()}"


def lose(world: World) -> str:
    name = world.rng.choice(["warehouse.duckdb", "state.duckdb"])
    _remove(world.data / name)
    world.over.clear()
    return f"{name}: {world.follow_hints()}"


def restore(world: World) -> str:
    """A backup is made, or some of it is brought back."""
    backup = Path(f"{world.folder}-backup")
    if not backup.exists() or world.rng.random() < 0.3:
        _remove(backup)
        shutil.copytree(world.data, backup, symlinks=True)
        return "backup"
    all_of_it = sorted(path.name for path in backup.iterdir())
    databases = [name for name in all_of_it if name.startswith(("warehouse", "state"))]
    names = world.rng.choice([
        all_of_it, databases, ["dlt"], ["dlt/shop"], ["warehouse.duckdb"], ["state.duckdb"],
        ["marts.duckdb", "lake"],
    ])  # fmt: skip
    world.over.clear()
    for name in names:
        _remove(world.data / name)
        if (backup / name).is_dir() and not (backup / name).is_symlink():
            shutil.copytree(backup / name, world.data / name, symlinks=True)
        elif (backup / name).exists():
            shutil.copy2(backup / name, world.data / name, follow_symlinks=False)
    return f"{', '.join(names)}: {world.follow_hints()}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.wal").unlink(missing_ok=True)


@contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _limit(kind: str, size: int) -> None:
    number = getattr(resource, f"RLIMIT_{kind}")
    resource.setrlimit(number, (size, resource.getrlimit(number)[1]))
