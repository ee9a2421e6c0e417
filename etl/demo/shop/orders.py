"""Orders of the shop: placed, paid, sent, corrected, cancelled for good; what each is on a day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from etl.demo.dice import Dice
from etl.demo.shop.names import CITIES, CODES, NOTES, PRODUCTS, Country
from etl.demo.shop.parties import HOME, Row, count_customers, country_of, instant

OPEN_DAYS: Final = 31
"""The API shows orders that changed in so many days; older ones it keeps to itself."""

_LONGEST_LIFE: Final = 60
_PER_DAY: Final = 100
_CENT: Final = Decimal("0.01")
_CHANGES: Final = (
    "line_added", "line_removed", "quantity", "discount_corrected", "discounts_removed",
)  # fmt: skip
_Event = tuple[int, str]


def orders(day: date, since: date | None = None) -> list[Row]:
    """The orders at 00:00 of `day` that changed on `since` or later, the last changed at the end.

    Without `since` they are those that the API shows. One that was cancelled for good is a
    tombstone: `id`, `is_deleted` true and `updated_at`. All amounts are decimals as text, in the
    order's `currency`: what a line brings is `quantity * unit_price` less its discounts' `amount`.
    """
    return [json.loads(row) for _, row in encoded_orders(day, since)]


@lru_cache(maxsize=64)
def encoded_orders(day: date, since: date | None = None) -> tuple[tuple[str, bytes], ...]:
    """The same, each as (updated_at, JSON)."""
    first = (since or day - timedelta(days=OPEN_DAYS)).toordinal()
    today = day.toordinal() - 1
    found = []
    for order in _placed(first - _LONGEST_LIFE, today):
        passed = sum(on <= today for on, _ in _history(order))
        if _changed_on(order, passed) >= first:
            found.append((*_encoded(order, passed), order))
    found.sort(key=lambda row: (row[0], row[2]))
    return tuple((updated_at, row) for updated_at, row, _ in found)


def _placed(first: int, last: int) -> Iterator[int]:
    """Ids of the orders of these days."""
    for placed in range(first, last + 1):
        for number in range(34 + Dice(f"orders:{placed}").roll(13)):
            yield placed * _PER_DAY + number


@lru_cache(maxsize=16_384)
def _history(order: int) -> tuple[_Event, ...]:
    """What happens to an order after it was placed: (day, event), in order of time."""
    placed, dice = order // _PER_DAY, Dice(f"order:{order}:history")
    paid = placed + dice.roll(2)
    shipped = paid + 1 + dice.roll(2)
    delivered = shipped + 1 + dice.roll(3)
    events = [(paid, "paid"), (shipped, "shipped"), (delivered, "delivered")]
    if dice.chance(5):
        events.append((delivered + 3 + dice.roll(12), "returned"))
    if dice.chance(15):
        events.append((placed + 1 + dice.roll(10), dice.pick(_CHANGES)))
    if dice.chance(3):
        events.append((placed + 30 + dice.roll(_LONGEST_LIFE - 30), dice.pick(_CHANGES)))
    if dice.chance(5):
        deleted = placed + 1 + dice.roll(14)
        events = [*(event for event in events if event[0] < deleted), (deleted, "deleted")]
    return tuple(sorted(events, key=lambda event: event[0]))


def _changed_on(order: int, passed: int) -> int:
    return _history(order)[passed - 1][0] if passed else order // _PER_DAY


@lru_cache(maxsize=16_384)
def _encoded(order: int, passed: int) -> tuple[str, bytes]:
    """(updated_at, JSON) of an order after the first `passed` events of its history."""
    row = _row(order, [event for _, event in _history(order)[:passed]])
    row["updated_at"] = instant(_changed_on(order, passed), f"order:{order}")
    return str(row["updated_at"]), orjson.dumps(row)


def _row(order: int, events: list[str]) -> Row:
    if "deleted" in events:
        return {"id": order, "is_deleted": True}
    placed, number = divmod(order, _PER_DAY)
    dice = Dice(f"order:{order}")
    customer = 1 + dice.roll(count_customers(date.fromordinal(placed)))
    country = country_of(customer) or HOME
    status = [e for e in events if e not in _CHANGES]
    return {
        "id": order,
        "number": f"S-{date.fromordinal(placed):%y%m%d}-{number:02}",
        "customer_id": customer,
        "status": status[-1] if status else "placed",
        "currency": country.currency,
        "placed_at": instant(placed, f"order:{order}"),
        "is_deleted": False,
        "note": dice.pick(NOTES) if dice.chance(10) else None,
        "delivery": {"method": dice.pick(("post", "courier", "pickup")), "city": dice.pick(CITIES)},
        "lines": _lines(order, country, dice, [e for e in events if e in _CHANGES]),
    }


def _lines(order: int, country: Country, dice: Dice, changes: list[str]) -> list[dict[str, Any]]:
    last = 0 if dice.chance(3) else 1 + dice.roll(3)
    lines = [_line(order, number, country) for number in range(1, last + 1)]
    for change in changes:
        if change == "line_added" or not lines:
            last += 1
            lines.append(_line(order, last, country))
        elif change == "line_removed":
            lines.pop()
        elif change == "quantity":
            lines[0]["quantity"] += 1
        elif change == "discounts_removed":
            lines[0]["discounts"] = []
        elif lines[0]["discounts"]:
            first = lines[0]["discounts"][0]
            first["amount"] = str(_round(Decimal(first["amount"]) / 2))
        else:
            lines[0]["discounts"] = [_discount("KULANZ", lines[0], 10)]
    return lines


def _line(order: int, number: int, country: Country) -> dict[str, Any]:
    dice = Dice(f"order:{order}:{number}")
    sku, title, price_eur = dice.pick(PRODUCTS)
    line: dict[str, Any] = {
        "line_no": number,
        "sku": sku,
        "title": title,
        "quantity": 1 + dice.roll(4),
        "unit_price": str(_round(price_eur / country.rate)),
    }
    granted = 0 if dice.chance(60) else 1 + dice.roll(2)
    line["discounts"] = [
        _discount(dice.pick(CODES), line, dice.pick((5, 10, 15))) for _ in range(granted)
    ]
    return line


def _discount(code: str, line: dict[str, Any], percent: int) -> dict[str, Any]:
    value = line["quantity"] * Decimal(line["unit_price"])
    return {"code": code, "amount": str(_round(value * percent / 100))}


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)
