"""Guesses what identifies the rows of an API, and which column says when one changed."""

from __future__ import annotations

from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple

from etl.start.shapes import is_usable, singular, words

IDENTIFIERS = (
    "id", "_id", "uuid", "guid", "uid", "did", "uri", "iri", "gid", "sha", "key", "slug", "code",
)  # fmt: skip
PARTS = {
    "id", "code", "date", "day", "month", "year", "type", "kind", "key", "number", "no", "position",
    "index", "line", "lang", "language", "locale", "currency", "country", "sku",
}  # fmt: skip
UPDATED = (
    "updated_at", "modified_at", "last_modified", "last_updated", "changed_at", "last_modified_at",
    "last_updated_at", "updated_on", "modified_on", "updated", "modified", "update_time",
    "date_modified", "date_updated", "last_modified_date", "updated_date", "modified_date",
)  # fmt: skip
CREATED = (
    "created_at", "inserted_at", "indexed_at", "published_at", "created_on", "created",
    "create_time", "date_created", "created_date", "timestamp", "occurred_at", "event_time",
)  # fmt: skip
ENOUGH_ROWS = 20
MAX_PARTS = 8


class Key(NamedTuple):
    """Columns that may identify a row, why, and whether that is sure enough to build on."""

    columns: tuple[str, ...]
    evidence: str
    sure: bool


class Cursor(NamedTuple):
    """A column whose times may tell what is new, and the evidence."""

    column: str
    evidence: str


def guess_key(rows: list[dict[str, Any]], resource: str) -> Key | None:
    """What identifies a row: one id-like column, else a pair of columns; None when nothing does."""
    if not rows:
        return None
    total = len(rows)
    unique = [c for c in _columns(rows) if _distinct(rows, (c,)) == total]
    ranked = sorted(
        (rank, i, c) for i, c in enumerate(unique) if (rank := _rank(c, resource)) is not None
    )
    if ranked:
        rank, _, column = ranked[0]
        return Key(
            (column,),
            f"{total} of {total} rows have a distinct {column}, none is null",
            sure=total >= 2 and rank < len(IDENTIFIERS),
        )
    parts = [c for c in _columns(rows) if words(c) and words(c)[-1] in PARTS][:MAX_PARTS]
    for size in (2, 3):
        for pair in combinations(parts, size):
            if total >= 2 and _distinct(rows, pair) == total:
                return Key(
                    pair,
                    f"{total} of {total} rows have a distinct ({', '.join(pair)}), none is null; "
                    "no single id-like column has",
                    sure=total >= ENOUGH_ROWS,
                )
    return None


def guess_cursors(rows: list[dict[str, Any]]) -> list[Cursor]:
    """Columns with ISO times in every row, those that tell of changes first."""
    found = []
    for column in _columns(rows):
        name = "_".join(words(column))
        if name not in UPDATED + CREATED:
            continue
        values = [row[column] for row in rows]
        if not all(_is_time(v) for v in values):
            continue
        what = "tells of changes" if name in UPDATED else "tells of new rows only"
        evidence = f"{len(values)} of {len(values)} rows have an ISO time in {column}; it {what}"
        found.append(((UPDATED + CREATED).index(name), Cursor(column, evidence)))
    return [cursor for _, cursor in sorted(found, key=lambda pair: pair[0])]


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Columns with a value in every row, in the order of the first one."""
    if not rows:
        return []
    return [c for c in rows[0] if is_usable(c) and all(_identifies(r.get(c)) for r in rows)]


def _identifies(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _distinct(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> int:
    # 1 and "1" are one value once they stand in a column.
    return len({tuple(str(row[c]) for c in columns) for row in rows})


def _rank(column: str, resource: str) -> int | None:
    """How much a name sounds like the row's own id; None when not at all.

    Below `len(IDENTIFIERS)` it is the row's own; another one's id may be unique by chance.
    """
    name = "_".join(words(column))
    own = {f"{one}_{end}" for one in (resource, singular(resource)) for end in IDENTIFIERS}
    if column in IDENTIFIERS:
        return IDENTIFIERS.index(column)
    if name in IDENTIFIERS:
        return IDENTIFIERS.index(name)
    if name in own:
        return 1
    return len(IDENTIFIERS) if words(column)[-1:] in (["id"], ["uuid"], ["key"]) else None


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not 16 <= len(value) <= 40 or not value.isascii():
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
