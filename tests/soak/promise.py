"""What is true after an exit code 0: every mart is what the API has, at every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from dlt.common.normalizers.naming.snake_case import NamingConvention

from tests.soak.api import ORDER, Api, Row
from tests.soak.project import MARTS, Settings

# What every row of orders and people has; the other fields came later.
FIELDS = {"id", "status", "updated_at", "lines", "name"}


class BrokenError(Exception):
    """A promise that was not kept."""


def check(
    data: Path,
    server: psycopg.Connection[Any],
    api: Api,
    settings: Settings,
    resources: Collection[str],
    targets: Collection[str],
) -> None:
    """Compare API, marts and targets, as far as these were read and reached. Raises BrokenError."""
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if "marts" in targets:
            connection.execute(f"ATTACH '{data / 'marts.duckdb'}' AS published (READ_ONLY)")
        connection.execute("USE warehouse.marts")
        expected = _expected(api)
        for name in settings.marts:
            mart = MARTS[name]
            if not set(mart.resources) <= set(resources):
                continue
            listed = ", ".join(mart.columns)
            rows = connection.execute(f"SELECT {listed} FROM {name} WHERE {mart.where}").fetchall()
            _compare(name, rows, expected[name])
            columns, there = _read(
                connection.execute, name, mart.key if name in settings.columns else ()
            )
            key, table = [columns.index(column) for column in mart.key], settings.tables[name]
            for target, execute, source in (
                ("marts", connection.execute, f"published.main.{table}"),
                ("lake", connection.execute, f"'{data / 'lake' / table / '*.parquet'}'"),
                ("pg", lambda sql: server.execute(sql.encode()), f"reports.{table}"),
            ):
                if target in targets:
                    found = _read(execute, source, columns)[1]
                    _check_table(
                        f"{name} at {target}", settings.strategies[name], key, found, there
                    )
        for resource, source in (
            ("orders", "dim_api__orders"),
            ("items", "dim_shop__items"),
            ("people", "dim_api__people WHERE is_current"),
        ):
            if resource in resources:
                _check_fields(connection, source, api.alive(resource))


def check_history(data: Path, before: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """The versions of orders that are over; what was over before has to be among them.

    Raises BrokenError.
    """
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        over = connection.execute(
            "SELECT id, status, valid_from, valid_to FROM marts.order_history "
            "WHERE valid_to IS NOT NULL"
        ).fetchall()
        (overlaps,) = connection.execute(
            "SELECT count(*) FROM marts.order_history AS a JOIN marts.order_history AS b "
            "ON a.id = b.id AND a.valid_from < b.valid_from "
            "AND coalesce(a.valid_to, 'infinity') > b.valid_from"
        ).fetchall()
    if overlaps[0] or len(set(over)) < len(over) or not before <= set(over):
        raise BrokenError(
            f"order_history: {overlaps[0]} overlaps, lost: {sorted(before - set(over))[:5]}"
        )
    return set(over)


def _expected(api: Api) -> dict[str, list[Sequence[Any]]]:
    rows = {resource: api.alive(resource) for resource in ORDER}
    rates = [{k: r["rate"] for k, r in rows[name].items()} for name in ("countries", "stores")]

    def lines(resource: str) -> Iterator[tuple[int, int, Row]]:
        for key, row in rows[resource].items():
            for number, line in enumerate(row["lines"]):
                yield key, number, line

    def column(resource: str, name: str) -> list[Sequence[Any]]:
        return [(key, row[name]) for key, row in rows[resource].items()]

    return {
        "order_lines": [(k, n, line["sku"], line["quantity"]) for k, n, line in lines("orders")],
        "events": column("events", "kind"),
        "events_by_load": column("events", "kind"),
        "prices": column("prices", "price"),
        "states": list(Counter(r["status"] for r in rows["orders"].values()).items()),
        "order_history": column("orders", "status"),
        "item_lots": [
            (k, n, i, lot["v"])
            for k, n, line in lines("items")
            for i, lot in enumerate(line["lots"])
        ],
        "stock_lots": [(k, sum(v["v"] for v in r["lots"])) for k, r in rows["stock"].items()],
        "rates": [(k, rates[0].get(k), rates[1].get(k)) for k in rates[0] | rates[1]],
        "dim_api__orders": column("orders", "status"),
        "dim_api__countries": column("countries", "rate"),
        "dim_api__people": column("people", "name"),
        "dim_api__details": column("details", "country"),
        "dim_shop__items": column("items", "status"),
        "dim_shop__logs": column("logs", "kind"),
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
