"""The names of the stages; and of any names the valid one that is nearest to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal, get_args

StageName = Literal["extract", "transform", "audit", "load"]
# In the order in which they run.
STAGE_NAMES: tuple[StageName, ...] = get_args(StageName)
# A project may have hundreds of models; a hint is a line.
MAX_NAMES = 20


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest valid name as a hint, or a list of them."""
    names = sorted(known)
    begun = [n for n in names if name and n.startswith(name.lower())]
    near = begun or difflib.get_close_matches(name.lower(), names, 1, 0.5)
    if near:
        return f"did you mean {near[0]}?"
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return f"known: {', '.join(names[:MAX_NAMES])}{more}" if names else ""
