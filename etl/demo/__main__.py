"""`python -m etl.demo`: serves the replay until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TypeVar

from etl.demo.faults import KINDS, parse_fault
from etl.demo.replay import Replay

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; 0 then, 2 when an option is wrong or the port is taken."""
    parser = _parser(os.environ)
    options = parser.parse_args(arguments)
    # Blocked from before the first thread: none of them may take the signal from sigwait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with Replay(
            options.date,
            options.port,
            options.fault,
            options.rate_limit,
            options.latency,
            host=options.host,
            token=options.token,
            cache=options.cache,
        ) as replay:
            sys.stdout.write(f"The replay of {options.date} answers at {replay.base_url}\n")
            sys.stdout.flush()
            signal.sigwait(_SIGNALS)
    except (OSError, ValueError) as e:
        parser.error(f"cannot serve on {options.host}:{options.port}: {e}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    kinds = "\n".join(
        f"  {kind:<14} {does}\n{'':17}--fault {example}" for kind, (does, example) in KINDS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m etl.demo",
        description="Answers as the public Bluesky API does, on loopback, from made-up accounts,\n"
        "below /shop/v1/ as a shop: countries, companies, customers and orders, and\n"
        "below /yahoo/ as Yahoo's chart API, as yfinance asks it.\n"
        "Actors: chess.com, lichess.org, and bulk-<N>.test with N followers and N follows.",
        epilog="A fault's SPEC is KIND[:key=value[,key=value]...] with the keys method, actor,\n"
        "page (2 or 2-4), request (the n-th that the others let through), times (without it:\n"
        f"always), seconds, field and value. The kinds, each with an example:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument(
        "--date",
        type=_told(date.fromisoformat),
        default=environment.get("ETL_DEMO_DATE") or datetime.now(UTC).date().isoformat(),
        metavar="YYYY-MM-DD",
        help="the day whose graph is served (ETL_DEMO_DATE, else today in UTC)",
    )
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="S", help="seconds per answer"
    )
    parser.add_argument(
        "--rate-limit", type=_told(_rate), metavar="N/S", help="N requests in S seconds, then 429"
    )
    parser.add_argument(
        "--fault",
        type=_told(parse_fault),
        action="append",
        default=[],
        metavar="SPEC",
        help="misbehave, see below; repeatable",
    )
    parser.add_argument("--token", metavar="T", help="require Authorization: Bearer T, else 401")
    parser.add_argument("--cache", action="store_true", help="keep encoded pages in memory")
    return parser


def _rate(text: str) -> tuple[int, float]:
    count, slash, seconds = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is not REQUESTS/SECONDS, such as 50/5")
    return int(count), float(seconds)


def _told(convert: Callable[[str], T]) -> Callable[[str], T]:
    """`convert` with its ValueError told to whoever typed the option."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(str(e)) from e

    return converted


if __name__ == "__main__":
    raise SystemExit(main())
