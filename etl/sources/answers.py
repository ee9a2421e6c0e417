"""What an answer says beside its rows: that some are missing, or that another page follows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from requests import Response

# Keys by their letters alone: `@odata.nextLink` is odatanextlink.
NEXT = {
    "next", "nextpage", "nextcursor", "nexttoken", "nextpagetoken", "nextpagecursor", "nextlink",
    "nextpagelink", "nexturl", "nextpageurl", "nexturi", "nexthref", "nextrecordsurl",
    "nextcontinuationtoken", "nextmarker", "odatanextlink",
}  # fmt: skip
MORE = {"hasmore", "hasnext", "hasnextpage", "hasmorepages", "hasmoreresults", "truncated",
        "istruncated"}  # fmt: skip
# The same of the page before, and names that are false where one is.
BEFORE = {"prev", "previous", "prevpage", "previouspage", "prevlink", "previouslink", "prevurl",
          "previousurl", "prevpageurl", "previouspageurl"}  # fmt: skip
HAS_BEFORE = {"hasprev", "hasprevious", "hasprevpage", "haspreviouspage"}
BEGINS = {"first", "isfirst", "firstpage", "isfirstpage"}
# How many rows there are in all, and how many pages.
TOTALS = {"total", "count", "totalcount", "totalitems", "totalresults", "totalrecords", "totalrows",
          "totalsize", "totalelements", "totalhits", "numfound", "wptotal"}  # fmt: skip
PAGE = {"page", "number", "pagenumber", "pageindex", "currentpage", "current"}
PAGES = {"totalpages", "pagecount", "lastpage", "wptotalpages"}
# Names that are true where the pages end.
ENDS = {"last", "islast", "lastpage", "islastpage", "end", "endofstream", "done", "isdone",
        "finished", "isfinished", "complete", "completed"}  # fmt: skip
# What an object has that tells of an error.
TOLD_OF_ERRORS = {
    "ok", "success", "status", "statuscode", "code", "error", "errors", "errorcode", "errormessage",
    "errordescription", "message", "msg", "detail", "details", "title", "type", "reason", "path",
    "timestamp", "requestid", "traceid", "documentationurl",
}  # fmt: skip
# Objects that tell of pages, beside the list of rows or what it lies in.
ABOUT = {"meta", "metadata", "responsemetadata", "paging", "pagination", "pageinfo", "page",
         "links", "cursors", "cursor"}  # fmt: skip


def letters(key: str) -> str:
    """The letters of a key or a header, small: what names are compared by."""
    return re.sub(r"[^a-z]", "", key.lower().removeprefix("x-"))


def next_page(response: Response, answer: Any, rows: Any) -> str:
    """The name by which an answer says that another page follows this list; empty for none.

    It is a header, or stands beside the list or what that lies in, or in an object there that tells
    of pages.
    """
    if "next" in response.links:
        return "Link"
    for path, value in (*_headers(response), *_beside(answer, rows)):
        name = letters(path[-1])
        if (name in NEXT and _leads(value)) or (name in MORE and value is True):
            return ".".join(path)
    return ""


def page_before(response: Response, answer: Any, rows: Any) -> str:
    """The name by which an answer says that another page comes before this list; or nothing."""
    if "prev" in response.links:
        return "Link"
    for path, value in _beside(answer, rows):
        name = letters(path[-1])
        is_later = (name in HAS_BEFORE and value is True) or (name in BEGINS and value is False)
        if is_later or (name in BEFORE and _leads(value)):
            return ".".join(path)
    return ""


def more_than(response: Response, answer: Any, rows: list[Any]) -> str:
    """The name by which an answer says that there are more rows than this list has; or nothing."""
    for path, value in (*_headers(response), *_beside(answer, rows)):
        name = letters(path[-1])
        least = len(rows) if name in TOTALS else 1 if name in PAGES else None
        if (least is not None and _number(value) > least) or (name in ENDS and value is False):
            return ".".join(path)
    return ""


def counts_from_zero(answer: Any) -> bool:
    """Whether an answer to a request without a page's number says that it is page 0."""
    told = [answer, *answer.values()] if isinstance(answer, dict) else []
    return any(
        letters(key) in PAGE and value == 0 and not isinstance(value, bool)
        for holder in told
        if isinstance(holder, dict)
        for key, value in holder.items()
    )


