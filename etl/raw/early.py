"""Warns of cursors and stamps that lie in the future: rows from before them are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from etl.warehouse import quoted, read_types

if TYPE_CHECKING:
    from etl.raw.pipeline import Raw

# Times without a zone may be those of the easternmost one.
ZONES = timedelta(hours=14)


def tell_early_cursors(source: str, state: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """A line for each incremental cursor in a pipeline's state that lies after now.

    Numbers are not looked at: nobody knows whether they are times.
    """
    for resources in state.get("sources", {}).values():
        for name, kept in resources.get("resources", {}).items():
            for cursor, position in kept.get("incremental", {}).items():
                value = position.get("last_value")
                at = _time_of(value)
                if at is not None and at > now + ZONES:
                    yield (
                        f"{source}.{name}: its cursor {cursor} stands at {value}, which is to "
                        "come: rows that come with an earlier one are left out; have that row "
                        f"mended, then `etl run --full-refresh --source {source}`"
                    )


def tell_early_stamps(raw: Raw, columns: Iterable[str], day: date) -> Iterator[str]:
    """A line for each raw table with rows that an earlier run stamped with a later day.

    The clock was ahead then; or it is the demo, told another day.
    """
    with raw.connection() as connection:
        for table, types in sorted(read_types(connection, raw.dataset).items()):
            for column in (c for c in columns if types.get(c) == "DATE"):
                row = connection.execute(
                    f"SELECT max({quoted(column)}) FROM {quoted(raw.dataset, table)}"  # noqa: S608 - quoted
                ).fetchone()
                if row and row[0] and row[0] > day:
                    yield (
                        f"{raw.source}.{table}: rows of an earlier run are stamped {column} "
                        f"{row[0]}, a day to come: models take them for the newest; what helps is "
                        "in docs/operations.md, The clock"
                    )


def _time_of(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
