"""A source of many small tables: every write disposition, lists up to two levels deep, references.

Eight tables in a turn: four roots (append, merge, versioned, replace), three of them with a list,
one of these with a list in its list. Each root brings one row of 12 fields of six kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DISPOSITIONS: tuple[Any, ...] = (
    "append", "merge", {"disposition": "merge", "strategy": "scd2"}, "replace",
)  # fmt: skip
ROOTS = len(DISPOSITIONS)
TURN = 2 * ROOTS


def fields(number: int) -> dict[str, Any]:
    """Eleven fields, and a key."""
    row: dict[str, Any] = {"id": number}
    for n in range(2):
        row |= {f"amount_{n}": number + n, f"ratio_{n}": number / 7 + n, f"name_{n}": f"n{number}"}
        row |= {f"changed_{n}_at": "2026-01-01T00:00:00Z", f"is_open_{n}": n == 0}
    return row | {"due_date": "2026-01-01"}


def row(number: int) -> dict[str, Any]:
    """The row of a root table, with its lists."""
    found = fields(number) | {"other_id": number // ROOTS * ROOTS + 1}
    if number % ROOTS:
        found["lines"] = [fields(number)]
    if number % ROOTS == 1:
        found["lines"][0]["discounts"] = [fields(number)]
    return found


def tables(count: int, wider: int | None = None) -> Any:
    """A dlt source of `count` raw tables (a multiple of eight); root `wider` has a column more."""
    import dlt

    def rows_of(number: int) -> Iterator[Any]:
        yield [row(number) | ({"added": "new"} if number == wider else {})]

    def resources() -> Iterator[Any]:
        for number in range(count // 2):
            hints: dict[str, Any] = {}
            if DISPOSITIONS[number % ROOTS] != "append":
                hints["primary_key"] = "id"
            if number % ROOTS != 1:
                # To the merged table of the same turn, which has a key to refer to.
                merged = f"root_{number // ROOTS * ROOTS + 1:03}"
                hints["references"] = [
                    {"columns": ["other_id"], "referenced_table": merged,
                     "referenced_columns": ["id"]}
                ]  # fmt: skip
            yield dlt.resource(
                rows_of(number),
                name=f"root_{number:03}",
                write_disposition=DISPOSITIONS[number % ROOTS],
                **hints,
            )

    @dlt.source(name="many")
    def source() -> Any:
        return list(resources())

    return source()
