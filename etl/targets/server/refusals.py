"""Finds and names the row that a server refuses, by trying ever fewer rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from etl.errors import LoadError
from etl.targets.publication import Publication
from etl.targets.server.session import C, Change

E = TypeVar("E", bound=Exception)
CORRECT = "correct the model, or the table at the target"
COLUMN = "the column there (ALTER TABLE ... ALTER COLUMN)"
_MAX_VALUE = 100


def first_refused(count: int, attempt: Callable[[int, int], E | None]) -> tuple[int, E] | None:
    """The place of a row that is refused by itself; None when rows are only refused together.

    `attempt` tries the rows from the first place up to the second, takes them back, and tells what
    it failed with.
    """
    low, high = 0, count
    error = attempt(low, high)
    if error is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if (found := attempt(low, middle)) is not None:
            high = middle
        elif (found := attempt(middle, high)) is not None:
            low = middle
        else:
            return None
        error = found
    return low, error


def refusal(
    said: str,
    table: str,
    target: str,
    *,
    column: str | None,
    key: Mapping[str, str],
    constraint: str | None = None,
    hint: str = CORRECT,
) -> LoadError:
    """The error of a row that cannot be published."""
    named = ", ".join(f"{k} = {v[:_MAX_VALUE]}" for k, v in key.items())
    where = f", row {named}" if named else ""
    where += f", column {column}" if column else ""
    where += f", constraint {constraint}" if constraint else ""
    return LoadError(
        f"table {table} at target {target}{where}: refused: {said}",
        subject=target,
        hint=hint,
    )


def mismatch(
    change: Change[C], target: str, wrong: list[tuple[str, str, str]], said: str
) -> LoadError:
    """The error of columns (name, type there, type in the mart) that do not go together."""
    return LoadError(
        f"table {change.table.plain} at target {target}: {told_types(wrong) or 'refused'} ({said})",
        subject=target,
        hint=change_there(COLUMN, change.publication),
    )


def refuse_reference(change: Change[C], other: str | None, target: str) -> None:
    """Raise LoadError where rows of another table would go with those that come again."""
    if other is not None:
        raise LoadError(
            f"{change.table.plain} at target {target}: {other} refers to it with ON DELETE, and "
            "without a key all rows go and come again",
            subject=target,
            hint="name a `key` in the load, or a grain in the model",
        )


def change_there(what: str, publication: Publication) -> str:
    """What helps: something has to be changed at the target, or the table made anew by a run."""
    if publication.strategy == "replace":
        return f"change {what}, or drop the table: the next run makes it anew"
    return f"change {what}; the table has rows that the mart may have no more, so do not drop it"


def told_types(wrong: list[tuple[str, str, str]]) -> str:
    """Columns (name, type there, type in the mart) in words."""
    return "; ".join(f"{name} is {theirs} there and {ours} in the mart"
                     for name, theirs, ours in wrong)  # fmt: skip
