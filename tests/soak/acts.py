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

import duckdb
import psycopg

from tests.soak.api import FAULTS, ORDER
from tests.soak.project import DISPOSITIONS, EDITED, MARTS, SHOP, TARGETS, model_file, write_model
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
    fault = world.rng.choice(sorted(world.settings.resources)), world.rng.choice(sorted(FAULTS))
    world.api.fault = fault
    try:
        code = world.etl("run", codes={FAULTS[fault[1]]})
    finally:
        world.api.fault = None
    # The other source is published as ever.
    world.check(ORDER.keys() - SHOP if fault[0] in SHOP else SHOP)
    return f"{fault}: {code}"


def fail_target(world: World) -> str:
    """The server lets nobody in; the files are published as ever."""
    world.api.change(5)
    shut, opened, codes = world.rng.choice([
        ("ALTER ROLE etl NOLOGIN", "ALTER ROLE etl LOGIN", {13}),
        ("ALTER ROLE etl CONNECTION LIMIT 0", "ALTER ROLE etl CONNECTION LIMIT -1", {4}),
        ("ALTER SCHEMA reports OWNER TO postgres", "ALTER SCHEMA reports OWNER TO etl", {0, 7, 13}),
    ])  # fmt: skip
    if "pg" not in world.settings.targets:
        return "no target"
    with world.connect() as connection:
        connection.execute(shut.encode())
    try:
        code = world.etl("run", "--wait-lock", "1", codes=codes)
    finally:
        with world.connect() as connection:
            connection.execute(opened.encode())
    world.check(targets={"marts", "lake"})
    return f"{shut}: {code}"


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
    # 3: a row came twice, and is upserted.
    if process.returncode not in {0, 3}:
        raise BrokenError(f"run while rows change: {process.returncode}")
    return run(world)


def empty_resource(world: World) -> str:
    name = world.rng.choice(["countries", "people", "stores"])
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


def tamper_files(world: World) -> str:
    """Somebody works at the published files."""
    mart = world.rng.choice(world.settings.marts)
    table = world.settings.tables[mart]
    folder, key = world.data / "lake" / table, MARTS[mart].key[0]
    sql = world.rng.choice([
        "", f"DELETE FROM {table} WHERE rowid < 2", f"DROP TABLE {table}",
        f"UPDATE {table} SET {key} = {key} WHERE rowid < 2", f"INSERT INTO {table} FROM {table}",
        f"ALTER TABLE {table} ADD COLUMN theirs INT", f"CREATE VIEW v AS FROM {table}",
    ])  # fmt: skip
    files = sorted(folder.glob("*"))
    if not sql and files:
        lost = world.rng.choice([folder, *files])
        _remove(lost)
        return f"lost {lost.relative_to(world.data)}"
    with duckdb.connect(str(world.data / "marts.duckdb")) as connection:
        try:
            connection.execute(sql)
        except duckdb.Error as error:
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
    name = world.rng.choice([mart for mart in EDITED if mart in world.settings.marts])
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    new = text.replace(", 1 AS one", "")
    if new == text:
        new = text.replace("\nFROM ", ", 1 AS one\nFROM ", 1)
    file.write_text(new, encoding="utf-8")
    return f"{name}: {'with' if len(new) > len(text) else 'without'} one"


def fail_audit(world: World) -> str:
    keys = {"events": "seq", "events_by_load": "seq", "prices": "product"}
    name = world.rng.choice([mart for mart in keys if mart in world.settings.marts])
    file = model_file(world.folder, name)
    text = file.read_text(encoding="utf-8")
    audit = f", audits (forall(criteria := ({keys[name]} < 0))));"
    file.write_text(text.replace(");\n", f"{audit}\n", 1), encoding="utf-8")
    world.api.change(10)
    code = world.etl("run", codes={3})
    file.write_text(text, encoding="utf-8")
    again = world.etl("retry", codes={0})
    world.check()
    return f"{name}: {code}, {again}"


def change_kind(world: World) -> str:
    if "events" in world.settings.without:
        return "no model"
    file = model_file(world.folder, "events")
    kinds = ["kind FULL", "kind VIEW", "kind INCREMENTAL_BY_UNIQUE_KEY (unique_key seq)"]
    text = file.read_text(encoding="utf-8")
    before = max((kind for kind in kinds if kind in text), key=len)
    now = world.rng.choice(kinds)
    file.write_text(text.replace(before, now), encoding="utf-8")
    return now


def change_mart(world: World) -> str:
    """A mart is deleted, or made again."""
    without = world.settings.without
    mart = _toggle(world, without, ["events", "prices", "rates"])
    if mart in without:
        model_file(world.folder, mart).unlink()
    else:
        write_model(world.folder, mart)
    return f"{mart}: {'deleted' if mart in without else 'made again'}"


def change_load(world: World) -> str:
    """Its strategy, its table, its columns."""
    mart, settings = world.rng.choice(sorted(MARTS)), world.settings
    settings.strategies[mart] = world.rng.choice(["replace", "merge", "append_once"])
    settings.tables[mart] = world.rng.choice([mart, mart, f"x_{mart}"])
    settings.columns ^= {mart} if world.rng.random() < 0.3 else set()
    world.configure()
    shown = "key" if mart in settings.columns else "all"
    return f"{mart}: {settings.strategies[mart]}, {settings.tables[mart]}, {shown}"


