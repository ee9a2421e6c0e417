"""The failure tree and the exit codes: the only place where a code gets its number and meaning.

EtlError
├── ConfigError           2   the user's settings or options
├── DataQualityError      3   an audit, freshness or volume check, an empty required source
├── UnreachableError      4   unreachable, timed out, 429/5xx until the retries ran out
├── ExtractError          5   a source's answer cannot be used
├── TransformError        6   a model does not parse, plan or execute
├── LoadError             7   a target refused the data
├── LockedError           8   another run holds the lock
├── SchemaError          10   raw data broke its contract
├── ApprovalError        11   a change that the policy holds back
├── ReconciliationError  12   rows lost or doubled between two stages
├── AuthError            13   credentials rejected
├── ResourcesError       14   disk, memory, files
└── StageError             several failures of one stage, each with its own class

Stopped (BaseException)  9, 130, 143   deadline, SIGINT, SIGTERM; passes every `except Exception`
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process tells its scheduler. Append-only: a number never changes its meaning.

    Beside each its `meaning`, a sentence for the table that README, `etl exit-codes` and deploy
    files show, and whether it is `retryable`: the same run, started again unchanged, may succeed.
    """

    meaning: str
    retryable: bool

    OK = 0, (
        "everything that was extracted is committed, transformed, audited and published; "
        "also when there was nothing to do"
    )  # fmt: skip
    UNEXPECTED = 1, "a failure that nobody classified: a bug"
    CONFIG = 2, (
        "wrong option, invalid or missing setting, unknown source, model or stage, "
        "missing driver, extra or credential"
    )  # fmt: skip
    DATA_QUALITY = 3, (
        "a blocking audit, a freshness or volume check failed, or a required source was empty"
    )  # fmt: skip
    CONNECTION = 4, (
        "a source, the warehouse, the state store or a target could not be reached, timed out, "
        "or answered 429/5xx until the retries ran out"
    ), True  # fmt: skip
    EXTRACT = 5, (
        "a source answered with something unusable: 4xx, malformed page, endless pagination"
    )  # fmt: skip
    TRANSFORM = 6, "a model failed to parse, plan or execute"
    LOAD = 7, "a target refused the data"
    LOCKED = 8, "another run holds this job's lock", True
    TIMEOUT = 9, "the run's own deadline passed", True
    SCHEMA = 10, "raw data broke its schema contract"
    APPROVAL = 11, "the plan holds a change that the policy does not let through unattended"
    RECONCILIATION = 12, "rows were lost or doubled between two stages"
    AUTH = 13, "credentials were rejected"
    RESOURCES = 14, "disk full, out of memory, or a file not writable", True
    INTERRUPTED = 130, "SIGINT: stopped cleanly, resumable", True
    TERMINATED = 143, "SIGTERM: stopped cleanly, resumable", True

    def __new__(cls, number: int, meaning: str = "", retryable: bool = False) -> ExitCode:
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning, code.retryable = meaning, retryable
        return code


SEVERITY: tuple[ExitCode, ...] = (
    # A stopped run knows its other failures only in part: it has to be started again anyway.
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
    ExitCode.TIMEOUT,
    # Then what a person must mend, the threat to the data first: a code that invites the
    # scheduler to retry must never hide one of these.
    ExitCode.RECONCILIATION,
    ExitCode.UNEXPECTED,
    ExitCode.CONFIG,
    ExitCode.AUTH,
    ExitCode.SCHEMA,
    ExitCode.DATA_QUALITY,
    ExitCode.TRANSFORM,
    ExitCode.EXTRACT,
    ExitCode.LOAD,
    ExitCode.APPROVAL,
    # Last what may pass by itself.
    ExitCode.RESOURCES,
    ExitCode.CONNECTION,
    ExitCode.LOCKED,
    ExitCode.OK,
)


def most_severe(codes: list[ExitCode]) -> ExitCode:
    """The code that stands for several failures, by the fixed order of `SEVERITY`."""
    return min(codes, key=SEVERITY.index, default=ExitCode.OK)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the configuration, as one line: where, what, nearest valid name."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class EtlError(Exception):
    """A classified failure.

    `subject` names the source, model or target it belongs to, `hint` says what to do next,
    `sample` are rows that caused it, as they may be shown.
    """

    code = ExitCode.UNEXPECTED
    sample: tuple[dict[str, Any], ...] = ()

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", code: ExitCode | None = None
    ) -> None:
        super().__init__(message)
        # One failure is one line, in the log as on the screen, whatever a library's words are.
        self.message = " ".join(message.split())
        self.subject = subject
        self.hint = hint
        self.code = code or type(self).code

    def __str__(self) -> str:
        return self.message


class ConfigError(EtlError):
    """Settings or options are wrong; `problems` lists every one that was found."""

    code = ExitCode.CONFIG

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.problems = problems


class DataQualityError(EtlError):
    """The data is not fit to be published."""

    code = ExitCode.DATA_QUALITY


class UnreachableError(EtlError):
    """The other side could not be reached, or kept answering that it is busy or broken."""

    code = ExitCode.CONNECTION


class ExtractError(EtlError):
    """A source answered with something that cannot be used."""

    code = ExitCode.EXTRACT


class TransformError(EtlError):
    """A model failed to parse, plan or execute."""

    code = ExitCode.TRANSFORM


class LoadError(EtlError):
    """A target refused the data."""

    code = ExitCode.LOAD


class LockedError(EtlError):
    """Another run holds the job's lock."""

    code = ExitCode.LOCKED


class SchemaError(EtlError):
    """Raw data broke its schema contract."""

    code = ExitCode.SCHEMA


class ApprovalError(EtlError):
    """The plan holds a change that needs a person."""

    code = ExitCode.APPROVAL


class ReconciliationError(EtlError):
    """Counts of two stages differ."""

    code = ExitCode.RECONCILIATION


class AuthError(EtlError):
    """Credentials were rejected."""

    code = ExitCode.AUTH


class ResourcesError(EtlError):
    """The machine ran out of disk or memory, or a file cannot be written."""

    code = ExitCode.RESOURCES


class StageError(EtlError):
    """Every failure of one stage; the stage contained them and did the rest of its work.

    Its code and hint are those of the most severe failure.
    """

    def __init__(self, failures: list[EtlError]) -> None:
        super().__init__("; ".join(str(f) for f in failures))
        self.failures = tuple(failures)
        self.code = most_severe([f.code for f in failures])
        self.hint = next((f.hint for f in failures if f.code is self.code), "")


# What ends a part of a run and not the run: code of the project may call `exit()`, whose own code
# would be the process's, 0 among them.
ANY_FAILURE = (Exception, SystemExit)


class Stopped(BaseException):
    """The run was told to stop: deadline, SIGINT or SIGTERM.

    Not an `Exception`, so that no library takes it for a failure of its own.
    """

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code.meaning)
        self.code = code
