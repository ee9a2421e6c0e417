"""Logs: one flat JSON object per line, to the run's folder and standard error, redacted."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

from loguru import logger

from etl.lines import Lines, Redact
from etl.settings import Settings, read_size

if TYPE_CHECKING:
    from loguru import Message, Record
    from rich.console import Console

P = ParamSpec("P")
T = TypeVar("T")

LIBRARIES = ("dlt", "sqlmesh", "sqlglot", "urllib3", "py.warnings")
STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "bold red"}

_console: Console | None = None


def shared_console() -> Console | None:
    """The rich console on standard error; None unless a person reads this run on a terminal."""
    return _console


def is_readable(settings: Settings) -> bool:
    """True when standard error gets lines for people, not JSON."""
    log = settings.log
    return log.format == "text" or (log.format == "auto" and sys.stderr.isatty())


def start_logs(
    settings: Settings, folder: Path | None, run_id: str, redact: Redact
) -> Callable[[], None]:
    """Send every line to `folder`/log.jsonl and to standard error; the result ends that.

    Call it before anything is logged: loguru's default handler prints the values of variables.
    """
    global _console  # noqa: PLW0603  a process has one standard error
    log, terminal, as_text = settings.log, sys.stderr.isatty(), is_readable(settings)
    lines = Lines(run_id, redact, tracebacks=log.level == "DEBUG")
    screen = _Screen(
        sys.stderr, rich=as_text and terminal, least=logging.WARNING if log.quiet else 0
    )
    _console = None if log.quiet else screen.console
    file: _File | None = None
    sinks: list[tuple[Callable[[Message], None], Callable[[Record], str]]] = []
    if folder is not None:

        def on_failure(reason: str) -> None:
            # From here on standard error takes every line, and this is the first to say so.
            screen.least = 0
            screen.write_line(lines.render_note(f"log file: {reason}", as_text=as_text), "ERROR")

        file = _File(folder / "log.jsonl", read_size(log.rotation), on_failure)
        sinks.append((file.write, lines.format_json))
    sinks.append((screen.write, lines.format_text if as_text else lines.format_json))

    logger.remove()
    # catch=False: loguru would answer a failing sink with a traceback and the record as it was,
    # secrets and all. These sinks do not raise, so nothing reaches the caller either.
    plain: dict[str, Any] = dict.fromkeys(("colorize", "backtrace", "diagnose", "catch"), False)
    handlers = [logger.add(sink, level=log.level, format=form, **plain) for sink, form in sinks]
    adopt_library_loggers()

    def stop() -> None:
        global _console  # noqa: PLW0603
        for number in handlers:
            with suppress(ValueError):  # stopped already
                logger.remove(number)
        if file is not None:
            file.close()
        _console = None

    return stop


def stage_context(stage: str, **more: str) -> AbstractContextManager[None]:
    """Bind `stage` (and source, model, target) to every line of this thread while it is open."""
    return logger.contextualize(stage=stage, **more)


def bound(function: Callable[P, T]) -> Callable[P, T]:
    """The function with the context of this moment, for a thread: threads do not inherit it."""
    context = copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # A copy for each call: one context cannot be entered by two threads at a time.
        return context.copy().run(function, *args, **kwargs)

    return run


def adopt_library_loggers() -> None:
    """Lead what the libraries log into our sinks, and keep them from printing it themselves.

    Call it again after a library was imported or configured: it may have added a handler.
    dlt reuses a handler that it finds on its logger, so it adds none after the first call.
    """
    root = logging.getLogger()
    loggers = [x for x in root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    for found in (root, *loggers):
        for handler in found.handlers[:]:
            if _prints(handler):
                found.removeHandler(handler)
                found.propagate = True
    for adopted in (root, *map(logging.getLogger, LIBRARIES)):
        if not any(isinstance(h, _Intercept) for h in adopted.handlers):
            adopted.addHandler(_Intercept())
        adopted.setLevel(logging.INFO)
        adopted.propagate = False
    logging.captureWarnings(True)


def _prints(handler: logging.Handler) -> bool:
    own = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    return isinstance(handler, logging.StreamHandler) and handler.stream in own


class _Intercept(logging.Handler):
    """Hands a standard record to loguru; what a library says for information is our DEBUG.

    No library says it by `logging.info` itself, but a user's function does.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # noqa: BLE001  wrong args: logging would print them to stderr
            event = str(record.msg)
        name = record.name.partition(".")[0]
        if record.name == "py.warnings":  # its second line is the source code
            name, event = "warnings", event.partition("\n")[0]
        least = record.levelno >= logging.WARNING
        level = logging.getLevelName(record.levelno // 10 * 10) if least else "DEBUG"
        level = level if level in {"DEBUG", "WARNING", "ERROR"} else "CRITICAL"
        if record.name == "root" and record.levelno == logging.INFO:
            level = "INFO"
        # RuntimeError: a __del__ that warns while loguru holds its lock; the line is lost, not us.
        with suppress(RuntimeError):
            logger.bind(logger=name).opt(exception=record.exc_info).log(level, event)


class _Screen:
    """Standard error: plain, or by the rich console that the progress draws on."""

    def __init__(self, stream: TextIO, *, rich: bool, least: int) -> None:
        self._stream, self.least = stream, least
        self.console: Console | None = None
        if rich:
            from rich.console import Console

            self.console = Console(file=stream, highlight=False)

    def write(self, message: Message) -> None:
        level = message.record["level"]
        if level.no >= self.least:
            self.write_line(message, level.name)

    def write_line(self, line: str, level: str) -> None:
        # Closed pipe, full disk, closed stream: there is no place left to say it.
        with suppress(OSError, ValueError):
            if self.console is None:
                self._stream.write(line)
                self._stream.flush()
                return
            from rich.text import Text

            text = Text(line.rstrip("\n"))  # a Text is never read for markup
            text.stylize("dim", 0, 9)
            text.stylize(STYLES.get(level, "bold red"), 10, 18)
            self.console.print(text, soft_wrap=True)


class _File:
    """The run's log file: appends whole lines, splits by size, never raises.

    Each line is one write, so that a killed run leaves no half of one. After a failure it goes on
    trying: space may be freed, and the run lasts longer than the shortage.
    """

    def __init__(self, path: Path, limit: int, on_failure: Callable[[str], None]) -> None:
        self._path, self._limit, self._on_failure = path, limit, on_failure
        self._descriptor: int | None = None
        self._failed = False

    def write(self, message: Message) -> None:
        data = message.encode("utf-8", "backslashreplace")
        try:
            self._append(data)
        except OSError as e:
            if not self._failed:
                self._failed = True
                self._on_failure(e.strerror or type(e).__name__)

    def close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes) -> None:
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > self._limit:
            self.close()
            stem, parts = self._path.stem, itertools.count(1)
            names = (self._path.with_name(f"{stem}.{n}.jsonl") for n in parts)
            self._path.rename(next(p for p in names if not p.exists()))
            descriptor, size = self._open(), 0
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)  # no half line
            raise

    def _open(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # the machine died in the middle of a line
        return self._descriptor
