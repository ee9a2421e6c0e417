"""Stopping: the deadline, SIGINT and SIGTERM end the run at its next safe point, or by force."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from etl.errors import ExitCode, Stopped

# The scheduler's patience is usually 30 s, ours with it 10 s; the rest is for writing the record.
GRACE_SECONDS = 7.0
LAST_WORDS_SECONDS = 1.5


class Stop:
    """A request to stop that every thread of the run can see.

    The main thread is interrupted where it stands; other threads ask with `check()` before each
    page and wait with `wait()`. Every step of the job can be killed and repeated, so any point
    is a safe one for the data; the grace period is there for the record and the lock.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._disarmed = False
        self._interrupts: list[Callable[[], None]] = []
        self.code: ExitCode | None = None

    def after(self, seconds: float | None) -> None:
        """Set the deadline: stop with TIMEOUT so many seconds from now; None: never."""
        signal.setitimer(signal.ITIMER_REAL, seconds or 0)

    def disarm(self) -> None:
        """The run is over, only its record is to be written: nothing stops that any more."""
        self._disarmed = True

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call it when the run is asked to stop meanwhile, before anything else happens.

        For work that goes on behind the exception that ends it.
        """
        self._interrupts.append(interrupt)
        try:
            yield
        finally:
            self._interrupts.remove(interrupt)

    @property
    def armed(self) -> bool:
        """True while a first signal still stops the run."""
        return self.code is None and not self._disarmed

    def request(self, code: ExitCode) -> None:
        """Ask the run to stop, with the code that it shall end with. The first one counts."""
        if self.code is None:
            self.code = code
        self._event.set()
        for interrupt in self._interrupts:
            interrupt()

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop."""
        if self.code is not None:
            raise Stopped(self.code)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the run is asked to stop."""
        self._event.wait(max(0.0, seconds))
        self.check()


@contextmanager
def stopping(stop: Stop, last_words: Callable[[ExitCode], None]) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and the deadline into a Stopped in the main thread.

    When the run has not ended `GRACE_SECONDS` later (a library that does not let go),
    `last_words` writes the record and the process ends at once.
    """

    def force(code: ExitCode) -> None:
        # In a thread of its own: the main thread may hang while it holds a lock that the record
        # or the log needs, and the process must end all the same.
        speaking = threading.Thread(target=last_words, args=(code,), daemon=True)
        speaking.start()
        speaking.join(LAST_WORDS_SECONDS)
        os._exit(int(code))

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not stop.armed:
            return
        stop.request(codes[number])
        timer = threading.Timer(GRACE_SECONDS, force, (codes[number],))
        timer.daemon = True
        timer.start()
        timers.append(timer)
        stop.check()

    codes: dict[int, ExitCode] = {
        signal.SIGINT: ExitCode.INTERRUPTED,
        signal.SIGTERM: ExitCode.TERMINATED,
        signal.SIGALRM: ExitCode.TIMEOUT,
    }
    timers: list[threading.Timer] = []
    before = {number: signal.signal(number, on_signal) for number in codes}
    try:
        yield
    except Exception:
        stop.check()  # DuckDB turns what a signal's handler raises into an error of its own
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
