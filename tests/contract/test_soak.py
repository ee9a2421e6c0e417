"""One job over many runs, changes, faults and kills: after each 0 all is as the API has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import soak
from tests.soak.acts import ACTS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_promise_of_0_holds_over_many_runs(tmp_path: Path) -> None:
    """More of it, and other seeds: `python -m tests.soak`."""
    soak(tmp_path, seed=1, steps=8, only={act.__name__ for act in ACTS} - {"run_out"})
