"""Who follows whom in the replay, and what changed between two days: what marts have to show."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from etl.demo.graph import Kind, members
from etl.demo.people import Profile, did, handle, profile

KINDS: tuple[Kind, ...] = ("followers", "follows")


class Difference(NamedTuple):
    """DIDs that came and went; of those that stayed the (former, present) handle when it is new."""

    gained: set[str]
    lost: set[str]
    renamed: dict[str, tuple[str, str]]


def listed(actor: str, kind: Kind, day: date) -> list[Profile]:
    """A list of an actor, newest first."""
    return [profile(person, day) for person in members(actor, kind, day)]


def difference(actor: str, kind: Kind, before: date, after: date) -> Difference:
    former, present = set(members(actor, kind, before)), set(members(actor, kind, after))
    handles = {did(p): (handle(p, before), handle(p, after)) for p in former & present}
    return Difference(
        {did(p) for p in present - former},
        {did(p) for p in former - present},
        {who: pair for who, pair in handles.items() if pair[0] != pair[1]},
    )
