"""The job's places: its models, its disk, its lock, the warehouse, SQLMesh's state, targets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from etl.doctor.findings import Finding, ask
from etl.errors import ExitCode, ResourcesError
from etl.lock import is_locked, lock_holder, name_holder
from etl.records import Options
from etl.runs import utc_now
from etl.settings import Settings

# Below this much free space a run may still go well, and the next one may not.
LOW_DISK_BYTES = 1 << 30
_GIB = 1 << 30


def check_models(settings: Settings) -> Iterator[Finding]:
    """Is the folder of the models there, when loads name some?"""
    from etl.stages.scope import check_options

    def look() -> str:
        check_options(settings, Options(), utc_now())
        return f"{settings.sqlmesh_dir}"

    if settings.loads:
        yield ask("models", "", look)


def check_data_dir(settings: Settings) -> Iterator[Finding]:
    """Can files be written where the job's are, and is there room?"""
    folder = _existing(settings.data)
    finding = ask("disk", "", lambda: _try_to_write_all(settings, folder))
    free = shutil.disk_usage(folder).free
    if finding.code is ExitCode.OK and free < LOW_DISK_BYTES:
        finding = Finding(
            "disk", "", "warning", f"{folder}: only {free / _GIB:.2f} GiB are free",
            "a full disk ends a run with 14; free some space",
        )  # fmt: skip
    yield finding


def check_lock(settings: Settings) -> Iterator[Finding]:
    """Is another run at work?"""
    if not is_locked(settings):
        yield Finding("lock", "", "ok", "free")
        return
    who = lock_holder(settings)
    yield Finding(
        "lock", "", "failed",
        f"{name_holder(who)} holds it since {who.get('since')}",
        "wait for it, or start with --wait-lock SECONDS", code=ExitCode.LOCKED,
    )  # fmt: skip


def check_warehouse(settings: Settings) -> Iterator[Finding]:
    """Can the job's own database files be read, and are they not of a later time?"""
    for area, path in (("warehouse", settings.warehouse), ("state", settings.state)):
        if not path.exists() and area == "warehouse" and settings.state.exists():
            yield Finding(
                area, "", "failed", f"{path} is gone, and {settings.state.name} is not",
                f"restore both from one backup, or move {settings.state.name} away: the next run "
                "then reads and builds everything anew",
                code=ExitCode.TRANSFORM,
            )  # fmt: skip
        elif not path.exists():
            yield Finding(area, "", "ok", f"{path} is not made yet")
        elif is_locked(settings):
            yield Finding(area, "", "ok", f"{path} is in use by the run that holds the lock")
        else:
            yield ask(area, "", partial(_open, path, is_warehouse=area == "warehouse"))


def check_targets(settings: Settings) -> Iterator[Finding]:
    """Can every target that a load names be written to, or logged in to?"""
    from etl.targets import log_in

    used = {load.target for load in settings.loads}
    for name, target in settings.targets.items():
        path = settings.target_path(target)
        if name not in used:
            yield Finding("target", name, "ok", "no load goes there")
        elif path is not None:
            yield ask("target", name, partial(_try_to_make, path, name, target.kind))
        else:
            yield ask("target", name, partial(log_in, settings, name))


def _open(path: Path, *, is_warehouse: bool) -> str:
    from etl.duckdb_failures import refuse_foreign
    from etl.packages import refuse_slow_clock
    from etl.warehouse import connect, refuse_other_name

    if is_warehouse:
        refuse_other_name(path)
    if (foreign := refuse_foreign(path, os.R_OK | os.W_OK)) is not None:
        raise foreign
    with connect(path, read_only=True) as connection:
        refuse_slow_clock(connection, utc_now())
    return f"{path}, {path.stat().st_size / (1 << 20):,.1f} MiB"


def _try_to_write(folder: Path) -> str:
    from etl.duckdb_failures import can_write

    if not can_write(folder):
        raise ResourcesError(
            f"{folder}: the disk is full, or files may not be written there",
            hint="free disk space or make the folder writable",
        )
    return f"{folder} is writable, {shutil.disk_usage(folder).free / _GIB:,.1f} GiB free"


def _try_to_write_all(settings: Settings, folder: Path) -> str:
    """The folder, and what a run writes below it: another user may have run the job once."""
    from etl.duckdb_failures import refuse_foreign

    said = _try_to_write(folder)
    below = [settings.dlt_dir, *(settings.data / name for name in ("cache", "quarantine"))]
    folders = [Path(found) for top in below for found, _, _ in os.walk(top)]
    for place in (settings.data / "etl.lock", settings.runs, *folders):
        if (foreign := refuse_foreign(place, os.W_OK)) is not None:
            raise foreign
    return said


def _try_to_make(path: Path, target: str, kind: str) -> str:
    from etl.targets.files import refuse_other_kind

    refuse_other_kind(path, target, folder=kind == "parquet")
    return _try_to_write(_existing(path if kind == "parquet" else path.parent))


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there already."""
    return next(p for p in (folder, *folder.parents) if p.is_dir())
