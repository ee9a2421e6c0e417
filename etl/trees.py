"""A tree of settings as a file has it, without what no setting can be; and what is wrong in one."""

from __future__ import annotations

import re
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
