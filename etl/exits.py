"""Where a command's words go: its streams, and the file of ETL_TERMINATION_LOG."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError, EtlError

if TYPE_CHECKING:
    from etl.records import RunRecord

# Not a setting: what is told there is often that the settings are wrong.
TERMINATION_LOG = "ETL_TERMINATION_LOG"


def open_streams() -> None:
    """Make standard output and standard error usable, whatever the caller made of them.

    Descriptors that were closed (`2>&-`) are opened on nothing, or the next file, such as the
    warehouse, would get their number and what libraries print. A terminal that cannot write a sign
    shows it escaped, instead of ending the run.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def put_out(text: str) -> None:
    """Data on standard output. Its reader may have left (`etl status | head`): the code stays."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as e:
        # What is still buffered would fail again when the process ends, and change its code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(e, BrokenPipeError):
            raise


def tell(text: str) -> None:
    """Words for a person on standard error; that nobody can read them changes no code."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def say(text: str) -> None:
    """A line on standard error."""
    tell(redact(text) + "\n")


def fail(error: EtlError) -> int:
    """Say what failed, of wrong settings a line for each problem; then as `leave`."""
    if isinstance(error, ConfigError) and error.problems:
        say("\n".join([f"etl: {error}:", *(f"  {problem}" for problem in error.problems)]))
    else:
        kind = "" if isinstance(error, ConfigError) else f"{error.code.name} ({int(error.code)}): "
        say(f"etl: {kind}{error}" + (f"\n     → {error.hint}" if error.hint else ""))
    return leave(error)


def leave(error: EtlError) -> int:
    """The error's code, and its description where ETL_TERMINATION_LOG asks for one."""
    if os.environ.get(TERMINATION_LOG):
        from etl.termination import describe_error

        description = describe_error(error)
        _describe({k: redact(v) if isinstance(v, str) else v for k, v in description.items()})
    return int(error.code)


def leave_record(record: RunRecord) -> None:
    """The same for a run: called while its end is written, whatever ended it."""
    if os.environ.get(TERMINATION_LOG):
        from etl.termination import describe_run

        if (description := describe_run(record)) is not None:
            _describe(description)


def _describe(description: dict[str, Any]) -> None:
    from etl.termination import leave_message

    path = os.environ[TERMINATION_LOG]
    if reason := leave_message(Path(path), description):
        say(f"etl: {TERMINATION_LOG}={path}: the failure is not described there: {reason}")


def redact(text: str) -> str:
    """Credentials in URLs never reach the screen, whatever message carries them."""
    if "://" not in text:
        return text
    from etl.secrets import redactor

    return redactor()(text)
