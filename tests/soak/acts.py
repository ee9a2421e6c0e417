"""What happens to a job in the course of time, each with the codes that it may end with."""

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

import psycopg

from tests.soak.api import FAULTS, ORDER
from tests.soak.project import EDITED, MARTS, configure, model_file
from tests.soak.promise import BrokenError
from tests.soak.world import World

Act = Callable[[World], str]


def run(world: World) -> str:
    """Nothing is in its way, whatever happened before."""
    return str(world.etl("run", codes={0}))


def change(world: World) -> str:
    number = world.rng.choice([1, 3, 20])
    world.api.change(number)
    return str(number)


def add_field(world: World) -> str:
    said = world.api.add_field()
    world.api.change(10)
    return said


def retype_field(world: World) -> str:
    said = world.api.retype_field()
    world.api.change(10)
    return said


def kill(world: World) -> str:
    world.api.change(3)
    return str(world.stop(signal.SIGKILL))


def terminate(world: World) -> str:
    code = world.stop(signal.SIGTERM)
    # Before Python is ready to stop cleanly, the signal ends it.
    if code not in {0, 143, -signal.SIGTERM}:
        raise BrokenError(f"SIGTERM: {code}")
    return str(code)


def fail_api(world: World) -> str:
    world.api.change(5)
    fault = world.rng.choice(sorted(ORDER)), world.rng.choice(sorted(FAULTS))
    world.api.fault = fault
    try:
        code = world.etl("run", codes={FAULTS[fault[1]]})
    finally:
        world.api.fault = None
    return f"{fault}: {code}"


def one_stage(world: World) -> str:
    stage = world.rng.choice(["extract", "transform", "audit", "load"])
    # Marts that wait for an audit are not loaded; raw that is ahead is told.
    return f"{stage}: {world.etl('run', '--stage', stage, codes={0, 3, 12})}"


def busy_api(world: World) -> str:
    """Rows change while they are read; the run after it has all of them."""

    def work() -> None:
        world.api.change(1)
        time.sleep(0.02)

    with _meanwhile(work):
        process = world.start("run")
        process.communicate(timeout=300)
    if process.returncode != 0:
        raise BrokenError(f"run while rows change: {process.returncode}")
    return run(world)


def empty_resource(world: World) -> str:
    name = world.rng.choice(["countries", "people"])
    rows, world.api.rows[name] = world.api.rows[name], {}
    try:
        return f"{name}: {world.etl('run', codes={0, 3})}"  # 3: it had many pages
    finally:
        world.api.rows[name] = rows


def two_at_once(world: World) -> str:
    world.api.change(5)
    processes = [world.start("run"), world.start("run")]
    for process in processes:
        process.communicate(timeout=300)
    codes = sorted(str(p.returncode) for p in processes)
    if codes not in (["0", "8"], ["0", "0"]):
        raise BrokenError(f"two runs at once: {codes}")
    world.check()
    return ", ".join(codes)


def full_refresh(world: World) -> str:
    code = world.etl("run", "--full-refresh", codes={0})
    world.check()
    return str(code)


def retry(world: World) -> str:
    # There may be nothing that failed.
    return str(world.etl("retry", codes={0, 2}))


def plan(world: World) -> str:
    arguments = world.rng.choice([(), ("--apply",)])
    return str(world.etl("plan", *arguments, codes={0, 3, 12}))


def tamper(world: World) -> str:
    """Somebody works at the published tables."""
    mart = world.rng.choice(sorted(MARTS))
    table = f"reports.{mart}"
    some = f"ctid IN (SELECT ctid FROM {table} LIMIT 2)"
    with world.connect() as connection:
        columns = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'reports' "
            "AND table_name = %s AND is_nullable = 'YES' ORDER BY 1",
            (mart,),
        ).fetchall()
        if not columns:
            return "no table"
        (column,) = world.rng.choice(columns)
        sql = world.rng.choice([
            f"DELETE FROM {table} WHERE {some}", f"TRUNCATE {table}", f"VACUUM FULL {table}",
            f'UPDATE {table} SET "{column}" = NULL WHERE {some}', f"DROP TABLE {table} CASCADE",
            f"CREATE OR REPLACE VIEW reports.v_{mart} AS SELECT * FROM {table}",
            f'CREATE INDEX ON {table} ("{column}")',
            "DROP TABLE IF EXISTS reports.etl_publications",
        ])  # fmt: skip
        try:
            connection.execute(sql.encode())
        except psycopg.Error as error:
            return f"{sql}: {type(error).__name__}"
    return sql


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


