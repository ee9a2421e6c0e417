"""A lending library with a REST API that nothing else in the project knows, on two days.

Books are kept up to date and may be deleted, each with a list of its copies; loans are only ever
added; branches are told anew each day. On the second day books and loans have a field more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.extracting import Api, serving

Row = dict[str, Any]
PAGE = 40
# What a person writes to read it: the whole source.
SOURCE = """
sources:
  library:
    client: {{base_url: "{url}", paginator: {{type: page_number, base_page: 1, total_path: pages}}}}
    resource_defaults: {{endpoint: {{data_selector: items}}}}
    resources:
      - name: books
        primary_key: id
        write_disposition: merge
        columns: {{deleted: {{data_type: bool, hard_delete: true}}}}
      - name: loans
        primary_key: number
        write_disposition: append
        endpoint: {{incremental: {{cursor_path: number, start_param: after, initial_value: 0}}}}
      - name: branches
        write_disposition: replace
"""


def books(day: int) -> list[Row]:
    """All books, deleted ones marked."""
    return [_book(n, day) for n in range(1, 96 if day == 1 else 101)]


def _book(number: int, day: int) -> Row:
    copies = [
        {"shelf": f"{number}-{n}", "is_worn": (number + n) % 3 == 0} for n in range(number % 4)
    ]
    book: Row = {"id": number, "title": f"Book {number}", "price": number / 4, "deleted": False}
    if day == 2:
        book["language"] = "eo" if number % 2 else "la"
        book["deleted"] = number % 10 == 0
        if number % 7 == 0:
            book["price"] += 100
            copies = copies[1:]
    return book | {"copies": copies}


def loans(day: int) -> list[Row]:
    """All loans so far."""
    first = [{"number": n, "book": n % 95 + 1, "member": f"m{n % 9}"} for n in range(1, 131)]
    later = [
        {"number": n, "book": n % 95 + 1, "member": "new", "desk": n % 3} for n in range(131, 171)
    ]
    return first if day == 1 else [*first, *later]


def branches(day: int) -> list[Row]:
    """The branches of the day."""
    towns = {1: ("Ulm", "Bern", "Graz", "Metz", "Gent"), 2: ("Ulm", "Bern", "Trier")}
    return [{"town": town, "seats": len(town) * 10 * day} for town in towns[day]]


class Library:
    """The API on loopback; `day` is 1 or 2."""

    def __init__(self) -> None:
        self.day = 1
        self.url = ""

    def answer(self, path: str, query: dict[str, str], _: dict[str, str]) -> Any:
        """One page."""
        rows = {"/books": books, "/loans": loans, "/branches": branches}[path](self.day)
        if "after" in query:
            rows = [r for r in rows if r["number"] > int(query["after"])]
        page = int(query.get("page", 1))
        pages = max(1, -(-len(rows) // PAGE))
        return {"items": rows[(page - 1) * PAGE : page * PAGE], "pages": pages}


@contextmanager
def open_library() -> Iterator[Library]:
    """The library's API while the block runs."""
    library = Library()
    with serving(library.answer) as api:
        assert isinstance(api, Api)
        library.url = api.url
        yield library
