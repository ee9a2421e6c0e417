"""What is true after an exit code 0: every mart is what the API has, at every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from dlt.common.normalizers.naming.snake_case import NamingConvention

from tests.soak.api import Api, Row
from tests.soak.project import MARTS

# What every row of orders and people has; the other fields came later.
FIELDS = {"id", "status", "updated_at", "lines", "name"}
# The marts as a reader asks for them, with the columns that the API tells of.
READ = {
    "order_lines": "SELECT id, line, sku, quantity FROM order_lines",
    "events": "SELECT seq, kind FROM events",
    "events_by_load": "SELECT seq, kind FROM events_by_load",
    "prices": "SELECT product, price FROM prices "
    "WHERE snapshot_date = (SELECT max(snapshot_date) FROM prices)",
    "states": "SELECT status, n FROM states",
    "dim_api__orders": "SELECT id, status FROM dim_api__orders",
    "dim_api__countries": "SELECT code, rate FROM dim_api__countries",
    "dim_api__people": "SELECT id, name FROM dim_api__people WHERE is_current",
}


class BrokenError(Exception):
    """A promise that was not kept."""


def check(
    data: Path, server: psycopg.Connection[Any], api: Api, strategies: Mapping[str, str]
) -> None:
    """Compare API, marts and targets. Raises BrokenError."""
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH '{data / 'marts.duckdb'}' AS published (READ_ONLY)")
        connection.execute("USE warehouse.marts")
        for mart, rows in _expected(api).items():
            _compare(mart, connection.execute(READ[mart]).fetchall(), rows)
        _check_fields(connection, "dim_api__orders", api.orders())
        _check_fields(connection, "dim_api__people WHERE is_current", api.rows["people"])
        for mart, strategy in strategies.items():
            columns, there = _read(connection.execute, mart)
            key = [columns.index(name) for name in MARTS[mart]]
            for target, execute, source in (
                ("marts", connection.execute, f"published.main.{mart}"),
                ("lake", connection.execute, f"'{data / 'lake' / mart / '*.parquet'}'"),
                ("pg", lambda sql: server.execute(sql.encode()), f"reports.{mart}"),
            ):
                found = _read(execute, source, columns)[1]
                _check_table(f"{mart} at {target}", strategy, key, found, there)


def _expected(api: Api) -> dict[str, list[Sequence[Any]]]:
    orders, rows = api.orders(), api.rows
    events: list[Sequence[Any]] = [(k, r["kind"]) for k, r in rows["events"].items()]
    return {
        "order_lines": [
            (key, number, line["sku"], line["quantity"])
            for key, order in orders.items()
            for number, line in enumerate(order["lines"])
        ],
        "events": events,
        "events_by_load": events,
        "prices": [(k, r["price"]) for k, r in rows["prices"].items()],
        "states": list(Counter(r["status"] for r in orders.values()).items()),
        "dim_api__orders": [(k, r["status"]) for k, r in orders.items()],
        "dim_api__countries": [(k, r["rate"]) for k, r in rows["countries"].items()],
        "dim_api__people": [(k, r["name"]) for k, r in rows["people"].items()],
    }


def _read(
    execute: Callable[[str], Any], source: str, columns: Iterable[str] = ()
) -> tuple[list[str], list[list[Any]]]:
    listed = ", ".join(f'"{column}"' for column in columns) or "*"
    cursor = execute(f"SELECT {listed} FROM {source}")
    rows = [[_plain(value) for value in row] for row in cursor.fetchall()]
    return [str(column[0]) for column in cursor.description], rows


def _plain(value: Any) -> Any:
    """Both libraries have time zones of their own."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def _compare(what: str, found: Iterable[Sequence[Any]], expected: Iterable[Sequence[Any]]) -> None:
    there, right = (Counter(map(repr, map(list, rows))) for rows in (found, expected))
    if there != right:
        raise BrokenError(
            f"{what}: {there.total()} rows, should be {right.total()}; "
            f"too many: {list(there - right)[:5]}, missing: {list(right - there)[:5]}"
        )


def _check_table(
    what: str, strategy: str, key: list[int], found: list[list[Any]], mart: list[list[Any]]
) -> None:
    if strategy != "replace":  # rows that left the mart may stay
        keys = {repr([row[i] for i in key]) for row in mart}
        found = [row for row in found if repr([row[i] for i in key]) in keys]
    if strategy == "append_once":  # and others may have changed since
        found, mart = ([[row[i] for i in key] for row in rows] for rows in (found, mart))
    _compare(what, found, mart)


def _check_fields(
    connection: duckdb.DuckDBPyConnection, source: str, truth: Mapping[Any, Row]
) -> None:
    """Fields that came later are in their columns, or in those of values of another type."""
    columns, found = _read(connection.execute, source)
    rows = {row[columns.index("id")]: dict(zip(columns, row, strict=True)) for row in found}
    normalize = NamingConvention().normalize_identifier
    for key, row in truth.items():
        for name, value in row.items():
            if name in FIELDS or isinstance(value, list | dict):
                continue
            column = normalize(name)
            stored = [
                v for c, v in rows[key].items() if c == column or c.startswith(f"{column}__v_")
            ]
            if not any(_is_same(v, value) for v in stored):
                raise BrokenError(f"{source}, id {key}: {name} is {stored}, should be {value!r}")


def _is_same(stored: Any, value: Any) -> bool:
    """dlt takes a text for a number, a day or a flag where the column is of these."""
    if stored is None:
        return False
    if isinstance(value, float) and isinstance(stored, float | int):
        return not isinstance(stored, bool) and isclose(stored, value, abs_tol=1e-9)
    texts = {str(value), str(value).lower(), f"{value}T00:00:00+00:00"}
    return bool(stored == value) or str(stored) in texts
