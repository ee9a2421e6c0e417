"""What fails in one part of a stage while the others go on: each failure gets class and subject."""

from __future__ import annotations

from loguru import logger

from etl.duckdb_failures import classify_machine
from etl.errors import EtlError
from etl.stages.context import RunContext


def contained(ctx: RunContext, error: BaseException, subject: str) -> EtlError:
    """The failure of `subject` with a class; what nobody classified is in the log, as a bug.

    Raises:
        Stopped: the run was asked to stop. DuckDB turns what a signal's handler raises into an
            error of its own.
    """
    ctx.stop.check()
    if isinstance(error, EtlError):
        found = error
    else:
        logger.opt(exception=error).debug("unexpected")
        found = classify_machine(error, ctx.settings.data) or EtlError(
            f"{type(error).__name__}: {error}"[:1000],
            hint=f"a failure without a class is a bug: please report it with {ctx.run.folder}",
        )
        found.__cause__ = error
    if not found.subject:
        found.subject = subject
    return found
