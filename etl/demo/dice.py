"""Draws that a seed alone decides, the same on every machine and Python version."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """512 bits of a seed, spent draw by draw; enough for some sixty draws of up to 100 sides."""

    def __init__(self, seed: str) -> None:
        self._bits = int.from_bytes(blake2b(seed.encode()).digest(), "big")

    def roll(self, sides: int) -> int:
        """A number from 0 to `sides` - 1."""
        self._bits, drawn = divmod(self._bits, sides)
        return drawn

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self.roll(len(choices))]

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases."""
        return self.roll(100) < percent


def base32(seed: str, length: int) -> str:
    """`length` (at most 100) lower-case base32 characters, as DIDs and CIDs are written."""
    digest = blake2b(seed.encode()).digest()
    return base64.b32encode(digest)[:length].decode().lower()
