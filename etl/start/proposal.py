"""A source proposed from what was seen of an API, as YAML with the evidence beside each guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from etl.start.answer import Paging
from etl.start.guess import Resource
from etl.start.keys import Key

# The first page may hold the newest rows alone: what is older than its oldest would never be read.
LONG_AGO = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Proposal:
    """A source: its name, where all its paths begin, how it identifies itself, its resources."""

    name: str
    base_url: str
    auth: dict[str, str]
    resources: tuple[Resource, ...]

    @property
    def complete(self) -> bool:
        """False when a resource certainly has rows that nothing shows the way to."""
        return not any(r.paging and r.paging.incomplete for r in self.resources)


def make_proposal(name: str, auth: dict[str, str], resources: list[Resource]) -> Proposal:
    """The resources under the folder that all their URLs share, each name once."""
    split = [urlsplit(r.url) for r in resources]
    folders = [s.path.rstrip("/").split("/")[:-1] for s in split]
    shared = folders[0]
    for folder in folders[1:]:
        same = [a == b for a, b in zip(shared, folder, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    base = f"{split[0].scheme}://{split[0].netloc}{'/'.join(shared)}/"
    named: list[Resource] = []
    for resource in resources:
        taken = {r.name for r in named}
        n, new = 2, resource.name
        while new in taken:
            new, n = f"{resource.name}_{n}", n + 1
        named.append(replace(resource, name=new))
    return Proposal(name, base, auth, tuple(named))


def as_yaml(proposal: Proposal) -> str:
    """`sources:` of config/etl.yaml; what is not sure stands there as a comment."""
    lines = list(_source(proposal))
    if any(r.sure for r in proposal.resources):
        return "\n".join(["sources:", *lines]) + "\n"
    return "\n".join(["sources: {}", *map(_comment, lines)]) + "\n"


def summarize(proposal: Proposal) -> str:
    """What was guessed, a few lines for each resource."""
    lines = [f"source {proposal.name}: {proposal.base_url}"]
    for one in proposal.resources:
        lines.append(f"  {one.name}: {one.evidence}")
        if one.selector is not None:
            lines.append(f"    rows        {one.selector}")
        if one.paging is not None:
            kind = one.paging.settings
            shown = kind if isinstance(kind, str) else kind["type"]
            lines.append(f"    pages       {shown}: {_line(one.paging.evidence)}")
        if one.key is not None:
            sure = "" if one.key.sure else " (not sure: commented out)"
            lines.append(f"    key         {', '.join(one.key.columns)}{sure}")
        if one.rows is not None:
            lines.append(f"    write       {_disposition(one.key)[0]}")
        lines += [
            f"    incremental {c.column}, if the API can filter by it" for c in one.cursors[:1]
        ]
    if not proposal.complete:
        lines.append(
            f"  sources.{proposal.name} is not enabled yet: there are more rows than one page, and "
            "nothing in the answer says how to get them"
        )
    return "\n".join(lines) + "\n"


def _source(proposal: Proposal) -> Iterator[str]:
    yield f"  {proposal.name}: # raw tables go to the schema {proposal.name}_raw"
    if not proposal.complete:
        yield "    # There are more rows than one page, and nothing shows how to get them: mend the"
        yield "    # paginator below, then take this line out."
        yield "    enabled: false"
    yield "    client:"
    yield f"      base_url: {flow(proposal.base_url)}"
    if proposal.auth:
        yield "      # its secret comes from a variable or a secrets file, never from here"
        yield f"      auth: {flow(proposal.auth)}"
    yield "    resources:"
    for resource in proposal.resources:
        lines = list(_resource(resource, resource.url.removeprefix(proposal.base_url)))
        yield from lines if resource.sure else (_comment(line) for line in lines)


def _resource(one: Resource, path: str) -> Iterator[str]:
    base = "      "
    yield f"{base}# evidence: {_line(one.evidence)}"
    yield f"{base}- name: {flow(one.name)}"
    inner = base + "  "
    if one.rows is None:
        yield f"{inner}write_disposition: replace"
    else:
        yield from _key(inner, one.key)
        disposition, why = _disposition(one.key)
        yield f"{inner}# evidence: {why}"
        yield f"{inner}write_disposition: {disposition}"
    yield f"{inner}endpoint:"
    deep = inner + "  "
    yield f"{deep}path: {flow(path)}"
    if one.params:
        # dlt fills in what stands in braces.
        params = {
            k: int(v)
            if re.fullmatch(r"0|[1-9][0-9]{0,14}", v)
            else v.replace("{", "{{").replace("}", "}}")
            for k, v in one.params.items()
        }
        yield f"{deep}params: {flow(params)}"
    if one.selector is not None:
        yield f"{deep}# evidence: {_line(one.selector_evidence)}"
        yield f"{deep}data_selector: {flow(one.selector)}"
    if one.paging is not None:
        yield from _paging(deep, one.paging)
    yield from _incremental(deep, one)


def _key(indent: str, key: Key | None) -> Iterator[str]:
    if key is None:
        yield f"{indent}# primary_key: no id-like column has a distinct value in each row"
        return
    value = key.columns[0] if len(key.columns) == 1 else list(key.columns)
    yield f"{indent}# evidence: {_line(key.evidence)}"
    line = f"{indent}primary_key: {flow(value)}"
    yield line if key.sure else _comment(line)


def _disposition(key: Key | None) -> tuple[str, str]:
    if key is not None and key.sure:
        return "merge", (
            "rows have a key: one that comes again replaces its earlier version; "
            "replace also forgets rows that are gone"
        )
    why = "the key is not sure" if key is not None else "rows have no key"
    return (
        "replace",
        f"{why}: each run replaces the table whole; append would keep every run's rows",
    )


def _paging(indent: str, paging: Paging) -> Iterator[str]:
    yield f"{indent}# evidence: {_line(paging.evidence)}"
    sure = paging.sure or paging.incomplete
    line = f"{indent}paginator: {flow(paging.settings)}"
    yield line if sure else _comment(line)
    for other in paging.others:
        yield _comment(f"{indent}paginator: {flow(other)}")


def _incremental(indent: str, one: Resource) -> Iterator[str]:
    for cursor in one.cursors[:2]:
        yield f"{indent}# evidence: {_line(cursor.evidence)}; name the API's own parameter for it"
        settings = {
            "cursor_path": cursor.column, "initial_value": LONG_AGO,
            "start_param": "updated_since",
        }  # fmt: skip
        yield _comment(f"{indent}incremental: {flow(settings)}")


def _comment(line: str) -> str:
    """The line as a comment at its own depth; a comment stays one."""
    text = line.lstrip()
    return line if text.startswith("#") else f"{line[: len(line) - len(text)]}# {text}"


def _escape(sign: str) -> str:
    if sign in '\\"':
        return f"\\{sign}"
    return sign if sign.isprintable() else f"\\U{ord(sign):08x}"


def _line(text: str) -> str:
    """Text of an API's making, in one line of a comment."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def flow(value: Any) -> str:
    """A value as YAML in one line: words plain, all other text in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*(://[A-Za-z0-9_./:-]+)?", value)
        taken = value.lower() in {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
        return value if plain and not taken else f'"{"".join(map(_escape, value))}"'
    return json.dumps(value)