def edit_model(world: World) -> str:
    """A mart gets a column, or loses it."""
    name = world.rng.choice(EDITED)
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    new = text.replace(", 1 AS one", "")
    if new == text:
        new = text.replace("\nFROM ", ", 1 AS one\nFROM ", 1)
    file.write_text(new, encoding="utf-8")
    return f"{name}: {'with' if len(new) > len(text) else 'without'} one"


def fail_audit(world: World) -> str:
    name, key = world.rng.choice([("events", "seq"), ("prices", "product")])
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    audit = f", audits (forall(criteria := ({key} < 0))));"
    file.write_text(text.replace(");\n", f"{audit}\n", 1), encoding="utf-8")
    world.api.change(10)
    code = world.etl("run", codes={3})
    file.write_text(text, encoding="utf-8")
    again = world.etl("retry", codes={0})
    world.check()
    return f"{name}: {code}, {again}"


def change_strategy(world: World) -> str:
    mart = world.rng.choice(sorted(MARTS))
    world.strategies[mart] = world.rng.choice(["replace", "merge", "append_once"])
    configure(world.folder, world.url, world.strategies)
    return f"{mart}: {world.strategies[mart]}"


def remove(world: World) -> str:
    """What a run makes again by itself."""
    name = world.rng.choice(["marts.duckdb", "lake", "cache", "runs", "dlt"])
    kept = {"marts.duckdb", "lake"} & {name} and set(world.strategies.values()) != {"replace"}
    if kept:
        return f"{name} has rows that are nowhere else"
    _remove(world.data / name)
    return f"{name}: {run(world)}"


def lose(world: World) -> str:
    name = world.rng.choice(["warehouse.duckdb", "state.duckdb"])
    _remove(world.data / name)
    return f"{name}: {_follow_hints(world)}"


def restore(world: World) -> str:
    """A backup is made, or some of it is brought back."""
    backup = Path(f"{world.folder}-backup")
    if not backup.exists() or world.rng.random() < 0.3:
        _remove(backup)
        shutil.copytree(world.data, backup, symlinks=True)
        return "backup"
    all_of_it = sorted(path.name for path in backup.iterdir())
    databases = [name for name in all_of_it if name.startswith(("warehouse", "state"))]
    names = world.rng.choice(
        [all_of_it, databases, ["dlt"], ["warehouse.duckdb"], ["state.duckdb"]]
    )
    for name in names:
        _remove(world.data / name)
        if (backup / name).is_dir() and not (backup / name).is_symlink():
            shutil.copytree(backup / name, world.data / name, symlinks=True)
        elif (backup / name).exists():
            shutil.copy2(backup / name, world.data / name, follow_symlinks=False)
    return f"{', '.join(names)}: {_follow_hints(world)}"


def run_out(world: World) -> str:
    """Room, memory or handles end at some point."""
    world.api.change(20)
    kind, size = world.rng.choice([
        ("FSIZE", int(10 ** world.rng.uniform(3, 7))),
        ("AS", int(world.rng.uniform(0.9, 2.2) * 2**30)),
        ("NOFILE", world.rng.randrange(12, 60)),
    ])  # fmt: skip
    # DuckDB has no number for what it says of too many open files.
    codes = {0, 7, 14} if kind == "NOFILE" else {0, 14}
    code = world.etl("run", codes=codes, limit=partial(_limit, kind, size))
    return f"{kind} {size}: {code}"


# How often each of them happens.
ACTS: dict[Act, int] = {
    change: 10, run: 6, kill: 6, run_out: 4, add_field: 3, fail_api: 3, one_stage: 3, restore: 3,
    tamper: 4, terminate: 2, retype_field: 2, busy_api: 2, empty_resource: 2, disconnect: 2,
    edit_model: 2, fail_audit: 2, change_strategy: 2, remove: 2, lose: 1, two_at_once: 1,
    full_refresh: 1, retry: 1, plan: 1,
}  # fmt: skip


def _follow_hints(world: World) -> str:
    """A run, and what its failure says that helps: then another one ends well."""
    code = world.etl("run", codes={0, 2, 3, 6, 12})
    if code == 6:
        _remove(world.data / "state.duckdb")
        return f"{code}, without the state {run(world)}"
    return f"{code}, anew {full_refresh(world)}" if code else str(code)


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
