"""The replay's shop is the same for everyone, and tells all that changes from day to day."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from etl.demo import Fault, Replay
from etl.demo.shop.orders import orders
from etl.demo.shop.parties import companies, countries, customers

NEW_YEAR = date(2026, 1, 1)
LISTS: dict[str, Callable[[date], list[dict[str, Any]]]] = {
    "countries": countries,
    "companies": companies,
    "customers": customers,
    "orders": orders,
}
DAYS = [NEW_YEAR + timedelta(days=n) for n in (0, 31, 200, 700, 1500)]


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay(NEW_YEAR) as running:
        yield running


def key_of(row: dict[str, Any]) -> Any:
    return row.get("id", row.get("code"))


def ask(replay: Replay, resource: str, **query: Any) -> requests.Response:
    return requests.get(replay.shop_url + resource, params=query, timeout=10)


def read(replay: Replay, resource: str, **query: Any) -> list[dict[str, Any]]:
    """All rows, page after page, by whatever the answers say of the next one."""
    rows: list[dict[str, Any]] = []
    url: str | None = replay.shop_url + resource
    while url is not None:
        answer = requests.get(url, params=query, timeout=10)
        body = answer.json()
        rows += body["data"]
        if resource == "orders":
            url, query = answer.links.get("next", {}).get("url"), {}
        elif body["page"] < body["total_pages"]:
            query["page"] = body["page"] + 1
        else:
            url = None
    return rows


# -- the data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", DAYS)
def test_size_stays_that_of_a_quick_demo(day: date) -> None:
    assert len(countries(day)) == 30
    assert len(companies(day)) == 40
    assert 400 <= len(customers(day)) < 1000
    assert 1300 < len(orders(day)) < 1700


@pytest.mark.parametrize("name", LISTS)
def test_nothing_stands_twice_or_lies_in_the_future(name: str) -> None:
    rows = LISTS[name](NEW_YEAR)
    assert len({key_of(row) for row in rows}) == len(rows)
    assert max(row["updated_at"] for row in rows) <= f"{NEW_YEAR}T00:00:00Z"


@pytest.mark.parametrize("name", ["countries", "companies", "customers"])
@pytest.mark.parametrize("day", [NEW_YEAR - timedelta(days=1), *DAYS])
def test_what_changes_in_a_day_says_so_in_updated_at(name: str, day: date) -> None:
    before = {key_of(row): row for row in LISTS[name](day)}
    after = LISTS[name](day + timedelta(days=1))
    assert {key_of(row) for row in after} >= set(before)
    for row in after:
        if row != before.get(key_of(row)):
            assert row["updated_at"] >= f"{day}T00:00:00Z"


def test_every_order_that_changes_says_so_and_none_vanishes() -> None:
    """For 70 days, longer than any order lives: what an incremental reader misses, nobody says."""
    since = NEW_YEAR - timedelta(days=31)
    known = {row["id"]: row for row in orders(NEW_YEAR, since)}
    day = NEW_YEAR
    for _ in range(70):
        day += timedelta(days=1)
        news = [r for r in orders(day) if r["updated_at"] >= f"{day - timedelta(days=1)}"]
        known |= {row["id"]: row for row in news}
        assert 40 < len(news) < 250
    assert known == {row["id"]: row for row in orders(day, since)}


def test_orders_change_late_in_all_the_ways_that_matter() -> None:
    """What became of the orders of one day a month later, counted over 70 days."""
    seen: Counter[str] = Counter()
    since = NEW_YEAR - timedelta(days=31)
    before = {row["id"]: row for row in orders(NEW_YEAR, since)}
    for row in orders(NEW_YEAR + timedelta(days=70), since):
        old = before.get(row["id"])
        if old is None or old["is_deleted"]:
            continue
        if row["is_deleted"]:
            seen["deleted"] += 1
            continue
        seen["status"] += row["status"] != old["status"]
        seen["added"] += len(row["lines"]) > len(old["lines"])
        seen["removed"] += len(row["lines"]) < len(old["lines"])
        for new_line, old_line in zip(row["lines"], old["lines"], strict=False):
            seen["quantity"] += new_line["quantity"] > old_line["quantity"]
            seen["discount"] += new_line["discounts"] != old_line["discounts"]
    assert all(seen[what] for what in ("deleted", "status", "added", "removed", "quantity"))
    assert seen["discount"] > 1


def test_orders_hold_every_shape_of_nesting() -> None:
    standing = [row for row in orders(NEW_YEAR) if not row["is_deleted"]]
    lines: list[dict[str, Any]] = [line for row in standing for line in row["lines"]]
    assert any(not row["lines"] for row in standing)
    assert {len(line["discounts"]) for line in lines} == {0, 1, 2}
    assert any(not line["title"].isascii() for line in lines)
    assert all(Decimal(line["unit_price"]) > 0 for line in lines)
    for line in lines:
        granted = sum(Decimal(discount["amount"]) for discount in line["discounts"])
        assert 0 <= granted < line["quantity"] * Decimal(line["unit_price"])


@pytest.mark.parametrize("day", DAYS)
def test_every_reference_is_good_and_currencies_agree(day: date) -> None:
    country_of = {row["code"]: row for row in countries(day)}
    company_of = {row["id"]: row for row in companies(day)}
    customer_of = {row["id"]: row for row in customers(day)}
    assert all(row["country_code"] in country_of for row in company_of.values())
    private = [row for row in customer_of.values() if row["company_id"] is None]
    assert 0 < len(private) < len(customer_of) / 2
    for order in orders(day):
        if order["is_deleted"]:
            continue
        company = customer_of[order["customer_id"]]["company_id"]
        country = country_of["DE" if company is None else company_of[company]["country_code"]]
        assert order["currency"] == country["currency"]


def test_rates_move_monthly_but_not_that_of_the_euro() -> None:
    first, same, later = (
        {row["code"]: row["eur_rate"] for row in countries(day)}
        for day in (NEW_YEAR, date(2026, 1, 31), date(2026, 2, 1))
    )
    assert first == same
    assert {code for code in first if first[code] == later[code]} >= {"DE", "FR"}
    assert sum(first[code] != later[code] for code in first) > 20


# -- the API ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_page", [7, 50, 250])
@pytest.mark.parametrize("name", LISTS)
def test_pages_make_up_the_whole_list(replay: Replay, name: str, per_page: int) -> None:
    rows = LISTS[name](NEW_YEAR)
    assert read(replay, name, per_page=per_page) == rows
    assert len(replay.requests) == -(-len(rows) // per_page)


@pytest.mark.parametrize("name", ["customers", "orders"])
def test_updated_since_brings_what_changed_then_or_later(replay: Replay, name: str) -> None:
    rows = LISTS[name](NEW_YEAR)
    middle = rows[len(rows) // 2]["updated_at"]
    found = read(replay, name, updated_since=middle, per_page=50)
    assert found == [row for row in rows if row["updated_at"] >= middle]
    assert found[0]["updated_at"] == middle
    shifted = f"{middle[:-1]}.000+00:00"
    assert read(replay, name, updated_since=shifted) == found


def test_updated_since_does_not_reach_beyond_what_the_api_shows(replay: Replay) -> None:
    found = read(replay, "orders", updated_since="2020-01-01T00:00:00Z", per_page=250)
    assert found == orders(NEW_YEAR)
    assert min(row["updated_at"] for row in found) >= "2025-12-01T00:00:00Z"


@pytest.mark.parametrize("name", ["customers", "orders"])
def test_nothing_new_is_one_empty_page(replay: Replay, name: str) -> None:
    answer = ask(replay, name, updated_since="2026-01-01T00:00:00Z")
    assert answer.json()["data"] == []
    assert "next" not in answer.links
    assert answer.json().get("total_pages", 0) == 0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"page": 0}, "page is '0', not a whole number from 1"),
        ({"page": "²"}, "page is '²'"),
        ({"per_page": 251}, "per_page is 251, at most 250 are served"),
        ({"updated_since": "yesterday"}, "updated_since is 'yesterday', not an ISO 8601 instant"),
        ({"updated_since": "2026-01-01T00:00:00"}, "without a time zone"),
    ],
)
def test_wrong_parameters_are_refused_in_words(
    replay: Replay, query: dict[str, Any], told: str
) -> None:
    answer = ask(replay, "orders", **query)
    assert answer.status_code == 400
    assert told in answer.json()["message"]


def test_unknown_resource_is_not_found(replay: Replay) -> None:
    assert ask(replay, "invoices").status_code == 404
    assert ask(replay, "").status_code == 404


def test_requests_are_noted_with_their_page(replay: Replay) -> None:
    ask(replay, "orders", page=3)
    (seen,) = replay.requests
    assert (seen.method, seen.page, seen.status) == ("shop/v1/orders", 3, 200)


def test_token_and_rate_limit_hold_for_the_shop() -> None:
    with Replay(NEW_YEAR, token="t", rate_limit=(2, 60)) as replay:
        told = {"Authorization": "Bearer t"}
        url = f"{replay.shop_url}countries"
        codes = [requests.get(url, timeout=10).status_code]
        codes += [requests.get(url, headers=told, timeout=10).status_code for _ in range(2)]
    assert codes == [401, 200, 429]


# -- faults ----------------------------------------------------------------------------------------


def test_fault_strikes_the_resource_and_page_that_it_names(replay: Replay) -> None:
    replay.faults = [Fault("500", method="orders", page=2)]
    assert ask(replay, "orders", page=1).status_code == 200
    assert ask(replay, "orders", page=2).status_code == 500
    assert ask(replay, "customers", page=2).status_code == 200


def test_link_that_repeats_leads_back_to_its_page(replay: Replay) -> None:
    replay.faults = [Fault("repeat_cursor", method="orders", page=2, times=1)]
    answer = ask(replay, "orders", page=2, per_page=100)
    again = requests.get(answer.links["next"]["url"], timeout=10)
    assert again.json() == answer.json()
    assert again.links["next"]["url"] != answer.links["next"]["url"]


def test_rows_of_an_empty_page_come_with_its_link(replay: Replay) -> None:
    replay.faults = [Fault("empty_page", method="orders", page=2)]
    assert read(replay, "orders", per_page=100) == orders(NEW_YEAR)
    assert len(replay.requests) == -(-len(orders(NEW_YEAR)) // 100) + 1


@pytest.mark.parametrize("kind", ["no_cursor", "null_cursor"])
def test_pages_end_early_when_told(replay: Replay, kind: str) -> None:
    replay.faults = [Fault(kind, page=2)]
    linked, numbered = (ask(replay, name, page=2) for name in ("orders", "customers"))
    assert "next" not in linked.links
    assert numbered.json()["total_pages"] == (2 if kind == "no_cursor" else None)


def test_numbered_pages_can_announce_one_too_many(replay: Replay) -> None:
    replay.faults = [Fault("repeat_cursor", method="companies")]
    assert ask(replay, "companies", page=1).json()["total_pages"] == 2


def test_page_can_lack_its_rows_or_a_field_of_theirs(replay: Replay) -> None:
    replay.faults = [Fault("missing_field", method="companies")]
    assert "data" not in ask(replay, "companies").json()
    replay.faults = [Fault("drop_field", method="companies", field="name")]
    assert all("name" not in row for row in ask(replay, "companies").json()["data"])
    replay.faults = [Fault("extra_field", method="companies", field="vat_id", value=7)]
    assert all(row["vat_id"] == 7 for row in ask(replay, "companies").json()["data"])
    replay.faults = [Fault("empty", method="companies")]
    assert json.loads(ask(replay, "companies").text)["data"] == []
