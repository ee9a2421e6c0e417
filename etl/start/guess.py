"""Guesses what an answer of an API holds: a list of rows, an index of endpoints, or one thing.

    guess_resources(answer)
      ├─ a list of rows     one resource: selector, paginator, key, write disposition
      ├─ links by name      a resource for each, none of them requested
      └─ one object         one resource, one page

Pure functions: whatever JSON comes in, they answer and never raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

from etl.start.answer import Answer, Paging
from etl.start.keys import Cursor, Key, guess_cursors, guess_key
from etl.start.paging import guess_paging
from etl.start.shapes import Field, fields, is_usable, objects, singular, words

MAX_ROWS = 5_000
MAX_RESOURCES = 200
GENERIC = {
    "data", "items", "results", "entries", "records", "rows", "entities", "payload", "content",
    "objects", "values", "value", "list", "docs", "hits", "response", "result", "nodes", "elements",
}  # fmt: skip
VERBS = {"get", "list", "fetch", "search", "find", "query", "read", "all"}

INDEXES = {"endpoints", "resources", "links", "paths"}
# What stands in an index beside its endpoints.
NO_ENDPOINTS = {"self", "next", "prev", "previous", "first", "last", "profile", "curies", "help"}


@dataclass(frozen=True)
class Resource:
    """A proposed resource: where it is, and each guess with its evidence.

    `url` is whole and has no parameters; these are in `params`. `selector` is None where one object
    is the row. `sure` is False for what the user has to complete first.
    """

    name: str
    url: str
    evidence: str
    params: dict[str, str] = field(default_factory=dict)
    selector: str | None = None
    selector_evidence: str = ""
    paging: Paging | None = None
    key: Key | None = None
    cursors: tuple[Cursor, ...] = ()
    rows: int | None = None
    sure: bool = True


def guess_resources(answer: Answer) -> list[Resource]:
    """What the answer can be read as; at least one resource."""
    found = find_rows(answer)
    if found is None or not objects(found.value) or _is_index(found):
        index = list(_endpoints(answer))
        if len(index) >= 2:
            return index
    if found is None:
        rows = [answer.body] if isinstance(answer.body, dict) else []
        name, doubt = name_of(answer.url, ""), _doubt(answer.body)
        return [
            Resource(
                name,
                answer.url,
                f"one object{doubt}",
                dict(answer.params),
                paging=Paging("single_page", "the answer is one thing, no list"),
                key=guess_key(rows, name),
                rows=len(rows),
                sure=not doubt,
            )
        ]
    rows = objects(found.value)[:MAX_ROWS]
    count = len(found.value)
    name = name_of(answer.url, found.keys[-1] if found.keys else "")
    around = [f for f in fields(answer.body) if f.keys != found.keys]
    paging = guess_paging(answer, around, count, found.path)
    whole = len(rows) == min(count, MAX_ROWS)
    where = f"under {found.path}" if found.keys else "that the answer is"
    return [
        Resource(
            name,
            answer.url,
            f"the answer holds {count} rows",
            {k: v for k, v in answer.params.items() if k not in paging.takes},
            found.path,
            f"the list of {count} {'objects' if whole else 'values'} {where}",
            paging,
            guess_key(rows, name) if whole else None,
            tuple(guess_cursors(rows)) if whole else (),
            count,
        )
    ]


def find_rows(answer: Answer) -> Field | None:
    """The list that holds the rows; None when there is none.

    Of several, the one that is named as a list of records or as the API's path, then the longest:
    dlt's own search takes the first, be it a list of errors or tags.
    """
    if isinstance(answer.body, list):
        return Field((), answer.body)
    lists = [f for f in fields(answer.body) if isinstance(f.value, list)]
    if not lists:
        return None
    path = set(words(urlsplit(answer.url).path))
    path |= {singular(w) for w in path}

    def rank(one: Field) -> tuple[bool, bool, int, int]:
        named = one.name in GENERIC or bool({singular(w) for w in words(one.keys[-1])} & path)
        return bool(objects(one.value)), named, len(one.value), -len(one.keys)

    best = max(lists, key=rank)
    # A thing with a few scalar lists in it (its tags, say) is no list of rows.
    if best.value and not objects(best.value) and best.name not in GENERIC | path:
        return None
    # So is one with small lists of objects among many values of its own.
    own = [v for v in answer.body.values() if not isinstance(v, list | dict)]
    named = rank(best)[1]
    if not named and {"id", "_id", "uuid"} & set(answer.body) and len(own) >= 2:
        return None
    return best


def name_of(url: str, key: str) -> str:
    """A name for the rows of a URL: of its path, or of the list's key when the path is a call."""
    parts = [p for p in unquote(urlsplit(url).path).split("/") if p]
    last = re.sub(r"\.(json|xml|php|aspx?)$", "", parts[-1]) if parts else ""
    called = last.rpartition(".")[2]
    found = words(called)
    calls = "." in last or (len(found) > 1 and found[0] in VERBS) or not found
    if (calls or found[-1:] in (["v"], ["api"]) or found[0].isdigit()) and key:
        own = "_".join(words(key))
        if own and own not in GENERIC:
            return _identifier(own)
    if len(found) > 1 and found[0] in VERBS:
        found = found[1:]
    return _identifier("_".join(found) or (urlsplit(url).hostname or "").partition(".")[0])


