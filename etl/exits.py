"""How a command's end is told: on standard error, and in the file of ETL_TERMINATION_LOG."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import ConfigError, EtlError, ExitCode

if TYPE_CHECKING:
    from etl.records import RunRecord

# Not a setting: what is told there is often that the settings are wrong.
TERMINATION_LOG = "ETL_TERMINATION_LOG"


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(redact(text) + "\n")


def leave(error: EtlError, code: ExitCode | None = None) -> int:
    """The error's code, and its description where ETL_TERMINATION_LOG asks for one."""
    path = os.environ.get(TERMINATION_LOG)
    error.code = code or error.code
    if path:
        from etl.termination import describe_error, leave_message

        description = describe_error(error)
        shown = {k: redact(v) if isinstance(v, str) else v for k, v in description.items()}
        _say_unwritten(path, leave_message(Path(path), shown))
    return int(error.code)


def leave_record(record: RunRecord) -> None:
    """The same for a run: called while its end is written, whatever ended it."""
    path = os.environ.get(TERMINATION_LOG)
    if path:
        from etl.termination import describe_run, leave_message

        description = describe_run(record)
        if description is not None:
            _say_unwritten(path, leave_message(Path(path), description))


def _say_unwritten(path: str, reason: str) -> None:
    if reason:
        say(f"etl: {TERMINATION_LOG}={path}: the failure is not described there: {reason}")


def redact(text: str) -> str:
    """Credentials in URLs never reach the screen, whatever message carries them."""
    if "://" not in text:
        return text
    from etl.secrets import redactor

    return redactor()(text)


def say_config_error(error: ConfigError) -> None:
    """What is wrong with options or settings: a line for each problem."""
    if error.problems:
        say(f"etl: {error}:")
        for problem in error.problems:
            say(f"  {problem}")
    else:
        say(f"etl: {error}" + (f"\n     → {error.hint}" if error.hint else ""))
