"""Exit codes, their severity, and how failures keep what matters."""

import errno
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest

from etl.causes import causes, classify_os_error
from etl.errors import (
    SEVERITY,
    AuthError,
    EtlError,
    ExitCode,
    LoadError,
    LockedError,
    StageError,
    most_severe,
)


def test_every_code_has_a_meaning_and_a_place_in_the_order() -> None:
    assert sorted(SEVERITY) == sorted(ExitCode)
    assert len(SEVERITY) == len(set(SEVERITY))
    assert all(code.meaning for code in ExitCode)


def test_the_numbers_are_those_that_were_published() -> None:
    assert {c.name: int(c) for c in ExitCode} == {
        "OK": 0, "UNEXPECTED": 1, "CONFIG": 2, "DATA_QUALITY": 3, "CONNECTION": 4, "EXTRACT": 5,
        "TRANSFORM": 6, "LOAD": 7, "LOCKED": 8, "TIMEOUT": 9, "SCHEMA": 10, "APPROVAL": 11,
        "RECONCILIATION": 12, "AUTH": 13, "RESOURCES": 14, "INTERRUPTED": 130, "TERMINATED": 143,
    }  # fmt: skip


def test_retrying_helps_for_what_may_pass_by_itself() -> None:
    assert {c.name for c in ExitCode if c.retryable} == {
        "CONNECTION", "LOCKED", "TIMEOUT", "RESOURCES", "INTERRUPTED", "TERMINATED",
    }  # fmt: skip


def test_a_code_that_invites_a_retry_never_hides_one_that_a_person_must_mend() -> None:
    stopped = {ExitCode.TERMINATED, ExitCode.INTERRUPTED, ExitCode.TIMEOUT, ExitCode.OK}
    order = [c for c in SEVERITY if c not in stopped]
    assert order == sorted(order, key=lambda c: c.retryable)


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([], ExitCode.OK),
        ([ExitCode.CONNECTION, ExitCode.DATA_QUALITY], ExitCode.DATA_QUALITY),
        ([ExitCode.DATA_QUALITY, ExitCode.RECONCILIATION], ExitCode.RECONCILIATION),
        ([ExitCode.RECONCILIATION, ExitCode.TERMINATED], ExitCode.TERMINATED),
    ],
)
def test_the_most_severe_of_several_counts(codes: list[ExitCode], worst: ExitCode) -> None:
    assert most_severe(codes) is worst


def test_a_message_is_one_line() -> None:
    assert str(EtlError("a\n  b\tc")) == "a b c"


def test_causes_follow_the_chain_and_end_in_a_circle() -> None:
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first
    assert causes(first) == [first, second]


def test_a_suppressed_context_is_no_cause() -> None:
    shown = ValueError("shown")
    shown.__context__, shown.__suppress_context__ = KeyError("hidden"), True
    assert causes(shown) == [shown]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EFBIG])
def test_the_machines_limits_are_found_by_errno(number: int) -> None:
    outer = RuntimeError("a library's words")
    outer.__cause__ = OSError(number, "text in any language")
    found = classify_os_error(outer)
    assert found is not None
    assert found.code is ExitCode.RESOURCES


def test_thread_that_cannot_be_started_is_the_machines_limit() -> None:
    usual = threading.stack_size(1 << 46)
    try:
        with pytest.raises(RuntimeError) as refused:
            threading.Thread(target=print).start()
    finally:
        threading.stack_size(usual)
    found = classify_os_error(refused.value)
    assert found is not None
    assert found.code is ExitCode.RESOURCES
    assert classify_os_error(RuntimeError("a library's words")) is None


def test_a_process_that_was_killed_is_the_machines_limit() -> None:
    found = classify_os_error(BrokenProcessPool("terminated abruptly"))
    assert found is not None
    assert found.code is ExitCode.RESOURCES


def test_other_errors_of_the_system_are_not_the_machines_limits() -> None:
    assert classify_os_error(FileNotFoundError(errno.ENOENT, "gone")) is None


def test_failures_of_a_stage_bear_the_worst_ones_code_and_hint() -> None:
    failures = [LockedError("x", hint="wait"), AuthError("y", hint="renew"), LoadError("z")]
    together = StageError(failures)
    assert (together.code, together.hint) == (ExitCode.AUTH, "renew")
    assert StageError([EtlError("x"), *failures]).code is ExitCode.UNEXPECTED
