"""Runs the stages in order: retries of what may pass, containment, and each stage's record."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from importlib import import_module

import tenacity
from loguru import logger

from etl.errors import ANY_FAILURE, EtlError, StageError, Stopped
from etl.logs import stage_context
from etl.names import STAGE_NAMES, StageName
from etl.packages import refuse_lost_packages, refuse_slow_clock
from etl.records import Failure, Stage, StageStatus
from etl.runs import utc_now
from etl.stages.containment import contained
from etl.stages.context import RunContext
from etl.warehouse import connect, look_into

StageFunction = Callable[[RunContext], None]


def load_stage(name: StageName) -> StageFunction:
    """The function of a stage: `etl.stages.<name>.<name>`.

    Imported when it is needed: dlt costs a second, SQLMesh two.
    """
    function: StageFunction = getattr(import_module(f"etl.stages.{name}"), name)
    return function


def run_stages(ctx: RunContext) -> None:
    """Run the stages that the options name, in pipeline order, and record each.

    Raises:
        Stopped: the run was asked to stop.
    """
    done = {s.name for s in ctx.run.stages}
    blocked = False
    for name in STAGE_NAMES:
        if name not in ctx.options.stages or name in done:
            continue
        if blocked:
            ctx.run.stages.append(Stage(name=name, status="skipped", attempts=0, seconds=0))
            continue
        ctx.progress.stage(name)
        with stage_context(name):
            blocked = _run_stage(ctx, name)
        if not ctx.options.dry_run:
            ctx.run.save()


def _run_stage(ctx: RunContext, name: StageName) -> bool:
    """Run one stage with its retries; True when nothing after it can go on."""
    logger.info(f"{name} starts")
    started, started_at = time.monotonic(), utc_now()
    before = len(ctx.run.failures)
    attempts = 0

    def note(status: StageStatus) -> None:
        ctx.run.stages.append(
            Stage(
                name=name,
                status=status,
                attempts=attempts,
                seconds=round(time.monotonic() - started, 3),
                started_at=started_at,
                finished_at=utc_now(),
            )
        )

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        ctx.stop.check()
        function = load_stage(name)
        if ctx.options.dry_run:
            with look_into(ctx.settings.warehouse) as connection:
                refuse_slow_clock(connection, utc_now())
            function(ctx)
            return
        ctx.warehouse.open()
        try:
            with connect(ctx.settings.warehouse) as connection:
                refuse_slow_clock(connection, utc_now())
                if ctx.run.attempt > 1:  # somebody may have restored or removed the warehouse since
                    brought = {s.source: s.load_ids for s in ctx.run.sources}
                    refuse_lost_packages(connection, brought)
            function(ctx)
        except BaseException:
            ctx.warehouse.close()  # a fatal error (a full disk) spoils it until it is closed
            raise

    status: StageStatus = "ok"
    blocked = False
    try:
        _retrying(ctx, name)(attempt)
    except Stopped:
        note("stopped")
        raise
    except ANY_FAILURE as e:  # the boundary: whatever happened, it is in the record
        if ctx.stop.code is not None:
            # DuckDB turns what a signal's handler raises into an error of its own.
            note("stopped")
            ctx.stop.check()
        status, blocked = _note_failure(ctx, name, e)
    tell_failures(ctx.run.failures[before:])
    if ctx.options.dry_run and status == "ok":
        status = "dry_run"
    note(status)
    logger.bind(status=status, seconds=round(time.monotonic() - started, 3)).info(f"{name} ended")
    return blocked


def tell_failures(failures: list[Failure]) -> None:
    """Log failures, a line each."""
    for failure in failures:
        logger.bind(
            exit_code=failure.exit_code,
            exit_name=failure.exit_name,
            subject=failure.subject,
            hint=failure.hint,
        ).error(failure.message)


def _note_failure(
    ctx: RunContext, name: StageName, error: BaseException
) -> tuple[StageStatus, bool]:
    """Record what a stage raised; returns its status and whether it blocks what follows."""
    if isinstance(error, StageError):
        for failure in error.failures:
            ctx.run.fail(failure, name)
        nothing_came = name == "extract" and not ctx.done_sources
        return ("failed" if nothing_came else "partial"), False
    if not isinstance(error, EtlError):
        error = contained(ctx, error, name)
    ctx.run.fail(error, name)
    return "failed", True


def _retrying(ctx: RunContext, name: str) -> tenacity.Retrying:
    """Retries of a stage for failures that may pass; bounded in count and in time."""
    retry = ctx.settings.retry

    def note(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        logger.bind(cause=str(error), attempt=state.attempt_number, wait_s=round(pause, 2)).warning(
            f"{name} is tried again"
        )

    def pause(state: tenacity.RetryCallState) -> float:
        longest = retry.first_wait_seconds * 2.0 ** (state.attempt_number - 1)
        return min(retry.max_wait_seconds, longest) * random.uniform(0.5, 1.0)  # noqa: S311

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(1 if ctx.options.dry_run else retry.attempts),
            tenacity.stop_before_delay(retry.max_total_seconds),
        ),
        wait=pause,
        sleep=ctx.stop.wait,
        before_sleep=note,
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, StageError):
        return any(f.code.retryable for f in error.failures)
    return isinstance(error, EtlError) and error.code.retryable
