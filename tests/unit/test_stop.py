"""Deadline and signals end the run where it stands."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from etl.errors import ExitCode, Stopped
from etl.stop import Stop, stopping


def never(code: ExitCode) -> None:
    raise AssertionError(f"forced: {code}")


@contextmanager
def deadline(stop: Stop) -> Iterator[None]:
    stop.after(0.05)
    yield


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_a_signal_stops_the_main_thread(number: signal.Signals, code: ExitCode) -> None:
    stop = Stop()
    with pytest.raises(Stopped) as caught, stopping(stop, never):
        signal.raise_signal(number)
    assert caught.value.code is code
    with pytest.raises(Stopped):
        stop.check()


def test_the_deadline_stops_the_main_thread() -> None:
    stop = Stop()
    late = threading.Event()
    with pytest.raises(Stopped) as caught, stopping(stop, never), deadline(stop):
        late.wait(5)
    assert caught.value.code is ExitCode.TIMEOUT


def test_the_first_reason_counts() -> None:
    stop = Stop()
    stop.request(ExitCode.TIMEOUT)
    stop.request(ExitCode.TERMINATED)
    assert stop.code is ExitCode.TIMEOUT


def test_nothing_stops_the_writing_of_the_record() -> None:
    stop = Stop()
    with stopping(stop, never):
        stop.disarm()
        signal.raise_signal(signal.SIGTERM)
    assert stop.code is None


def test_no_library_takes_it_for_a_failure_of_its_own() -> None:
    assert not issubclass(Stopped, Exception)


def test_waiting_ends_when_the_run_is_stopped() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.request, (ExitCode.TERMINATED,)).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        stop.wait(30)
    assert time.monotonic() - started < 10


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping(Stop(), never):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


STUBBORN = """
import os, signal, sys, threading, time
import etl.stop
etl.stop.GRACE_SECONDS, etl.stop.LAST_WORDS_SECONDS = 0.2, 0.2
from etl.errors import Stopped
def last_words(code):
    sys.stdout.write("last words"); sys.stdout.flush()
    if sys.argv[1] == "hang":
        time.sleep(60)
with etl.stop.stopping(etl.stop.Stop(), last_words):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        try:
            time.sleep(60)
        except Stopped:
            pass
"""


@pytest.mark.parametrize("words", ["speak", "hang"])
def test_a_library_that_does_not_let_go_is_left_behind(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN, words], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.TERMINATED
    assert done.stdout == "last words"
