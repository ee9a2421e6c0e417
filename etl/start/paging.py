"""Guesses how an API goes on to its next page, from one answer to a request."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from etl.sources.asked import PAGE_SIZES
from etl.start.answer import (
    CURSOR,
    MORE,
    OFFSET,
    PAGE,
    TOTAL,
    TOTAL_HEADERS,
    TOTAL_PAGES,
    Answer,
    Paging,
)
from etl.start.shapes import Field, json_path, number, words


def guess_paging(answer: Answer, around: list[Field], rows: int, path: str) -> Paging:
    """The paginator of a list with so many rows, at `path`; `around` are the values beside it."""
    page = _Page(answer, around, rows, path)
    links = [p for p in (page.header_link(), page.json_link()) if p is not None]
    whole = next((p for p in links if p.sure), None)
    if whole is not None:
        return whole
    steps = (page.page_number, page.cursor, page.offset, page.page_until_empty)
    found = next((p for p in (step() for step in steps) if p is not None), None)
    return found or (links[0] if links else page.fallback())


class _Page:
    """One answer, asked for each kind of pagination in turn."""

    def __init__(self, answer: Answer, around: list[Field], rows: int, path: str) -> None:
        self.answer = answer
        self.path = path
        self.around = around
        self.rows = rows
        self.params = {"_".join(words(k)): k for k in answer.params}

    def header_link(self) -> Paging | None:
        url = self.answer.links.get("next")
        if not url:
            return None
        return self._link("header_link", "the Link header has rel=next", url)

    def json_link(self) -> Paging | None:
        """A URL in the body, under a key that says `next` or in an object that does."""
        for one in self.around:
            says_next = any("next" in words(k) or k.lower().startswith("next") for k in one.keys)
            if says_next and isinstance(one.value, str) and _is_link(one.value):
                settings = {"type": "json_link", "next_url_path": json_path(one.keys)}
                return self._link(settings, f"{one.path} holds the URL of the next page", one.value)
        return None

    def _link(self, settings: dict[str, Any] | str, evidence: str, url: str) -> Paging:
        """A link is sure when it carries on all that was asked for."""
        kept = {k for k, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
        lost = sorted(self.answer.params.keys() - kept)
        if not lost:
            return Paging(settings, evidence)
        return Paging(settings, f"{evidence}, but it drops {', '.join(lost)}", sure=False)

    def page_number(self) -> Paging | None:
        pages = self._find_number(TOTAL_PAGES)
        if pages is None:
            return None
        base, where, param = self._current_page()
        settings = _page_number(base, param) | {"total_path": pages.path}
        return Paging(
            settings,
            f"{pages.path} says {number(pages.value)} pages, {where}",
            takes=frozenset({param}),
        )

    def cursor(self) -> Paging | None:
        for one in self.around:
            value = one.value
            if isinstance(value, bool) or not isinstance(value, str | int) or value in ("", 0):
                continue
            if (_is_next(one.keys) or one.name in CURSOR) and not _is_link(str(value)):
                param, why = self._cursor_param(one)
                settings = {"type": "cursor", "cursor_path": one.path, "cursor_param": param}
                if (more := self._find(MORE)) is not None and isinstance(more.value, bool):
                    settings["has_more_path"] = more.path
                evidence = f"{one.path} holds a cursor; parameter {param}: {why}"
                return Paging(settings, evidence, takes=frozenset({param}))
        return None

    def _cursor_param(self, cursor: Field) -> tuple[str, str]:
        """The parameter that takes a cursor, by its name: nextPageToken is sent as pageToken."""
        last = cursor.keys[-1]
        rest = [w for w in words(last) if w not in {"next", "end", "odata"}]
        name = "_".join(rest)
        if name in self.params:
            return self.params[name], "the URL has it"
        if rest:
            return (name if "_" in last or len(rest) == 1 else _camel(rest)), "named as the field"
        return "cursor", "a guess; if it is wrong, a run ends with code 5 at once"

    def offset(self) -> Paging | None:
        given = next((self.params[n] for n in self.params if n in OFFSET), None)
        if given is not None:
            name, place, first = given, "the URL has it", self.answer.params[given]
        elif (told := self._find_number(OFFSET)) is not None:
            name, place, first = told.keys[-1], f"{told.path} tells it", told.value
        else:
            return None
        limit_param, limit, where = self._limit()
        if limit_param is None or not limit:
            return None
        start = 1 if number(first) == 1 else 0
        # dlt counts from 0 when it compares with a total.
        total = self._total() if start == 0 else None
        if total is not None and 0 < self.rows < min(limit, number(total.value) or 0):
            limit, where = self.rows, "as many as this page has"
        settings: dict[str, Any] = {
            "type": "offset", "limit": limit, "offset": start, "offset_param": name,
            "limit_param": limit_param, "total_path": total.path if total is not None else None,
        }  # fmt: skip
        ends = (
            f"{total.path} says {number(total.value)} rows"
            if total is not None
            else "an empty page ends it"
        )
        return Paging(
            settings,
            f"parameter {name}: {place}; {limit} rows a page: {where}; {ends}",
            takes=frozenset({name, limit_param}),
        )

    def page_until_empty(self) -> Paging | None:
        """Numbered pages without their number: they end with `has_more` or an empty page."""
        if self._find_number(PAGE - {"number", "p"}) is None and not PAGE & self.params.keys():
            return None
        base, where, param = self._current_page()
        settings = _page_number(base, param) | {"total_path": None}
        more = self._find(MORE)
        ends = "an empty page ends it"
        if more is not None and isinstance(more.value, bool):
            settings["has_more_path"] = more.path
            ends = f"{more.path} says whether there is more"
        return Paging(settings, f"{where}; {ends}", takes=frozenset({param}))

    def fallback(self) -> Paging:
        """Nothing shows the way to a next page: is there one?"""
        others: tuple[dict[str, Any] | str, ...] = (
            _page_number(1, "page") | {"total_path": None},
            {"type": "offset", "limit": max(1, self.rows), "offset_param": "offset",
             "limit_param": "limit", "total_path": None},
        )  # fmt: skip
        limit = self._limit()[1]
        reason = ""
        if (total := self._total_rows()) is not None and total[1] > self.rows:
            reason = f"{total[0]} says {total[1]} rows, this page has {self.rows}"
        elif (more := self._find(MORE)) is not None and more.value is True:
            reason = f"{more.path} is true"
            last = {"type": "cursor", "cursor_path": f"{self.path}[-1].id",
                    "cursor_param": "starting_after", "has_more_path": more.path}  # fmt: skip
            others = (last, *others)
        elif limit is not None and self.rows and self.rows == limit:
            reason = f"this page is full: {self.rows} rows, as many as were asked for"
        if reason:
            evidence = f"{reason}, but nothing shows the way to the next page"
            return Paging("single_page", evidence, sure=False, incomplete=True, others=others)
        hidden = [f for f in self.around if _is_next(f.keys) and f.value in (None, "", False)]
        if hidden:
            evidence = f"{hidden[0].path} is empty here: dlt looks at the answer of each run"
            link = {"type": "json_link", "next_url_path": json_path(hidden[0].keys)}
            return Paging("auto", evidence, others=(link,))
        if self.rows == 0:
            evidence = "the list is empty here: dlt looks at the answer of each run"
            return Paging("auto", evidence)
        told = "no next link, cursor, page number or offset in the answer"
        if total is not None:
            told = f"{total[0]} says {total[1]} rows, and all of them are here"
        elif self.rows >= 10 and self.rows % 10 == 0:
            told += f"; {self.rows} is a round number: look whether there is more"
        return Paging("single_page", told, others=others if "round" in told else ())

    def _find(self, names: set[str]) -> Field | None:
        return next(
            (f for f in self.around if f.name in names and not isinstance(f.value, dict | list)),
            None,
        )

    def _find_number(self, names: set[str]) -> Field | None:
        return next(
            (f for f in self.around if f.name in names and number(f.value) is not None), None
        )

    def _total(self) -> Field | None:
        for one in self.around:
            value = number(one.value)
            # `count` may be the rows of this page.
            if (
                one.name in TOTAL
                and value is not None
                and value >= self.rows + (one.name == "count")
            ):
                return one
        return None

    def _total_rows(self) -> tuple[str, int] | None:
        total = self._total()
        if total is not None:
            return total.path, number(total.value) or 0
        for name in TOTAL_HEADERS:
            if (value := number(self.answer.headers.get(name))) is not None:
                return f"the header {name}", value
        return None

    def _current_page(self) -> tuple[int, str, str]:
        """The number of the first page, how that is known, and the parameter."""
        asked = next((self.params[n] for n in self.params if n in PAGE), None)
        told = self._find(PAGE - {"p"})
        param = asked or "page"
        if asked is None and told is not None and told.name not in {"current_page", "number"}:
            param = told.keys[-1]
        if told is not None and (value := number(told.value)) is not None:
            # Whoever begins elsewhere than at the first page asked for it.
            base = value if value in (0, 1) else 1
            return base, f"{told.path} is {value} here; parameter {param}", param
        if asked and (value := number(self.answer.params[asked])) is not None:
            return (0 if value == 0 else 1), f"the URL asks for {asked}={value}", param
        return 1, f"taken for granted: parameter {param}, first page 1", param

    def _limit(self) -> tuple[str | None, int | None, str]:
        """The parameter that says how many rows a page has, how many, and how that is known."""
        told = self._find(PAGE_SIZES - {"count", "rows"})
        name = next((self.params[n] for n in self.params if n in PAGE_SIZES), None)
        # An API may give fewer than it was asked for.
        if told is not None and (value := number(told.value)):
            return name or told.keys[-1], value, f"{told.path} says so"
        if name is not None:
            return name, number(self.answer.params[name]), "the URL asks for them"
        return None, None, ""


def _page_number(base: int, param: str) -> dict[str, Any]:
    return {"type": "page_number", "base_page": base, "page_param": param}


def _is_link(text: str) -> bool:
    return text.startswith(("http://", "https://", "/", "?"))


def _is_next(keys: tuple[str, ...]) -> bool:
    """`next`, `next_cursor`, `nextPageToken`, `cursors.next`, `@odata.nextLink`."""
    found = [w for w in words(keys[-1]) if w != "odata"]
    return bool(found) and found[0] == "next"


def _camel(parts: list[str]) -> str:
    return parts[0] + "".join(p.capitalize() for p in parts[1:])
