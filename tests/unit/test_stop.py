"""Deadline and signals end the run where it stands."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from etl.errors import ExitCode, Stopped
from etl.stop import Stop, stopping


def never(code: ExitCode) -> None:
    raise AssertionError(f"forced: {code}")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_a_signal_stops_the_main_thread(number: signal.Signals, code: ExitCode) -> None:
    stop = Stop()
    with pytest.raises(Stopped) as caught, stopping(stop, None, never):
        signal.raise_signal(number)
    assert caught.value.code is code
    with pytest.raises(Stopped):
        stop.check()


def test_the_deadline_stops_the_main_thread() -> None:
    with pytest.raises(Stopped) as caught, stopping(Stop(), 0.05, never):
        threading.Event().wait(5)
    assert caught.value.code is ExitCode.TIMEOUT


def test_the_first_reason_counts() -> None:
    stop = Stop()
    stop.request(ExitCode.TIMEOUT)
    stop.request(ExitCode.TERMINATED)
    assert stop.code is ExitCode.TIMEOUT


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
    with stopping(Stop(), 100, never):
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
with etl.stop.stopping(etl.stop.Stop(), None, last_words):
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
