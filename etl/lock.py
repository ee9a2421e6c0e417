"""The job's one lock: held for a whole run, with a note of who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from etl.errors import LockedError, ResourcesError
from etl.runs import utc_now, write_atomically
from etl.settings import Settings

# Who asks whether the lock is held takes it for a moment: so long a run tries at least.
ASKED_SECONDS = 1.0


@contextmanager
def hold_lock(settings: Settings, wait: float) -> Iterator[Callable[[str], None]]:
    """The job's one lock, held for the whole run. The kernel frees it when its holder dies.

    Yields a function that notes which run holds it, for those who find it held.

    Raises:
        LockedError: another run holds it after `wait` seconds, one at least; says who, since when.
        ResourcesError: the lock file cannot be written.
    """
    import filelock

    path = settings.data / "etl.lock"
    holder = settings.data / "etl.lock.json"
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=max(wait, ASKED_SECONDS))
        lock.acquire(poll_interval=0.05)
    except filelock.Timeout:
        who = lock_holder(settings)
        text = (
            f"{name_holder(who)} holds it since {who.get('since')}"
            if who
            else "its holder has not written its name yet"
        )
        raise LockedError(
            f"another run holds the lock of job `{settings.job}`: {text}",
            subject=str(path),
            hint="wait for it, or let this one wait with --wait-lock SECONDS",
        ) from None
    except OSError as e:
        raise ResourcesError(
            f"cannot lock {path}: {e.strerror}",
            hint="`data_dir` has to be a writable folder with free space, on a file system "
            "that has locks",
        ) from e
    me: dict[str, Any] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": utc_now().isoformat(timespec="seconds"),
    }

    def note(run_id: str) -> None:
        write_atomically(holder, json.dumps(me | {"run_id": run_id}))

    try:
        note("")
        yield note
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def lock_holder(settings: Settings) -> dict[str, Any]:
    """Who wrote the lock's note: run_id, pid, host, since; empty when nobody did."""
    try:
        note = json.loads((settings.data / "etl.lock.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def name_holder(note: dict[str, Any]) -> str:
    """The lock's note in words."""
    return f"run {note.get('run_id') or '?'} (pid {note.get('pid')} on {note.get('host')})"


def is_locked(settings: Settings) -> bool:
    """True while a run holds the lock.

    The kernel is asked, by taking the lock for a moment: the note of a run that was killed stays,
    and its process and host may be of a container that is gone, or of the one that asks.
    """
    import filelock

    path = settings.data / "etl.lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # it may not be written
        return bool(lock_holder(settings))
