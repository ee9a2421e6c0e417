"""One run from lock to record: logs, deadline, signals, the stages, history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

from etl.errors import ConfigError, EtlError, ExitCode, ResourcesError, Stopped
from etl.lock import hold_lock
from etl.logs import is_readable, start_logs
from etl.progress import Progress
from etl.records import Options, RunRecord
from etl.runs import Run, drop_old_runs, extracted_sources, open_run, reopen_run, utc_now
from etl.secrets import redactor
from etl.settings import Settings, Source
from etl.stages.context import RunContext
from etl.stages.sequence import run_stages, tell_failures
from etl.stop import Stop, stopping
from etl.warehouse import KeptOpen

# The APIs that the demo replays; a source that was pointed elsewhere is left as it is.
REPLAYED_HOST = "public.api.bsky.app"
SHOP_HOST = "api.shop.example"
MARKET_HOST = "query2.finance.yahoo.com"


def run_job(
    settings: Settings,
    options: Options,
    *,
    wait_lock: float = 0.0,
    resume: Callable[[Settings], RunRecord] | None = None,
    clock: Callable[[], datetime] = utc_now,
    at_end: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """One run from lock to record; every failure is in the record, none is raised.

    `resume` names the run to take up again (under the lock, so that it is still the last one).
    `at_end` is given the record as soon as it is final, also when a library holds the main thread.

    Raises:
        ConfigError, LockedError, ResourcesError, Stopped: there is no run, and so no record.
    """
    redact = redactor(settings)
    started: list[_Lifecycle] = []

    def last_words(code: ExitCode) -> None:
        for life in started:
            life.end(code)

    stop = Stop()
    with stopping(stop, last_words), ExitStack() as stack:
        stack.enter_context(_refusals_told(settings, options, started, redact))
        check_options(settings, options, clock())
        note = None
        if not options.dry_run or settings.data.is_dir():
            note = stack.enter_context(hold_lock(settings, wait_lock))
        done: set[str] = set()
        if resume is not None:
            last = resume(settings)
            check_options(settings, last.options, clock())
            run = reopen_run(settings, last, redact)
            done = extracted_sources(last)
        elif options.dry_run:
            run = Run(settings, options, "dry-run", clock(), redact=redact)
        else:
            run = open_run(settings, options, redact, clock())
        if note is not None:
            note(run.run_id)
        life = _Lifecycle(run, stop, clock, at_end)
        started.append(life)
        return life.live(done)


def check_options(settings: Settings, options: Options, now: datetime) -> None:
    """What can be known to be wrong before anything starts.

    Raises:
        ConfigError: unknown source, no folder of models, an interval that is none, a clock that
            is behind the first one.
    """
    if now.date() < settings.transform.start:
        raise ConfigError(
            f"transform.start {settings.transform.start} is to come: it is {now:%Y-%m-%d} UTC",
            hint="what is committed before it is never transformed: set the clock right, or start",
        )
    if not settings.sqlmesh_dir.is_dir() and settings.loads and "transform" in options.stages:
        raise ConfigError(
            f"{settings.sqlmesh_dir}: no such folder, and `loads` names {settings.loads[0].model}",
            hint="the models belong there: is it the right --project, and all of it?",
        )
    for name in options.sources:
        if name not in settings.active_sources:
            known = ", ".join(sorted(settings.active_sources)) or "none"
            raise ConfigError(f"--source {name}: no such source", hint=f"sources: {known}")
    bounds = []
    for option, text in (("--start", options.start), ("--end", options.end)):
        if text is not None:
            try:
                bound = datetime.fromisoformat(text)
            except ValueError:
                raise ConfigError(
                    f"{option} {text}: is no date", hint="write 2026-01-31 or 2026-01-31T12:00"
                ) from None
            bounds.append(bound if bound.tzinfo else bound.replace(tzinfo=UTC))
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        raise ConfigError(f"--start {options.start} lies after --end {options.end}")
    if any(bound > now for bound in bounds):
        raise ConfigError(
            f"--start/--end: an interval ends at the latest now, {now:%Y-%m-%dT%H:%M} UTC"
        )


@contextmanager
def _refusals_told(
    settings: Settings, options: Options, started: list[_Lifecycle], redact: Callable[[str], str]
) -> Iterator[None]:
    """Notify of a failure that kept the run from beginning: it leaves no record."""
    try:
        yield
    except EtlError as e:
        if not started and options.environment == "prod" and not options.dry_run:
            from etl.report.outcome import tell_refusal

            for warning in tell_refusal(settings, e, redact):
                logger.warning(warning)
        raise


class _Lifecycle:
    """One run between its opening and its last record."""

    def __init__(
        self,
        run: Run,
        stop: Stop,
        clock: Callable[[], datetime],
        at_end: Callable[[RunRecord], None],
    ) -> None:
        self.run = run
        self._stop = stop
        self._clock = clock
        self._at_end = at_end
        self._dry = run.options.dry_run
        self._record: RunRecord | None = None
        self._stop_logs = start_logs(
            run.settings, folder=None if self._dry else run.folder, run_id=run.run_id,
            redact=run.redact, quiet=run.settings.log.quiet,
        )  # fmt: skip

    def live(self, done_sources: set[str]) -> RunRecord:
        """Run the stages, then write what happened."""
        settings = self.run.settings
        try:
            with closing(KeptOpen(settings.warehouse)) as warehouse:
                try:
                    if not self._dry:
                        self.run.save()
                    self._stop.after(settings.timeout)
                    self._run_stages(done_sources, warehouse)
                except Stopped as e:
                    self._note_stop(e.code)
                except ResourcesError as e:  # of the record; a stage's are in it
                    self._note(e)
                self._stop.disarm()
                record = self._finish()
                if not is_readable(settings):  # a person reads them in the summary
                    for line in record.plan:
                        logger.info(line)
                if not self._dry:
                    _keep_history(settings, record)
            if not self._dry:
                drop_old_runs(settings, record.run_id)
                told = self._report(record)
                if told != record:
                    record = told
                    _keep_history(settings, record)
            _tell_end(record)
            return record
        finally:
            self._stop_logs()

    def _run_stages(self, done_sources: set[str], warehouse: KeptOpen) -> None:
        with Progress() as progress, _served(self.run.settings) as served:
            ctx = RunContext(
                served, self.run.options, self.run, self._stop, progress, warehouse,
                done_sources=done_sources,
            )  # fmt: skip
            with closing(ctx):
                run_stages(ctx)

    def end(self, code: ExitCode) -> None:
        """A library holds the main thread: write the record without it."""
        if self._record is None:
            self._note_stop(code)
            self._report(self._finish())
        self._stop_logs()

    def _note_stop(self, code: ExitCode) -> None:
        self._note(_stopped(code, self.run.settings))

    def _note(self, error: EtlError) -> None:
        if error.message not in [f.message for f in self.run.failures]:
            self.run.fail(error)
            tell_failures(self.run.failures[-1:])

    def _finish(self) -> RunRecord:
        end = self._clock()
        self._record = self.run.record(end) if self._dry else self._save(end)
        self._at_end(self._record)
        return self._record

    def _save(self, end: datetime | None) -> RunRecord:
        """Write the record; on a full disk it is unwritten, and those who wait for it are told."""
        try:
            return self.run.save(end)
        except ResourcesError as e:
            self._note(e)
            return self.run.record(end)

    def _report(self, record: RunRecord) -> RunRecord:
        """Tell others how the run ended; what they could not be told is a warning of the record."""
        settings = self.run.settings
        if not settings.is_told:
            return record
        from etl.report.outcome import tell_outcome

        for warning in tell_outcome(settings, record, self.run.redact):
            logger.warning(warning)
            self.run.warnings.append(warning)
            self._record = self._save(record.finished_at)
        return self._record or record


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
    """The settings; in the demo with the replay running and the sources pointed at it."""
    if not settings.demo:
        yield settings
        return
    from etl.demo import Replay

    with Replay(date=settings.snapshot_date()) as replay:
        urls = {
            REPLAYED_HOST: replay.base_url,
            SHOP_HOST: replay.shop_url,
            MARKET_HOST: replay.market_url,
        }
        sources = {n: _replayed(s, urls) for n, s in settings.sources.items()}
        yield settings.model_copy(update={"sources": sources})


def _replayed(source: Source, urls: Mapping[str, str]) -> Source:
    """The source, pointed at the replay's URL of its host when it has one."""
    place = "arguments" if source.client is None else "client"
    given: dict[str, Any] = getattr(source, place)
    url = urls.get(urlsplit(str(given.get("base_url"))).hostname or "")
    if url is None:
        return source
    return source.model_copy(update={place: given | {"base_url": url}})


def _keep_history(settings: Settings, record: RunRecord) -> None:
    """Add the record to the warehouse; a warehouse that cannot be opened is told, not fatal."""
    import duckdb

    from etl.history import write_history
    from etl.packages import show_packages
    from etl.warehouse import connect

    try:
        with connect(settings.warehouse) as connection:
            write_history(connection, record)
            show_packages(connection)
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
