"""Runs the stages in order: lock, deadline, retries, containment, run record, history."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import tenacity
from loguru import logger

from etl.errors import ConfigError, EtlError, ExitCode, StageFailures, Stopped, classify_os_error
from etl.logs import stage_context, start_logs
from etl.progress import Progress
from etl.records import STAGE_NAMES, Failure, Options, RunRecord, Stage, StageName
from etl.runs import (
    Run,
    drop_old_runs,
    hold_lock,
    open_run,
    reopen_run,
    utc_now,
)
from etl.secrets import redactor
from etl.settings import Settings, Source
from etl.stages.context import RunContext
from etl.stop import Stop, stopping

StageFunction = Callable[[RunContext], None]

# The API that the demo replays; a source that was pointed elsewhere is left as it is.
REPLAYED_HOST = "public.api.bsky.app"


def run_job(
    settings: Settings,
    options: Options,
    *,
    wait_lock: float = 0.0,
    resume: Callable[[Settings], RunRecord] | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> RunRecord:
    """One run from lock to record; every failure is in the record, none is raised.

    `resume` names the run to take up again (under the lock, so that it is still the last one).

    Raises:
        ConfigError, LockedError, ResourcesError: there is no run, and so no record.
    """
    check_options(settings, options)
    redact = redactor(settings)
    with ExitStack() as stack:
        note: Callable[[str], None] | None = None
        if not options.dry_run or settings.data.is_dir():
            note = stack.enter_context(hold_lock(settings, wait_lock))
        if resume is not None:
            last = resume(settings)
            check_options(settings, last.options)
            run = reopen_run(settings, last, redact)
            done = {s.source for s in last.sources} - {
                f.subject.split(".")[0] for f in last.failures if f.stage == "extract"
            }
            if "extract" not in {s.name for s in run.stages}:
                run.sources = [s for s in last.sources if s.source in done]
        elif options.dry_run:
            run, done = Run(settings, options, "dry-run", clock(), redact=redact), set()
        else:
            run, done = open_run(settings, options, redact, clock()), set()
        if note is not None:
            note(run.run_id)
        return _run(settings, run, done, clock)


def check_options(settings: Settings, options: Options) -> None:
    """What can be known to be wrong before anything starts.

    Raises:
        ConfigError: unknown source, no source to read, an interval that is none.
    """
    for name in options.sources:
        if name not in settings.active_sources:
            known = ", ".join(sorted(settings.active_sources)) or "none"
            raise ConfigError(f"--source {name}: no such source", hint=f"sources: {known}")
    if "extract" in options.stages and not settings.active_sources:
        raise ConfigError("the configuration names no source", hint="sources: in config/etl.yaml")
    bounds = []
    for option, text in (("--start", options.start), ("--end", options.end)):
        if text is not None:
            try:
                bounds.append(datetime.fromisoformat(text).replace(tzinfo=None))
            except ValueError:
                raise ConfigError(
                    f"{option} {text}: is no date", hint="write 2026-01-31 or 2026-01-31T12:00"
                ) from None
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        raise ConfigError(f"--start {options.start} lies after --end {options.end}")


def _run(settings: Settings, run: Run, done: set[str], clock: Callable[[], datetime]) -> RunRecord:
    dry = run.options.dry_run
    stop = Stop()
    stop_logs = start_logs(
        settings, folder=None if dry else run.folder, run_id=run.run_id, redact=run.redact
    )
    finished = False

    def finish() -> RunRecord:
        nonlocal finished
        finished = True
        return run.record(clock()) if dry else run.save(clock())

    def last_words(code: ExitCode) -> None:
        """A library holds the main thread: write the record without it."""
        if not finished:
            run.fail(_stopped(code, settings))
            finish()
        stop_logs()

    try:
        with stopping(stop, settings.timeout, last_words):
            try:
                if not dry:
                    run.save()
                with Progress() as progress, _served(settings) as served:
                    ctx = RunContext(served, run.options, run, stop, progress, done_sources=done)
                    try:
                        _run_stages(ctx, clock)
                    finally:
                        ctx.close()
            except Stopped as e:
                run.fail(_stopped(e.code, settings))
                _tell_failures(run.failures[-1:])
            record = finish()
            if not dry:
                _keep_history(settings, record)
                drop_old_runs(settings)
            _tell_end(record)
        return record
    finally:
        stop_logs()


def _stopped(code: ExitCode, settings: Settings) -> EtlError:
    error = EtlError(
        f"the run's deadline of {settings.timeout:g} s passed"
        if code == ExitCode.TIMEOUT and settings.timeout
        else code.meaning,
        hint="`etl retry` goes on where it stopped; `etl run` starts anew; both are safe",
    )
    error.code = code
    return error


@contextmanager
def _served(settings: Settings) -> Iterator[Settings]:
    """The settings; in the demo with the replay running and the Bluesky source pointed at it."""
    if not settings.demo:
        yield settings
        return
    from etl.demo import Replay

    with Replay(date=settings.snapshot_date()) as replay:
        sources = {n: _replayed(s, replay.base_url) for n, s in settings.sources.items()}
        yield settings.model_copy(update={"sources": sources})


def _replayed(source: Source, url: str) -> Source:
    if source.client is None or REPLAYED_HOST not in str(source.client.get("base_url")):
        return source
    return source.model_copy(update={"client": source.client | {"base_url": url}})


def _stage_functions() -> dict[StageName, Callable[[], StageFunction]]:
    def load_extract() -> StageFunction:
        from etl.stages.extract import extract

        return extract

    def load_transform() -> StageFunction:
        from etl.stages.transform import transform

        return transform

    def load_audit() -> StageFunction:
        from etl.stages.audit import audit

        return audit

    def load_load() -> StageFunction:
        from etl.stages.load import load

        return load

    # Each imports its libraries when it is needed: dlt costs a second, SQLMesh two.
    return {
        "extract": load_extract,
        "transform": load_transform,
        "audit": load_audit,
        "load": load_load,
    }


def _run_stages(ctx: RunContext, clock: Callable[[], datetime]) -> None:
    done = {s.name for s in ctx.run.stages}
    functions = _stage_functions()
    blocked = False
    for name in STAGE_NAMES:
        if name not in ctx.options.stages or name in done:
            continue
        if blocked:
            ctx.run.stages.append(Stage(name=name, status="skipped", attempts=0, seconds=0))
            continue
        ctx.progress.stage(name)
        with stage_context(name):
            blocked = _run_stage(ctx, name, functions[name])
        if not ctx.options.dry_run:
            ctx.run.save()


def _run_stage(ctx: RunContext, name: StageName, load: Callable[[], StageFunction]) -> bool:
    """Run one stage with its retries; True when nothing after it can go on."""
    logger.info(f"{name} starts")
    started = time.monotonic()
    before = len(ctx.run.failures)
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        ctx.stop.check()
        load()(ctx)

    status, blocked = "ok", False
    try:
        _retrying(ctx, name)(attempt)
    except Stopped:
        ctx.run.stages.append(_stage(name, "stopped", attempts, started))
        raise
    except StageFailures as e:
        for contained in e.failures:
            ctx.run.fail(contained, name)
        blocked = name == "extract" and not ctx.done_sources
        status = "failed" if blocked else "partial"
    except EtlError as e:
        ctx.run.fail(e, name)
        status, blocked = "failed", True
    except Exception as e:  # noqa: BLE001 - the boundary: whatever happened, it is in the record
        error = classify_os_error(e) or EtlError(
            f"{type(e).__name__}: {e}"[:1000],
            subject=name,
            hint=f"a failure without a class is a bug: please report it with {ctx.run.folder}",
        )
        error.__cause__ = e
        logger.opt(exception=e).debug("unexpected")
        ctx.run.fail(error, name)
        status, blocked = "failed", True
    _tell_failures(ctx.run.failures[before:])
    if ctx.options.dry_run and status == "ok":
        status = "dry_run"
    ctx.run.stages.append(_stage(name, status, attempts, started))
    logger.bind(status=status, seconds=round(time.monotonic() - started, 3)).info(f"{name} ended")
    return blocked


def _tell_failures(failures: list[Failure]) -> None:
    for failure in failures:
        logger.bind(
            exit_code=failure.exit_code,
            exit_name=failure.exit_name,
            subject=failure.subject,
            hint=failure.hint,
        ).error(failure.message)


def _stage(name: StageName, status: str, attempts: int, started: float) -> Stage:
    return Stage.model_validate(
        {
            "name": name,
            "status": status,
            "attempts": attempts,
            "seconds": round(time.monotonic() - started, 3),
        }
    )


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
    if isinstance(error, StageFailures):
        return any(f.code.retryable for f in error.failures)
    return isinstance(error, EtlError) and error.code.retryable


def _keep_history(settings: Settings, record: RunRecord) -> None:
    """Add the record to the warehouse; a warehouse that cannot be opened is told, not fatal."""
    import duckdb

    from etl.history import write_history
    from etl.warehouse import connect

    try:
        with connect(settings.warehouse) as connection:
            write_history(connection, record)
    except (EtlError, duckdb.Error, OSError) as e:
        logger.warning(f"the run was not added to the history in the warehouse: {e}")


def _tell_end(record: RunRecord) -> None:
    level = "INFO" if record.exit_code == 0 else "ERROR"
    logger.bind(
        exit_code=record.exit_code,
        exit_name=record.exit_name,
        partial=record.partial,
        seconds=round((record.finished_at or record.started_at).timestamp()
                      - record.started_at.timestamp(), 3),
    ).log(level, "run finished")  # fmt: skip
