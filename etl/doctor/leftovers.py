"""What earlier runs left: packages that wait, packages that can never be loaded, told drift."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from etl.doctor.findings import Finding
from etl.errors import EtlError
from etl.lock import is_locked
from etl.settings import Settings
from etl.status import read_status


def check_packages(settings: Settings) -> Iterator[Finding]:
    """Load packages of each source, and whether what it brought last is too old."""
    for source in read_status(settings, runs=1)["sources"]:
        name = source["name"]
        pending, poison = source["pending_packages"], source["quarantined_packages"]
        uncounted = source["uncounted_packages"]
        warn = partial(Finding, "packages", name, "warning")
        if poison:
            yield warn(
                f"{len(poison)} in quarantine: {', '.join(poison[:3])}; their rows are not in raw",
                f"see docs/operations.md; delete {settings.data / 'quarantine' / name} when done",
            )
        if pending:
            yield warn(
                f"{len(pending)} wait for their commit: {', '.join(pending[:3])}",
                "the next run commits them first",
            )
        if uncounted:
            yield warn(
                f"{', '.join(uncounted)} was not found whole in raw; its models wait",
                f"run `etl run --stage extract --source {name}`, which counts it again",
            )
        if source["stale"] and source["last_extracted_at"]:
            yield warn(
                f"the newest is {source['age_hours']:g} hours old, more than "
                f"{source['max_age_hours']:g}",
                "run the extract stage",
            )
        if not (pending or poison or uncounted):
            yield Finding("packages", name, "ok", "none left behind")


def check_drift(settings: Settings) -> Iterator[Finding]:
    """How raw tables changed since the models were last edited, as runs told it."""
    if is_locked(settings) or not settings.warehouse.exists():
        return
    from etl.stages.drift import read_drift

    try:
        found = read_drift(settings)
    except EtlError:
        return  # told of the warehouse already
    for source, change in found:
        yield Finding("drift", source, "warning", str(change), "etl plan says what it touches")
    if not found:
        yield Finding("drift", "", "ok", "raw tables are as the models expect them")
