"""`python -m tests.soak`: one job, many runs, until a promise is broken or the steps are done."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from tests.soak import __doc__ as about
from tests.soak.acts import ACTS, run
from tests.soak.promise import BrokenError
from tests.soak.world import new_world


def soak(folder: Path, seed: int, steps: int, only: Collection[str] = ()) -> None:
    """So many acts, chosen by the seed, and a run at the end. Raises BrokenError."""
    acts = {act: weight for act, weight in ACTS.items() if not only or act.__name__ in only}
    with new_world(folder, seed) as world:
        for number in range(1, steps + 1):
            (act,) = world.rng.choices(list(acts), list(acts.values()))
            _say(f"{time.strftime('%H:%M:%S')} {number} {act.__name__} ")
            _say(f"{act(world)}\n")
        run(world)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=about)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="stays afterwards; default: one that is gone")
    parser.add_argument("--only", nargs="+", default=(), choices=[act.__name__ for act in ACTS])
    return parser


def main() -> None:
    """The command."""
    options = make_parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="etl-soak-") as temporary:
        folder = options.folder or Path(temporary) / "project"
        folder.mkdir(parents=True)
        try:
            soak(folder, options.seed, options.steps, options.only)
        except BrokenError as error:
            sys.exit(f"broken with seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