def _identifier(text: str) -> str:
    """The text as a name of a resource or source: lower-case letters, digits and _."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"r_{name}" if name else "rows"


def source_name(url: str) -> str:
    """A source's name from the host: api.example.com is example."""
    host = (urlsplit(url).hostname or "").lower()
    if re.fullmatch(r"[\d.]+|.*:.*|localhost", host):
        return "api"
    labels = [x for x in host.split(".") if x not in {"www", "api", "public", "rest", "data"}]
    # co.uk and its like: the label before them says more.
    keep = labels[:-1] or labels
    if len(keep) > 1 and len(keep[-1]) <= 3 and len(labels[-1]) == 2:
        keep = keep[:-1]
    name = re.sub(r"[^a-z0-9]+", "_", keep[-1]).strip("_") if keep else ""
    return name if name[:1].isalpha() else f"api_{name}".rstrip("_")


def _endpoints(answer: Answer) -> Iterator[Resource]:
    """The endpoints that an index names, of the same host; nothing of them is requested."""
    names: set[str] = set()
    for key, text in _links(answer.body):
        template = re.sub(r"\{[?&][^{}]*\}", "", text)
        try:
            url = urljoin(answer.url, template)
            parts = urlsplit(url)
            here = parts.netloc.rpartition("@")[2] == urlsplit(answer.url).netloc
            params = dict(parse_qsl(parts.query, keep_blank_values=True))
        except ValueError:
            continue
        bare = parts._replace(query="", fragment="").geturl()
        if not here or not url.isprintable() or bare == answer.url or "@" in parts.netloc:
            continue
        name = _identifier("_".join(words(key))) if key else name_of(url, "")
        if name in names or len(names) >= MAX_RESOURCES:
            continue
        names.add(name)
        evidence = f"the answer of {urlsplit(answer.url).path or '/'} names it"
        if "{" in bare or "}" in bare:
            yield Resource(name, bare, f"{evidence}; fill its placeholders in", params, sure=False)
        else:
            yield Resource(name, bare, f"{evidence}; it was not looked at", params)


def _links(body: Any) -> Iterator[tuple[str, str]]:
    """Every name with a URL or path in an object of links; a list of paths or of {name, url}."""
    values = [Field((), body), *fields(body)]
    for one in values:
        if isinstance(one.value, dict):
            found = [(k, _target(v)) for k, v in list(one.value.items())[: MAX_RESOURCES * 2]]
            links = [(k, t) for k, t in found if t and isinstance(k, str) and is_usable(k)]
            kept = [(k, t) for k, t in links if "_".join(words(k)) not in NO_ENDPOINTS]
            if len(kept) >= 2 and len(links) * 2 >= len(found):
                yield from kept
                return
        elif isinstance(one.value, list) and one.name in INDEXES:
            for item in one.value[:MAX_RESOURCES]:
                if target := _target(item):
                    title = item.get("name", item.get("rel")) if isinstance(item, dict) else ""
                    yield (title if isinstance(title, str) else ""), target
            return


def _doubt(body: Any) -> str:
    """Why one object may be no row; nothing when it looks like one."""
    if isinstance(body, dict) and body.get("error"):
        return ", and it tells of an error: ask again with what the API wants"
    for one in (Field((), body), *fields(body)):
        if _is_keyed(one):
            return (
                f"; {one.path} has rows under days or numbers: a column each, unless a function "
                "makes rows of them (docs/apis.md)"
            )
    return ""


def _is_keyed(one: Field) -> bool:
    """True for an object that is a list in disguise: its keys are days, times or numbers."""
    keys = one.value if isinstance(one.value, dict) else ()
    day = r"\d{4}-\d\d-\d\d[T\d:.Z+-]*|\d+"
    return len(keys) > 1 and all(isinstance(k, str) and re.fullmatch(day, k) for k in keys)


def _is_index(one: Field) -> bool:
    """True for a list that names endpoints: each with a URL, and little else."""
    items = one.value
    return one.name in INDEXES and all(
        _target(i) and (isinstance(i, str) or (len(i) <= 4 and "id" not in i)) for i in items
    )


def _target(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("href", value.get("url"))
    if not isinstance(value, str) or len(value) > 2_000:
        return ""
    return value if re.match(r"https?://[^/\s]+|/(?!/)\S", value) else ""