def change_targets(world: World) -> str:
    """One is removed, or added again."""
    away = TARGETS.keys() - world.settings.targets
    _toggle(world, away, sorted(TARGETS))
    world.settings.targets = TARGETS.keys() - away
    world.configure()
    return f"{sorted(world.settings.targets)}"


def change_resources(world: World) -> str:
    """A resource, region or source is read no more, or again."""
    unread = world.settings.unread
    _toggle(world, unread, ["a", "c", "details", "events", "orders", "people", "shop"])
    world.api.change(5)
    return f"without {sorted(unread)}: {_follow_hints(world)}"


def change_disposition(world: World) -> str:
    """Tables that cannot take it on where they stand are made anew."""
    name = world.rng.choice(sorted(DISPOSITIONS))
    world.settings.dispositions[name] = how = world.rng.choice(DISPOSITIONS[name])
    world.configure()
    world.api.change(5)
    return f"{name}: {how}: {_follow_hints(world)}"


def freeze(world: World) -> str:
    """A new field breaks the schema contract until somebody allows it."""
    settings = world.settings
    settings.contract = "freeze"
    world.configure()
    said = add_field(world)
    code = world.etl("run", codes={0, 10})
    settings.contract = "evolve"
    world.configure()
    return f"{said}: {code}, {run(world)}"


def approve(world: World) -> str:
    """A change of a model waits for a person."""
    run(world)
    settings = world.settings
    settings.approve = world.rng.choice(["manual", "additive"])
    world.configure()
    said = edit_model(world)
    world.api.change(5)
    codes = [world.etl("run", codes={0, 11})]
    if codes[0]:
        codes += [world.etl("plan", "--apply", codes={0}), world.etl("retry", codes={0})]
    world.check()
    said = f"{settings.approve}, {said}: {codes}"
    settings.approve = "auto"
    world.configure()
    return said


def part(world: World) -> str:
    """What a run was asked for is as the API has it."""
    world.api.change(5)
    resources, arguments = world.rng.choice([
        (SHOP, ("--source", "shop")),
        (ORDER.keys() - SHOP, ("--source", "api")),
        (SHOP, ("--full-refresh", "--source", "shop")),
        ({"prices"}, ("--select", "marts.dim_api__people", "--select", "marts.prices")),
        ({"people"}, ("--select", "staging.stg_api__people+")),
        ({"logs"}, ("--full-refresh", "--select", "staging.stg_shop__logs+")),
        (set(), ("--stage", "transform", "--full-refresh", "--select", "staging.stg_api__*")),
        (set(), ("--stage", "transform", "--start", "2026-01-01")),
        (set(), ("--environment", "dev", "--stage", "transform", "--stage", "audit")),
    ])  # fmt: skip
    code = world.etl("run", *arguments, codes={0, 2, 3, 12})
    if code == 0:
        world.check(resources)
    return f"{' '.join(arguments)}: {code}"


def ask(world: World) -> str:
    """Commands that only look."""
    arguments = world.rng.choice([
        ("status",), ("doctor",), ("lineage", "marts.events"), ("config", "show"), ("plan",),
        ("run", "--dry-run"), ("generate", "--check"), ("status", "--json"),
    ])  # fmt: skip
    code = world.etl(*arguments, codes={*range(15)} - {1})
    return f"{' '.join(arguments)}: {code}"


def remove(world: World) -> str:
    """What a run makes again by itself."""
    name = world.rng.choice(["marts.duckdb", "lake", "cache", "runs", "dlt"])
    if name in {"marts.duckdb", "lake"} and set(world.settings.strategies.values()) != {"replace"}:
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
        ("FSIZE", int(10 ** world.rng.uniform(3, 6))),
        ("AS", int(world.rng.uniform(0.9, 2.2) * 2**30)),
        ("NOFILE", world.rng.randrange(12, 60)),
    ])  # fmt: skip
    # DuckDB has no number for what it says of too many open files.
    codes = {0, 7, 14} if kind == "NOFILE" else {0, 14}
    code = world.etl("run", codes=codes, limit=partial(_limit, kind, size))
    return f"{kind} {size}: {code}"


# How often each of them happens.
ACTS: dict[Act, int] = {
    change: 10, run: 6, kill: 6, part: 5, run_out: 4, tamper: 4, add_field: 3, fail_api: 3,
    one_stage: 3, restore: 3, tamper_files: 3, change_load: 3, change_disposition: 3, terminate: 2,
    retype_field: 2, busy_api: 2, empty_resource: 2, disconnect: 2, fail_target: 2, edit_model: 2,
    fail_audit: 2, change_mart: 2, change_resources: 2, remove: 2, ask: 2, change_kind: 1,
    change_targets: 1, freeze: 1, approve: 1, lose: 1, two_at_once: 1, full_refresh: 1, retry: 1,
    plan: 1,
}  # fmt: skip


def _toggle(world: World, chosen: set[str], among: list[str]) -> str:
    """Add one, or take one away: rather that, or what is away would be ever more."""
    away = sorted(chosen) if world.rng.random() < 0.6 else []
    name = world.rng.choice(away or among)
    chosen ^= {name}
    world.configure()
    return name


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
