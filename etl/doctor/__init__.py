"""`etl doctor`: whether the job can run here, asked of all that it works with; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from etl.doctor import leftovers, places, sources
from etl.doctor.findings import Finding
from etl.settings import Settings

CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    places.check_models,
    places.check_data_dir,
    places.check_lock,
    places.check_warehouse,
    leftovers.check_packages,
    leftovers.check_drift,
    sources.check_sources,
    places.check_targets,
)


def examine(settings: Settings) -> list[Finding]:
    """All findings, good ones too. Each check answers for its own failures."""
    return [finding for check in CHECKS for finding in check(settings)]
