"""All that happens to a job in the course of time, each act with the codes that it may end with."""

from __future__ import annotations

from collections.abc import Callable

from tests.soak.faults import (
    busy_api,
    disconnect,
    empty_resource,
    fail_api,
    fail_target,
    kill,
    lose,
    remove,
    restore,
    run_out,
    tamper,
    tamper_files,
    terminate,
)  # fmt: skip
from tests.soak.owner import (
    approve,
    ask,
    change_disposition,
    change_load,
    change_mart,
    change_resources,
    change_targets,
    edit_model,
    fail_audit,
    freeze,
    part,
)  # fmt: skip
from tests.soak.promise import BrokenError
from tests.soak.world import World

Act = Callable[[World], str]


def run(world: World) -> str:
    """Nothing is in its way, whatever happened before."""
    return str(world.run())


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


def one_stage(world: World) -> str:
    stage = world.rng.choice(["extract", "transform", "audit", "load"])
    # Marts that wait for an audit are not loaded; raw that is ahead is told.
    return f"{stage}: {world.etl('run', '--stage', stage, codes={0, 3, 12})}"


def full_refresh(world: World) -> str:
    return str(world.etl("run", "--full-refresh", codes={0}))


def retry(world: World) -> str:
    # There may be nothing that failed.
    return str(world.etl("retry", codes={0, 2}))


# How often each of them happens.
ACTS: dict[Act, int] = {
    change: 10, run: 6, kill: 6, part: 5, run_out: 4, tamper: 4, add_field: 3, fail_api: 3,
    one_stage: 3, restore: 3, tamper_files: 3, change_load: 3, change_disposition: 3, terminate: 2,
    retype_field: 2, busy_api: 2, empty_resource: 2, disconnect: 2, fail_target: 2, edit_model: 3,
    fail_audit: 2, change_mart: 2, change_resources: 2, remove: 2, ask: 2,
    change_targets: 1, freeze: 1, approve: 1, lose: 1, two_at_once: 1, full_refresh: 1, retry: 1,
}  # fmt: skip
