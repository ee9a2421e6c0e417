"""Three-way merge of text by lines: what was generated then, what stands now, what would be now."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Merged:
    """The merged text, and the places where both sides changed the same lines.

    `conflicts` are (first, last) line numbers, from 1, in the text that stands now; `text` holds
    its lines there.
    """

    text: str
    conflicts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Edit:
    """Lines `start` to `end` (exclusive) of the base, replaced."""

    start: int
    end: int
    lines: tuple[str, ...]


def merge(base: str, ours: str, theirs: str) -> Merged:
    """Bring the changes from `base` to `theirs` into `ours`.

    Lines that both sides add at one place all stay, ours first: a list grows on both sides.
    """
    old, mine, new = (t.splitlines(keepends=True) for t in (base, ours, theirs))
    left, right = _edits(old, mine), _edits(old, new)
    out: list[str] = []
    conflicts: list[tuple[int, int]] = []
    position = shift = 0
    while left or right:
        here, there, start, end = _next_group(left, right)
        out += old[position:start]
        a, b = _apply(old, start, end, here), _apply(old, start, end, there)
        if not here:
            out += b
        elif not there or a == b:
            out += a
        elif start == end:
            out += [*a, *b]
        else:
            first = start + shift + 1
            conflicts.append((first, first + max(0, len(a) - 1)))
            out += a
        shift += len(a) - (end - start) if here else 0
        position = end
    return Merged("".join(out + old[position:]), tuple(conflicts))


def _edits(base: list[str], changed: list[str]) -> list[_Edit]:
    matcher = SequenceMatcher(None, base, changed, autojunk=False)
    return [
        _Edit(i1, i2, tuple(changed[j1:j2]))
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    ]


def _next_group(left: list[_Edit], right: list[_Edit]) -> tuple[list[_Edit], list[_Edit], int, int]:
    """Take from both sides the first edits that touch the same lines, and the lines' span.

    Lines added right before or after lines that the other side changed are no conflict.
    """
    first = min((e[0] for e in (left, right) if e), key=lambda e: (e.start, e.end))
    start, end = first.start, first.end
    taken: tuple[list[_Edit], list[_Edit]] = ([], [])
    grown = True
    while grown:
        grown = False
        for side, into in zip((left, right), taken, strict=True):
            while side and (side[0].start < end or side[0].start == side[0].end == start == end):
                edit = side.pop(0)
                into.append(edit)
                end = max(end, edit.end)
                grown = True
    return *taken, start, end


def _apply(base: list[str], start: int, end: int, edits: list[_Edit]) -> list[str]:
    out: list[str] = []
    position = start
    for edit in edits:
        out += [*base[position : edit.start], *edit.lines]
        position = edit.end
    return out + base[position:end]
