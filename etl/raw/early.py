"""Warns of cursors, starts of cursors and stamps by which rows are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from dlt.extract import DltResource

from etl.raw.hints import incremental_of
from etl.raw.moved import cursors_kept
from etl.warehouse import quoted, read_types

if TYPE_CHECKING:
    from etl.raw.pipeline import Raw

# Times without a zone may be those of the easternmost one.
ZONES = timedelta(hours=14)


def tell_early_cursors(source: str, state: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """A line for each incremental cursor in a pipeline's state that lies after now.

    Numbers are not looked at: nobody knows whether they are times.
    """
    for name, cursors in cursors_kept(state).items():
        for cursor, position in cursors.items():
            value = position.get("last_value")
            at = _time_of(value)
            if at is not None and at > now + ZONES:
                yield (
                    f"{source}.{name}: its cursor {cursor} stands at {value}, which is to come: "
                    "rows that come with an earlier one are left out; have that row mended, then "
                    f"`etl run --full-refresh --source {source}`"
                )


def tell_lowered_starts(
    source: str, resources: Iterable[DltResource], state: Mapping[str, Any]
) -> Iterator[str]:
    """A line for each resource that is to begin earlier than its rows were read from.

    dlt goes on from where the cursor stands, whatever `initial_value` says by now.
    """
    kept = cursors_kept(state)
    for resource in resources:
        cursor = incremental_of(resource)
        if cursor is None or cursor.end_value is not None:
            continue
        position = kept.get(resource.name, {}).get(cursor.cursor_path, {})
        before, now = position.get("initial_value"), cursor.initial_value
        with suppress(TypeError, ValueError):  # of another type, nobody knows which is earlier
            if before not in {None, now} and (
                now is None or cursor.last_value_func((before, now)) == before
            ):
                yield (
                    f"{source}.{resource.name}: its rows were read from {before} on, and what lies "
                    f"between that and initial_value ({now}) is not read: `etl run --full-refresh "
                    f"--source {source}` reads everything anew"
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
