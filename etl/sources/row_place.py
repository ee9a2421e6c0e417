"""Where the rows of an answer are: found as dlt finds them, and held to stay there."""

from __future__ import annotations

from typing import Any, NamedTuple

from dlt.common import jsonpath
from dlt.sources.helpers.rest_client.detector import find_response_page_data

from etl.sources.answers import EMPTY_HINT, FAILED_HINT, is_error, says_error
from etl.sources.monitor import Monitor


class Fault(NamedTuple):
    """What is wrong with an answer, and what to do; without a hint, what is always to be done."""

    what: str
    hint: str = ""


class RowPlace:
    """The place of a resource's rows in the answers of one chain of pages.

    `selector` is None until dlt's guess about the first page; `rows` is the list of the newest page
    that holds them, None where it is no list.
    """

    def __init__(
        self, monitor: Monitor, resource: str, selector: jsonpath.TJsonPath | None
    ) -> None:
        self._monitor = monitor
        self._resource = resource
        self.selector = jsonpath.compile_path(selector) if selector else None
        self.rows: Any = None

    @property
    def looks_into_rows(self) -> bool:
        """True for a selector such as `a[*].b`: it finds another number of rows than came."""
        return "*" in str(self.selector)

    def look(self, answer: Any, rows: int) -> Fault | None:
        """Look at an answer of which dlt took so many rows; what is wrong with it, if anything is.

        Rows have to be where they were on the pages before, and in the run before.
        """
        base = find_base(answer, self.selector)
        if (rows == 0 and says_error(answer)) or self._is_of_error(answer, base):
            return Fault(f"`{says_error(answer)}` says that the API failed", FAILED_HINT)
        bases = self._monitor.bases
        earlier = bases.get(self._resource) or self._monitor.earlier_bases.get(self._resource)
        if self.selector is None:
            # dlt guesses where rows are on the first page of a chain. What it finds in an error's
            # JSON are no rows of the resource.
            if earlier is not None and base != earlier:
                return Fault(
                    f"rows were at `{earlier}` before, now dlt finds them at `{base}`",
                    "if this is no error of the API, name the `data_selector` of the resource",
                )
            self.selector = jsonpath.compile_path(base.removesuffix("[*]"))
        if rows:
            bases.setdefault(self._resource, base)
        found = [one.value for one in self.selector.find(answer)]
        if rows == 0 and (found[0] is None if found else not self._is_emptied(answer)):
            if self._monitor.settings.guards.omits_empty:
                return None
            return Fault(f"the page has no field `{self.selector}`", EMPTY_HINT)
        # What is no list is a row to dlt, and an error's JSON none of the resource.
        if earlier == f"{base}[*]":
            return Fault("the answer is no list as before")
        if len(found) > 1 and any(isinstance(one, list) for one in found):
            return Fault(
                f"`{self.selector}` finds {len(found)} places and lists in them, where rows are",
                "let `data_selector` find rows, or one list: `a[*].rows[*]`",
            )
        return self._look_at(found[0]) if len(found) == 1 else None

    def _is_of_error(self, answer: Any, base: str) -> bool:
        """Whether the rows are what an answer tells of an error: all of it, or a list of them."""
        is_guessed = self.selector is None and base == "$.errors[*]"
        return is_guessed or (base in {"$", "$."} and is_error(answer))

    def _look_at(self, found: Any) -> Fault | None:
        if not isinstance(found, list | dict) and not self.looks_into_rows:
            return Fault(f"`{self.selector}` holds no rows and no list of them")
        if self.rows is not None and not isinstance(found, list):
            return Fault(f"`{self.selector}` is no list as on the page before")
        self.rows = found if isinstance(found, list) else None
        return None

    def _is_emptied(self, answer: Any) -> bool:
        """True where a selector of a list's items finds none, for the list is empty."""
        before, mark, _ = str(self.selector).partition("*")
        found = jsonpath.compile_path(before.rstrip(".[") or "$").find(answer) if mark else []
        return any(one.value == [] for one in found)


def find_base(answer: Any, selector: Any) -> str:
    """The JSON path of a row in an answer that has some, as dlt looks for rows.

    Without a selector dlt takes the list that looks most like rows, or the answer itself.
    """
    if selector is None:
        path, rows = find_response_page_data(answer)
        text = ".".join(path)
    else:
        found = selector.find(answer)
        rows = found[0].value if len(found) == 1 else None
        text = str(selector).replace(".*", "[*]").replace(".[", "[")
    base = text if text.startswith("$") else f"$.{text}"
    return f"{base}[*]" if isinstance(rows, list) else base
