"""The runs of the past, as their folders tell them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from etl.errors import ConfigError
from etl.names import nearest
from etl.records import RunRecord
from etl.runs import utc_now
from etl.settings import Settings


def past_runs(settings: Settings) -> Iterator[RunRecord]:
    """Records of earlier runs, newest first, each read when it is asked for.

    Unreadable ones are left out.
    """
    for folder in reversed(_folders(settings)):
        record = _read(folder)
        if record is not None:
            yield record


def _folders(settings: Settings) -> list[Path]:
    """The runs' folders, oldest first; one of the future was made while the clock was ahead."""
    now = f"{utc_now():%Y%m%dT%H%M%SZ}"
    found = (p for p in settings.runs.glob("*T*Z-*") if p.is_dir())
    return sorted(found, key=lambda p: (p.name[: len(now)] <= now, p.name))


def _read(folder: Path) -> RunRecord | None:
    try:
        text = (folder / "run.json").read_text(encoding="utf-8")
        # After a rollback there are records of a later version, which may have added fields.
        return RunRecord.model_validate_json(text, extra="ignore")
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def find_run(settings: Settings, run_id: str) -> RunRecord:
    """The record of a run by its id, or of the `latest`.

    Raises:
        ConfigError: there is no such run, or its record cannot be read.
    """
    known = [p.name for p in _folders(settings)]
    if run_id == "latest" and not known:
        raise ConfigError("there is no run yet", hint="etl run")
    if run_id not in {"latest", *known}:
        raise ConfigError(
            f"there is no run {run_id}", hint=nearest(run_id, known) or "`etl status` lists them"
        )
    if run_id == "latest" and not (settings.runs / run_id).exists():
        run_id = known[-1]
    record = _read(settings.runs / run_id)
    if record is None:
        raise ConfigError(
            f"{settings.runs / run_id / 'run.json'} cannot be read", hint="`etl status` lists runs"
        )
    return record


def last_failed(settings: Settings) -> RunRecord:
    """The newest run, if it failed or died.

    Raises:
        ConfigError: there is none, its record cannot be read, it ended well, or it had another
            profile.
    """
    # Not by the ids, which sort by time: the clock may have been moved back since.
    folder = settings.runs / "latest"
    latest = _read(folder)
    if latest is None and folder.exists():
        raise ConfigError(
            f"the record of the last run, {folder.resolve() / 'run.json'}, cannot be read",
            hint="etl run",
        )
    newest = latest or next(past_runs(settings), None)
    if newest is None:
        raise ConfigError("there is no run to retry", hint="etl run")
    if newest.exit_code == 0:
        raise ConfigError(
            f"nothing to retry: the last run {newest.run_id} ended with 0", hint="etl run"
        )
    if newest.profile != settings.profile:
        # Its stages that are done would not be run again, and another target not be loaded.
        option = "" if newest.profile == "default" else f" --profile {newest.profile}"
        raise ConfigError(
            f"the last run {newest.run_id} had profile {newest.profile}, "
            f"this one has {settings.profile}",
            hint=f"etl retry{option}",
        )
    return newest


def drop_old_runs(settings: Settings, present: str) -> None:
    """Keep the newest `log.retention` runs on disk, and the present one whatever the clock says."""
    for folder in _folders(settings)[: -settings.log.retention]:
        if folder.name == present:
            continue
        shutil.rmtree(folder, ignore_errors=True)
