"""Trees of settings: freed of what no setting can be, one on top of another, each of an origin."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_DEPTH = 40
MAX_VALUES = 100_000


class Finding(NamedTuple):
    """One thing wrong: the path of keys, what is wrong, and what would be right."""

    path: tuple[Any, ...]
    message: str
    hint: str = ""


def clean(tree: Any) -> tuple[Any, list[Finding]]:
    """A copy of a file's tree without what no setting can be, and a finding for each such value.

    Aliases are copied, so that a file that refers to itself, or to much of itself often, ends here.
    """
    findings: list[Finding] = []
    count = 0

    def copy(value: Any, path: tuple[Any, ...]) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"has more than {MAX_VALUES:,} values (aliases counted)")
        if len(path) > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            findings.extend(
                Finding((*path, key), "a key must be text", "write it in quotes")
                for key in value
                if not isinstance(key, str)
            )
            return {k: copy(v, (*path, k)) for k, v in value.items() if isinstance(k, str)}
        if isinstance(value, list):
            return [copy(v, (*path, i)) for i, v in enumerate(value)]
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            findings.append(Finding(path, "holds a character that no text may hold"))
            return ""
        if isinstance(value, bytes | set | tuple):
            findings.append(Finding(path, f"a {type(value).__name__} is no value of a setting"))
            return None
        return value

    try:
        return copy(tree, ()), findings
    except ValueError as e:
        return {}, [Finding((), str(e))]


def holds(node: Any, key: Any) -> bool:
    """True when something stands under a key or index of a tree."""
    if isinstance(node, list):
        return isinstance(key, int) and key < len(node)
    return isinstance(node, dict) and key in node


def child(node: Any, key: Any) -> Any:
    """What stands under a key or index of a tree; None for nothing."""
    return node[key] if holds(node, key) else None


class Items(dict[int, Any]):
    """Single items of a list, by index, as a variable names them."""


@dataclass
class Layer:
    """One origin of settings: its name as the user knows it, and its tree.

    For settings that come from variables `names` holds the variable of each path, `findings` what
    no setting can be and so is not in the tree.
    """

    name: str
    tree: dict[str, Any]
    names: dict[tuple[Any, ...], str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def sets(self, path: tuple[Any, ...]) -> bool:
        """True when it may set the group at this path itself, not only a value within it."""
        return not self.names or any(path[:d] in self.names for d in range(1, len(path) + 1))

    def origin(self, path: tuple[Any, ...]) -> str | None:
        """Where this layer sets the value at this path; None when it does not."""
        node: Any = self.tree
        for key in path:
            if not holds(node, key):
                return None
            node = node[key]
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.names:
                return self.names[path[:depth]]
        return next((n for p, n in self.names.items() if p[: len(path)] == path), self.name)


def merge(below: Any, above: Any) -> Any:
    """The two trees as one: mappings key by key, a list whole, single items by their index."""
    if isinstance(above, Items):
        items = list(below) if isinstance(below, list) else []
        for i, value in sorted(above.items()):
            if i < len(items):
                items[i] = merge(items[i], value)
            else:
                items.append(merge(None, value))
        return items
    if isinstance(above, dict):
        under = below if isinstance(below, dict) else {}
        return under | {k: merge(under.get(k), v) for k, v in above.items()}
    return above
