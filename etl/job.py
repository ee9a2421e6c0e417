"""One run from lock to record: logs, deadline, signals, the stages, history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime

from loguru import logger

from etl.errors import EtlError, ExitCode, ResourcesError, Stopped
from etl.lock import hold_lock
from etl.logs import is_readable, start_logs
from etl.past_runs import drop_old_runs
from etl.progress import Progress
from etl.records import Options, RunRecord
from etl.runs import Run, extracted_sources, open_run, reopen_run, utc_now
from etl.secrets import redactor, secrets_of_dlt
from etl.settings import Settings
from etl.sources.replayed import served
from etl.stages.context import RunContext
from etl.stages.scope import check_options
from etl.stages.sequence import run_stages, tell_failures
from etl.stop import Stop, stopping
from etl.warehouse import KeptOpen


def run_job(
    settings: Settings,
    options: Options,
    *,
    wait_lock: float = 0.0,
    resume: Callable[[Settings], RunRecord] | None = None,
    at_end: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """One run from lock to record; every failure is in the record, none is raised.

    `resume` names the run to take up again (under the lock, so that it is still the last one).
    `at_end` is given the record as soon as it is final, also when a library holds the main thread.

    Raises:
        ConfigError, LockedError, ResourcesError, Stopped: there is no run, and so no record.
    """
    redact = redactor(settings, secrets_of_dlt())
    started: list[_Lifecycle] = []

    def last_words(code: ExitCode) -> None:
        for life in started:
            life.end(code)

    stop = Stop()
    with stopping(stop, last_words), ExitStack() as stack:
        stack.enter_context(_refusals_told(settings, options, started, redact))
        check_options(settings, options, utc_now())
        note = None
        if not options.dry_run or settings.data.is_dir():
            note = stack.enter_context(hold_lock(settings, wait_lock))
        done: set[str] = set()
        if resume is not None:
            last = resume(settings)
            check_options(settings, last.options, utc_now())
            run = reopen_run(settings, last, redact)
            done = extracted_sources(last)
        elif options.dry_run:
            run = Run(settings, options, "dry-run", utc_now(), redact=redact)
        else:
            run = open_run(settings, options, redact, utc_now())
        if note is not None:
            note(run.run_id)
        life = _Lifecycle(run, stop, at_end)
        started.append(life)
        return life.live(done)


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

    def __init__(self, run: Run, stop: Stop, at_end: Callable[[RunRecord], None]) -> None:
        self.run = run
        self._stop = stop
        self._at_end = at_end
        self._dry = run.options.dry_run
        self._record: RunRecord | None = None
        self._told = False
        folder = None if self._dry else run.folder
        self._stop_logs = start_logs(run.settings, folder, run.run_id, run.redact)

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
                _leave_page(settings, record)
            _tell_end(record)
            return record
        finally:
            self._stop_logs()

    def _run_stages(self, done_sources: set[str], warehouse: KeptOpen) -> None:
        with Progress() as progress, served(self.run.settings) as settings:
            ctx = RunContext(
                settings, self.run.options, self.run, self._stop, progress, warehouse,
                done_sources=done_sources,
            )  # fmt: skip
            with closing(ctx):
                run_stages(ctx)

    def end(self, code: ExitCode) -> None:
        """A library holds the main thread: write the record without it."""
        if self._record is None:
            self._note_stop(code)
            self._finish()
        if self._record is not None and not (self._told or self._dry):
            _leave_page(self.run.settings, self._report(self._record))
        self._stop_logs()

    def _note_stop(self, code: ExitCode) -> None:
        timeout = self.run.settings.timeout
        is_late = code == ExitCode.TIMEOUT and timeout
        said = f"the run's deadline of {timeout:g} s passed" if is_late else code.meaning
        hint = "`etl retry` goes on where it stopped; `etl run` starts anew; both are safe"
        self._note(EtlError(said, hint=hint, code=code))

    def _note(self, error: EtlError) -> None:
        if error.message not in [f.message for f in self.run.failures]:
            self.run.fail(error)
            tell_failures(self.run.failures[-1:])

    def _finish(self) -> RunRecord:
        end = utc_now()
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
        settings, self._told = self.run.settings, True
        if not settings.is_told:
            return record
        from etl.report.outcome import tell_outcome

        for warning in tell_outcome(settings, record, self.run.redact):
            self.run.warn(warning)
            self._record = self._save(record.finished_at)
        return self._record or record


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


def _leave_page(settings: Settings, record: RunRecord) -> None:
    """Leave the report beside the record; a page that cannot be written is told, not fatal."""
    try:
        from etl.report.page import write_page  # which reads the template

        write_page(settings, record)
    except Exception as e:  # noqa: BLE001  the run is over: nothing here may change its code
        logger.warning(f"the report was not written: {type(e).__name__}: {e}")


def _tell_end(record: RunRecord) -> None:
    level = "INFO" if record.exit_code == 0 else "ERROR"
    logger.bind(
        exit_code=record.exit_code,
        exit_name=record.exit_name,
        partial=record.partial,
        seconds=round(record.seconds or 0, 3),
    ).log(level, "run finished")
