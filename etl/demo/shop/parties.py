"""Countries, companies and customers of the shop on a day, as its API shows them.

A day means 00:00 UTC of it: what happened on the days before is there, nothing lies in the future.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Final

from etl.demo.dice import Dice
from etl.demo.shop.names import COUNTRIES, FAMILY_NAMES, FIRMS, FORMS, GIVEN_NAMES, Country

Row = dict[str, Any]

COMPANIES: Final = 40
FIRST_CUSTOMERS: Final = 400
NEW_CUSTOMER_DAYS: Final = 4
"""From `GROWS_FROM` on there is one customer more in so many days."""
GROWS_FROM: Final = date(2025, 1, 1)
HOME: Final = COUNTRIES[0]
"""Private customers pay in its money."""

_OPENING: Final = date(2022, 11, 17).toordinal()
_COMPANY_RENAMED_DAYS, _CUSTOMER_RENAMED_DAYS = 200, 150


def countries(day: date) -> list[Row]:
    """The countries by code; `eur_rate`, EUR per unit of the currency, is set monthly."""
    month = day.replace(day=1)
    rows: list[Row] = []
    for country in sorted(COUNTRIES, key=lambda c: c.code):
        fixed = country.rate == 1
        rows.append(
            {
                "code": country.code,
                "name": country.name,
                "currency": country.currency,
                "eur_rate": f"{_eur_rate(country, month):.8f}",
                "updated_at": f"{date.fromordinal(_OPENING) if fixed else month}T00:00:00Z",
            }
        )
    return rows


def companies(day: date) -> list[Row]:
    """The companies by id; each takes another name now and then."""
    return [_company(number, day.toordinal() - 1) for number in range(COMPANIES)]


def customers(day: date) -> list[Row]:
    """The customers, those that changed last at the end; `company_id` is null for private ones."""
    rows = [_customer(number, day.toordinal() - 1) for number in range(count_customers(day))]
    return sorted(rows, key=lambda row: (row["updated_at"], row["id"]))


def count_customers(day: date) -> int:
    """How many customers there are; their ids count from 1."""
    return FIRST_CUSTOMERS + max(0, (day - GROWS_FROM).days // NEW_CUSTOMER_DAYS)


def country_of(customer: int) -> Country | None:
    """The country of the customer's company by the customer's id, None for private ones."""
    company = _company_of(customer - 1)
    return None if company is None else _country_of(company)


def instant(ordinal: int, what: str) -> str:
    """When on that day something happened: ISO 8601 in UTC, whole seconds."""
    dice = Dice(f"at:{ordinal}:{what}")
    return f"{date.fromordinal(ordinal)}T{dice.roll(24):02}:{dice.roll(60):02}:{dice.roll(60):02}Z"


def _eur_rate(country: Country, month: date) -> Decimal:
    if country.rate == 1:
        return country.rate
    moved = Dice(f"rate:{country.currency}:{month}").roll(401) - 200
    return country.rate * (10_000 + moved) / 10_000


def _country_of(company: int) -> Country:
    return Dice(f"company:{company}:country").pick(COUNTRIES)


def _company_of(customer: int) -> int | None:
    dice = Dice(f"customer:{customer}:company")
    return None if dice.chance(20) else dice.roll(COMPANIES)


def _company(number: int, today: int) -> Row:
    dice = Dice(f"company:{number}")
    renamed, version = _last(today, number, _COMPANY_RENAMED_DAYS)
    name = FIRMS[(dice.roll(len(FIRMS)) + version) % len(FIRMS)]
    row: Row = {"id": number + 1, "name": f"{name} {dice.pick(FORMS)}"}
    row["country_code"] = _country_of(number).code
    row["vat_id"] = f"{row['country_code']}{dice.roll(10**9):09}" if dice.chance(70) else None
    row["created_at"] = instant(_OPENING + dice.roll(300), f"company:{number}")
    row["updated_at"] = instant(renamed, f"company:{number}")
    return row


def _customer(number: int, today: int) -> Row:
    dice = Dice(f"customer:{number}")
    renamed, version = _last(today, number, _CUSTOMER_RENAMED_DAYS)
    joined = _OPENING + dice.roll(400)
    if number >= FIRST_CUSTOMERS:
        extra = number - FIRST_CUSTOMERS + 1
        joined = GROWS_FROM.toordinal() + extra * NEW_CUSTOMER_DAYS - 1
    family = FAMILY_NAMES[(dice.roll(len(FAMILY_NAMES)) + version) % len(FAMILY_NAMES)]
    company = _company_of(number)
    row: Row = {"id": number + 1, "name": f"{dice.pick(GIVEN_NAMES)} {family}"}
    row["email"] = f"c{number + 1}@{dice.pick(('example.com', 'example.org', 'schach.example'))}"
    row["company_id"] = None if company is None else company + 1
    row["created_at"] = instant(joined, f"customer:{number}")
    row["updated_at"] = instant(max(joined, renamed), f"customer:{number}")
    return row


def _last(today: int, number: int, every: int) -> tuple[int, int]:
    """The day of something's last change of name, and how many there were."""
    version, since = divmod(today + number * 7, every)
    return today - since, version
