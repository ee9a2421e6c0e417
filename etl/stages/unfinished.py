"""Sources of which raw holds less than was extracted: no model may take that for their state."""

from __future__ import annotations

from loguru import logger

from etl.arrival import uncounted
from etl.backlog import half_loaded
from etl.errors import EtlError, ReconciliationError
from etl.runs import Run
from etl.settings import Settings


def hold_back_unfinished(settings: Settings, run: Run) -> list[EtlError]:
    """Sources of which raw holds part of a package, or was not seen to hold the whole of one.

    A killed run may have left some files of a package in raw: rows that a merge or a replace has
    taken out, and not yet their successors. Models would take that for the source's state. Counted
    as a failure of extract: that stage finishes the package first, also in `etl retry`.
    """
    found: list[EtlError] = []
    for source in sorted(settings.active_sources.keys() - run.failed_sources):
        packages = dict.fromkeys(half_loaded(settings, source), "is only partly in raw")
        packages |= dict.fromkeys(uncounted(settings, source), "was not yet found whole in raw")
        for load_id, state in packages.items():
            error = ReconciliationError(
                f"{source}: load package {load_id} of an earlier run {state}",
                subject=source,
                hint=f"etl run --stage extract --source {source} finishes and counts it first",
            )
            run.fail(error, "extract")
            logger.error(str(error))
            found.append(error)
    return found
