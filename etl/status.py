"""`etl status`: last runs, freshness, pending packages and the lock, read from files alone."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from etl.arrival import uncounted
from etl.backlog import changed_at, last_commit, last_read, pending_packages, quarantined_packages
from etl.lock import is_locked, lock_holder, name_holder
from etl.past_runs import past_runs
from etl.records import RunRecord
from etl.settings import Settings


def read_status(settings: Settings, runs: int = 10) -> dict[str, Any]:
    """Everything that can be known without opening the warehouse: a run may hold it now."""
    locked = is_locked(settings)
    records = list(islice(past_runs(settings), runs))
    return {
        "job": settings.job,
        "profile": settings.profile,
        "data_dir": str(settings.data),
        "lock": {"held": locked, **(lock_holder(settings) if locked else {})},
        "runs": [_run(r, locked) for r in records],
        "sources": [_source(settings, name, records) for name in settings.active_sources],
        "targets": [
            _target(name, target.kind, settings.target_path(target))
            for name, target in settings.targets.items()
        ],
    }


def _run(record: RunRecord, locked: bool) -> dict[str, Any]:
    killed = record.status == "running" and not locked
    return {
        "run_id": record.run_id,
        "started_at": record.started_at.isoformat(timespec="seconds"),
        "seconds": round(record.seconds, 1) if record.seconds is not None else None,
        "status": "killed" if killed else record.status,
        "exit_code": record.exit_code,
        "exit_name": record.exit_name,
        "partial": record.partial,
        "environment": record.environment,
        "rows": sum(s.rows for s in record.sources),
        "failures": [f.message for f in record.failures],
    }


def _target(name: str, kind: str, path: Path | None) -> dict[str, Any]:
    """A server is not asked: the status needs files alone."""
    changed = changed_at(path) if path else None
    return {
        "name": name,
        "kind": kind,
        "path": str(path) if path else None,
        "updated_at": changed.isoformat(timespec="seconds") if changed else None,
    }


def _source(settings: Settings, name: str, records: list[RunRecord]) -> dict[str, Any]:
    """Its age is that of its newest rows, as the audit of its freshness sees it."""
    limit = settings.sources[name].freshness
    # What the working directory knows; without one, what the listed runs tell.
    runs = [
        (r.finished_at, [s for s in r.sources if s.source == name])
        for r in records
        if r.finished_at
    ]
    last = last_commit(settings, name) or next(
        (end for end, found in runs if any(s.load_ids for s in found)), None
    )
    read = last_read(settings, name) or next((end for end, found in runs if found), None)
    age = (datetime.now(UTC) - last).total_seconds() / 3600 if last else None
    return {
        "name": name,
        "last_read_at": read.isoformat(timespec="seconds") if read else None,
        "last_extracted_at": last.isoformat(timespec="seconds") if last else None,
        "age_hours": round(age, 2) if age is not None else None,
        "max_age_hours": limit,
        "stale": limit is not None and (age is None or age > limit),
        "pending_packages": pending_packages(settings, name),
        "uncounted_packages": uncounted(settings, name),
        "quarantined_packages": quarantined_packages(settings, name),
    }


def show_status(status: dict[str, Any]) -> str:
    """The status as lines for a terminal."""
    lock = status["lock"]
    lines = [f"job {status['job']} (profile {status['profile']}), data in {status['data_dir']}"]
    held = f"{name_holder(lock)} since {lock.get('since')}"
    lines.append(f"lock: {held if lock['held'] else 'free'}")
    for s in status["sources"]:
        line = f"source {s['name']}: last read {s['last_read_at'] or 'never'}"
        line += f", newest package committed {s['last_extracted_at'] or 'never'}"
        if s["stale"]:
            line += f" (older than {s['max_age_hours']:g} hours)"
        if s["pending_packages"]:
            line += f", {len(s['pending_packages'])} pending packages"
        if s["uncounted_packages"]:
            line += f", {len(s['uncounted_packages'])} packages not found whole in raw"
        if s["quarantined_packages"]:
            line += f", {len(s['quarantined_packages'])} quarantined packages"
        lines.append(line)
    lines += [
        f"target {t['name']}: {t['path']}, {t['updated_at'] or 'not yet written'}"
        if t["path"]
        else f"target {t['name']}: {t['kind']}, a server"
        for t in status["targets"]
    ]
    lines.append("runs:" if status["runs"] else "runs: none yet (etl run)")
    for r in status["runs"]:
        code = "" if r["exit_code"] is None else f" {r['exit_code']} {r['exit_name']}"
        rows = f", {r['rows']:,} rows" if r["rows"] else ""
        took = f", {r['seconds']} s" if r["seconds"] is not None else ""
        lines.append(f"  {r['started_at']}  {r['run_id']}  {r['status']}{code}{rows}{took}")
        lines += [f"      {message}" for message in r["failures"]]
    return "\n".join(lines) + "\n"
