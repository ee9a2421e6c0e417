"""`python -m etl` and the command `etl`: signals first, then the command line."""

import os
import signal
from types import FrameType


def main() -> int:
    """Run the command line; the result is the process's exit code.

    The first second of a process goes into imports. A signal in it would be lost where the process
    is the first one of a container (the kernel drops what PID 1 has no handler for).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from etl.cli import main as run

    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """End with the code of the signal, 130 or 143: no run has begun, nothing is to be written.

    What must be finished has its own handlers while it lasts (`etl.stop`). Not by an exception:
    one that is raised in the middle of an import may be swallowed there.
    """
    os._exit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
