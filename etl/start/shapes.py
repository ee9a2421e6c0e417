"""Looks into JSON of unknown shape: its named values, its lists, and paths that lead to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_DEPTH = 4
MAX_FIELDS = 2_000
# Words of dlt's path language: as a plain key it would read them as operators.
_OPERATORS = {"where", "wherenot", "parent", "sub", "split", "len", "keys", "sorted"}


class Field(NamedTuple):
    """A value that is reached through objects alone: its keys, and the value."""

    keys: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        """The last key, in words: `nextPageToken` is `next_page_token`."""
        return "_".join(words(self.keys[-1])) if self.keys else ""

    @property
    def path(self) -> str:
        """The path to it, as dlt reads paths."""
        return json_path(self.keys) or "$"


def words(key: str) -> list[str]:
    """The words of a key, lower case: `@odata.nextLink` has odata, next, link."""
    return [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", key)]


def is_usable(key: str) -> bool:
    """True for a key that a path and a line of YAML can hold."""
    return bool(key) and key.isprintable() and len(key) <= 200 and not set(key) & set("*\\'\"`")


def json_path(keys: tuple[str, ...]) -> str:
    """The keys as one path of dlt's; a key that is no plain word stands in quotes."""
    return ".".join(
        k if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", k) and k not in _OPERATORS else f"'{k}'"
        for k in keys
    )


def fields(body: Any) -> Iterator[Field]:
    """Every value below objects, outermost first; nothing inside lists.

    Bounded in depth and number, so that no answer of an API is too much for it.
    """
    level: list[Field] = [Field((), body)]
    seen = 0
    for _ in range(MAX_DEPTH):
        below: list[Field] = []
        for field in level:
            if not isinstance(field.value, dict):
                continue
            for key, value in field.value.items():
                if not isinstance(key, str) or not is_usable(key):
                    continue
                seen += 1
                if seen > MAX_FIELDS:
                    return
                found = Field((*field.keys, key), value)
                yield found
                below.append(found)
        level = below


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none when it is no list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def number(value: Any) -> int | None:
    """A whole number, also one that is written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    return None


def singular(name: str) -> str:
    """A plural's likely singular: companies → company, orders → order."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    if name.endswith("s") and not name.endswith("ss"):
        return name[:-1]
    return name
