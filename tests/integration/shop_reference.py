"""What raw tables and marts of the shop have to hold, in plain Python: no dlt, no SQL."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from etl.demo.shop.orders import OPEN_DAYS, orders
from etl.demo.shop.parties import companies, countries, customers

Rows = list[tuple[Any, ...]]
RevenueKey = tuple[date, str | None, int | None]
"""Day of the order in UTC, country code, company id; None for private customers."""

COLUMNS = {
    "countries": ("code", "name", "currency", "eur_rate", "updated_at"),
    "companies": ("id", "name", "country_code", "vat_id", "created_at", "updated_at"),
    "customers": ("id", "name", "email", "company_id", "created_at", "updated_at"),
    "orders": (
        "id", "number", "customer_id", "status", "currency", "placed_at", "updated_at",
        "is_deleted", "note", "delivery__method", "delivery__city",
    ),
    "orders__lines": ("line_no", "sku", "title", "quantity", "unit_price"),
    "orders__lines__discounts": ("code", "amount"),
}  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """The shop as whoever has read it since `first` knows it after reading on `day`.

    The readings may lie up to `OPEN_DAYS` apart. The API shows what changed in that many days, so
    the first reading decides how far back the orders go.
    """

    day: date
    first: date

    def tables(self) -> dict[str, Rows]:
        """The rows of each raw table, in any order, by the columns of `COLUMNS`.

        Rows of nested tables begin with the order's id and their positions, from 0.
        """
        return {
            "countries": [_values("countries", row) for row in countries(self.day)],
            "companies": [_values("companies", row) for row in companies(self.day)],
            "customers": [_values("customers", row) for row in customers(self.day)],
            "orders": [_values("orders", _flat(row)) for row in self.orders()],
            "orders__lines": [
                (order["id"], i, *_values("orders__lines", line))
                for order in self.orders()
                for i, line in enumerate(order["lines"])
            ],
            "orders__lines__discounts": [
                (order["id"], i, k, *_values("orders__lines__discounts", discount))
                for order in self.orders()
                for i, line in enumerate(order["lines"])
                for k, discount in enumerate(line["discounts"])
            ],
        }

    def orders(self) -> list[dict[str, Any]]:
        """The orders that stand, as the API tells them."""
        since = self.first - timedelta(days=OPEN_DAYS)
        return [row for row in orders(self.day, since) if not row["is_deleted"]]

    def revenue(self) -> dict[RevenueKey, Decimal]:
        """EUR, not rounded, of all lines less their discounts; orders sent back bring nothing.

        Every amount is worth what the customer's country has as its rate now; private customers
        pay in EUR.
        """
        rates = {row["code"]: Decimal(str(row["eur_rate"])) for row in countries(self.day)}
        country_of = {row["id"]: str(row["country_code"]) for row in companies(self.day)}
        company_of: dict[Any, Any] = {row["id"]: row["company_id"] for row in customers(self.day)}
        found: dict[RevenueKey, Decimal] = defaultdict(Decimal)
        for order in self.orders():
            if order["status"] == "returned":
                continue
            company = company_of[order["customer_id"]]
            country = None if company is None else country_of[company]
            rate = Decimal(1) if country is None else rates[country]
            day = datetime.fromisoformat(order["placed_at"]).date()
            for line in order["lines"]:
                value = line["quantity"] * Decimal(line["unit_price"])
                value -= sum(Decimal(d["amount"]) for d in line["discounts"])
                found[day, country, company] += value * rate
        return dict(found)


def _flat(order: dict[str, Any]) -> dict[str, Any]:
    return order | {f"delivery__{key}": value for key, value in order["delivery"].items()}


def _values(table: str, row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_value(name, row[name]) for name in COLUMNS[table])


def _value(column: str, value: Any) -> Any:
    if column in ("unit_price", "amount", "eur_rate"):
        return Decimal(value)
    if column.endswith("_at"):
        return datetime.fromisoformat(value)
    return value
