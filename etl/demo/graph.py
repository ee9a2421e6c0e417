"""Who follows whom on a day, from seed arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, Literal

from etl.demo.dice import Dice
from etl.demo.people import FIRST_GUEST, GUESTS_PER_DAY

Kind = Literal["followers", "follows"]

_SETTLED: Final = date(2024, 12, 31).toordinal()
_BREAK_EVERY, _BREAK_DAYS = 120, 6
_LONGEST_STAY: Final = 80


@dataclass(frozen=True)
class Circle:
    """The accounts that one list of one actor draws from.

    `core` are permanent accounts; with `breaks` one in seven leaves for 6 of 120 days. Each day
    `guests` (fewest, most) accounts newly follow, starting at that day's `first_guest`-th; they
    stay for `stay` days, the fourth and later ones for 14 to 80, half of those with a break.
    """

    core: tuple[range, ...]
    breaks: bool
    guests: tuple[int, int]
    first_guest: int
    stay: int


CIRCLES: Final[Mapping[tuple[str, Kind], Circle]] = {
    ("chess.com", "followers"): Circle((range(1750),), True, (6, 9), 0, 45),
    ("chess.com", "follows"): Circle((range(150), range(3000, 3150)), False, (3, 4), 1, 21),
    ("lichess.org", "followers"): Circle((range(1500, 2300),), True, (4, 6), 6, 40),
    ("lichess.org", "follows"): Circle(
        (range(1500, 1650), range(3100, 3250)), False, (3, 4), 8, 21
    ),
}
ACTORS: Final = ("chess.com", "lichess.org")


def members(actor: str, kind: Kind, day: date) -> tuple[int, ...]:
    """The numbers of the accounts on a list, those who followed last first.

    Raises KeyError for an actor that is not one of `ACTORS`.
    """
    circle, today = CIRCLES[actor, kind], day.toordinal()
    since: dict[int, int] = {}
    for block in circle.core:
        for person in block:
            followed = _followed(person, today, breaks=circle.breaks)
            if followed is not None:
                since[person] = followed
    for born in range(today - _LONGEST_STAY, today + 1):
        for person, stays in _guests(actor, kind, born):
            for first, last in stays:
                if first <= today <= last:
                    since[person] = first
    return tuple(sorted(since, key=lambda person: (-since[person], person * 2_654_435_761 % 2**32)))


def _followed(person: int, today: int, *, breaks: bool) -> int | None:
    """The day since which a permanent account follows, None while it takes a break."""
    if not breaks or person % 7 != 3:
        return _SETTLED - person * 7919 % 700
    back = (today + person * 31) % _BREAK_EVERY - _BREAK_DAYS
    return None if back < 0 else today - back


@lru_cache(maxsize=4096)
def _guests(
    actor: str, kind: Kind, born: int
) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
    """The accounts that first follow on day `born`, each with its stays (first, last day)."""
    circle, dice = CIRCLES[actor, kind], Dice(f"guests:{actor}:{kind}:{born}")
    fewest, most = circle.guests
    guests = []
    for number in range(fewest + dice.roll(most - fewest + 1)):
        person = FIRST_GUEST + born * GUESTS_PER_DAY + circle.first_guest + number
        last = born + circle.stay - 1
        stays: tuple[tuple[int, int], ...] = ((born, last),)
        if number >= 3:
            last = born + 13 + dice.roll(_LONGEST_STAY - 13)
            left = born + 3 + dice.roll(4)
            stays = ((born, last),)
            if number % 2:
                stays = ((born, left - 1), (left + 1 + dice.roll(5), last))
        guests.append((person, stays))
    return tuple(guests)