def _leads(value: Any) -> bool:
    """Whether a value is a link, an object that holds one, a cursor or the number of a page."""
    link = value.get("href") if isinstance(value, dict) else value
    return isinstance(link, str | int) and bool(link)


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) else 0


def _headers(response: Response) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in response.headers.items():
        is_range = name.lower() == "content-range"
        yield ((name, "total"), value.rpartition("/")[2]) if is_range else ((name,), value)


def _beside(answer: Any, rows: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    for holder in _holders(answer, rows):
        for key, value in holder.items():
            yield (key,), value
            if letters(key) in ABOUT and isinstance(value, dict):
                yield from (((key, below), v) for below, v in value.items())


def _holders(answer: Any, rows: Any) -> list[dict[str, Any]]:
    """The objects around a list in an answer, the outermost first; none when it is not there."""
    if not isinstance(answer, dict):
        return []
    for value in answer.values():
        if value is rows:
            return [answer]
        if inner := _holders(value, rows):
            return [answer, *inner]
    return []


def graphql_errors(response: Response, answer: Any) -> int:
    """How many errors an answer to a GraphQL query names; what they hit is NULL or missing in it.

    Such an answer has the status 200 (https://spec.graphql.org, Response).
    """
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if not isinstance(errors, list) or not errors:
        return 0
    asked = None
    with suppress(ValueError, TypeError):
        asked = json.loads(response.request.body or "null")
    is_query = isinstance(asked, dict) and isinstance(asked.get("query"), str)
    return len(errors) if is_query else 0


def says_error(answer: Any) -> str:
    """The key by which an answer says that it has failed, whatever its status; or nothing."""
    if not isinstance(answer, dict):
        return ""
    for key, value in answer.items():
        name = letters(key)
        if (
            (name in {"error", "errors"} and value)
            or (name in {"ok", "success"} and value is False)
            or (name == "status" and value in ("error", "fail"))  # of JSend
        ):
            return str(key)
    return ""


def is_error(answer: Any) -> bool:
    """Whether an answer tells of an error and of nothing else: no thing of the API's is in it."""
    return bool(says_error(answer)) and all(letters(key) in TOLD_OF_ERRORS for key in answer)


UNSEEN_HINT = (
    "let `cursor_path`, `next_url_path` or `cursor_key` of a `paginator` point there; a key with a "
    "dot or @ in it stands in quotes: \"'@odata.nextLink'\"; `single_page` reads one page and no "
    "more"
)
MORE_HINT = (
    "name the `paginator` that gets them: docs/apis.md has one for each kind of API; `single_page` "
    "reads one page and no more"
)
BEFORE_HINT = "does the API count from 0, as dlt does? then `base_page` is 0, or left out"
COUNTED_HINT = (
    "name it, with the number of its first page: `{type: page_number, base_page: 1, total_path: …}`"
)
GUESSED_HINT = "dlt guessed how pages follow each other: name the `paginator` (docs/apis.md)"
GRAPHQL_HINT = "ask the API by hand what it could not give: it is NULL or missing in this answer"
FAILED_HINT = (
    "ask the URL yourself: is it the log-in, a limit, a parameter? where it means that there is "
    "nothing, `response_actions` of the endpoint say so: `[{status_code: 200, content: … of the "
    "answer, action: ignore}]`; where `errors` are the rows, `data_selector` names them"
)
EMPTY_HINT = (
    "an API that leaves empty lists out, or gives null for them: `guards.omits_empty: true`; else "
    "the API or its settings changed: compare the URL's answer with them"
)
