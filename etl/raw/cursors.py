"""Cursors that stand at a time to come: what comes with an earlier one until then is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

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
                        "come: rows that come with an earlier one are left out"
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
