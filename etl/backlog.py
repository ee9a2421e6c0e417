"""What a source has on disk: packages that wait or are in quarantine, when it was read last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from etl.settings import Settings


def pending_packages(settings: Settings, source: str) -> list[str]:
    """Load packages that wait for their commit, as dlt keeps them in its working directory."""
    folder = settings.dlt_dir / source
    return sorted(
        {
            p.name
            for kind in ("normalize/extracted", "load/normalized")
            for p in (folder / kind).glob("*")
            if p.is_dir()
        }
    )


def half_loaded(settings: Settings, source: str) -> list[str]:
    """Load packages of which some files are in raw and others are not, as dlt's folders tell."""
    folder = settings.dlt_dir / source / "load" / "normalized"
    return sorted(
        package.name
        for package in folder.glob("*")
        if any(any((package / s).glob("*")) for s in ("started_jobs", "completed_jobs"))
    )


def quarantined_packages(settings: Settings, source: str) -> list[str]:
    """Load packages that could not be loaded and were moved out of the way."""
    return sorted(p.name for p in (settings.data / "quarantine" / source).glob("*"))


def last_commit(settings: Settings, source: str) -> datetime | None:
    """When a load package of the source was committed last; None before the first.

    dlt keeps the last few that it has loaded. An extraction that finds nothing new makes none. One
    that was loaded while the clock was ahead says nothing, and is kept until then.
    """
    loaded = (settings.dlt_dir / source / "load" / "loaded").glob("*")
    now = datetime.now(UTC)
    return max((at for at in map(changed_at, loaded) if at and at <= now), default=None)


def last_read(settings: Settings, source: str) -> datetime | None:
    """When an extraction of the source came to its end last, with rows or without."""
    return changed_at(settings.dlt_dir / source / "last.json")


def changed_at(path: Path) -> datetime | None:
    """When a file was written last; None when there is none."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
