"""Checks between settings: on the merged tree, so that they come together with all other problems.

Pydantic's own validators of a whole model do not run when one of its fields is wrong.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etl.names import nearest
from etl.settings import NAME, TARGET_KINDS, Load, Settings, Source
from etl.trees import Finding

# What belongs to one kind of source only: elsewhere it would be ignored without a word.
REST_ONLY = (
    "client", "resources", "resource_defaults", "for_each", "rate_limit", "timeout_seconds",
    "attempts", "guards",
)  # fmt: skip
# What belongs to loads into a server only.
SERVER_ONLY = ("primary_key", "indexes")
# Names in data_dir that are the job's own.
OWN_FILES = {
    "warehouse.duckdb", "state.duckdb", "dlt", "runs", "cache", "quarantine", "etl.lock",
    "etl.lock.json",
}  # fmt: skip
# dlt writes paths of load files into SQL as they are, and values in place of %s. DuckDB takes
# `name=value` in a path for a column, even where the rows have one, and ends a database's at ?.
NOT_IN_PATHS = "'%=?"


def cross_check(merged: dict[str, Any], project: Path) -> Iterator[Finding]:
    """Every contradiction between settings; values of wrong types are left to pydantic."""
    data_dir = merged.get("data_dir", Settings.model_fields["data_dir"].default)
    data = project / data_dir if isinstance(data_dir, str | Path) else project
    if found := sorted(set(str(data)) & set(NOT_IN_PATHS)):
        what = f"{data} has {' and '.join(found)} in it: dlt and DuckDB do not take that as it is"
        yield Finding(("data_dir",), what, "name another place")
    for name, source in _mapping(merged, "sources").items():
        yield from _check_name("sources", name)
        if "__" in f"{name}_":  # its raw tables would go to a schema of another name
            better = re.sub(r"_+", "_", name).strip("_")
            what = "dlt writes several _ of a name as one, and none at its end"
            yield Finding(("sources", name), what, f"as in {better}")
        if isinstance(source, dict):
            yield from _check_source(("sources", name), source)
    yield from _check_targets(_mapping(merged, "targets"), data)
    yield from _check_loads(merged.get("loads"), _mapping(merged, "targets"))
    yield from _check_dialect(_mapping(merged, "transform").get("dialect"))
    yield from _check_metrics(_mapping(merged, "metrics"), data)
    yield from _check_traces(_mapping(merged, "traces"))


def _mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {}


def _check_name(group: str, name: str) -> Iterator[Finding]:
    if not re.fullmatch(NAME, name):
        better = re.sub(r"[^a-z0-9_]", "_", name.lower())
        hint = f"as in {better}" if re.fullmatch(NAME, better) else ""
        yield Finding((group, name), "a name has lower-case letters, digits and _ only", hint)


def _check_source(path: tuple[Any, ...], source: dict[str, Any]) -> Iterator[Finding]:
    declared, factory = source.get("client") is not None, source.get("factory") is not None
    if declared and factory:
        yield Finding(
            path, "has both `client` and `factory`",
            "an API is described by `client` and `resources`, or made by `factory`",
        )  # fmt: skip
    elif factory:
        unset = Source().model_dump(mode="json")
        for key in REST_ONLY:
            if source.get(key) not in (None, [], {}, unset[key]):
                yield Finding(
                    (*path, key), "has no effect on a source that `factory` makes",
                    "take it out; limit, repeat and retry inside the factory",
                )  # fmt: skip
    else:
        if not declared:
            yield Finding(
                path, "needs `client` and `resources` (a REST API), or `factory` (Python)"
            )
        elif not source.get("resources"):
            yield Finding((*path, "resources"), "is empty: name at least one")
        if source.get("arguments"):
            yield Finding((*path, "arguments"), "has an effect only with `factory`")
        if declared:
            yield from _check_client(path, source)
            yield from _check_for_each(path, source)


def _check_client(path: tuple[Any, ...], source: dict[str, Any]) -> Iterator[Finding]:
    client = source["client"]
    if isinstance(client, dict) and not client.get("base_url"):
        near = difflib.get_close_matches("base_url", client, 1, 0.6)
        hint = f"is {near[0]} meant to be it?" if near else "the address that all paths start from"
        yield Finding((*path, "client", "base_url"), "is missing", hint)
    resources = source.get("resources")
    seen: set[str] = set()
    for i, resource in enumerate(resources if isinstance(resources, list) else []):
        name = resource.get("name") if isinstance(resource, dict) else resource
        if not isinstance(name, str) or not name:
            yield Finding((*path, "resources", i), "needs a `name`")
        elif name in seen:
            yield Finding((*path, "resources", i), f"`{name}` stands here twice")
        else:
            seen.add(name)


def _check_for_each(path: tuple[Any, ...], source: dict[str, Any]) -> Iterator[Finding]:
    text = repr(source.get("resources"))
    stamped = _mapping(source, "stamp")
    for name, values in _mapping(source, "for_each").items():
        at = (*path, "for_each", name)
        if isinstance(values, list) and not values:
            yield Finding(at, "is empty: no resource would run")
        elif isinstance(values, list) and len({str(v) for v in values}) < len(values):
            yield Finding(at, "names a value twice: its rows would come twice")
        if "{" + name + "}" not in text:
            used = [
                u for u in re.findall(r"{(\w+)}", text) if u not in _mapping(source, "for_each")
            ]
            hint = f"did you mean {used[0]}?" if used else ""
            yield Finding(at, f"no resource uses {{{name}}}", hint)
        if name in stamped:
            yield Finding((*path, "stamp", name), f"for_each fills the column {name} already")


def _check_targets(targets: dict[str, Any], data: Path) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name, target in targets.items():
        yield from _check_name("targets", name)
        if isinstance(target, dict):
            yield from _check_place(name, target)
        place = target.get("path") if isinstance(target, dict) else None
        if not isinstance(place, str):
            continue
        at = ("targets", name, "path")
        yield from _check_own(at, place, data)
        if (other := seen.setdefault(_led_to(data / place), name)) != name:
            yield Finding(at, f"is the path of target {other} too")


def _check_place(name: str, target: dict[str, Any]) -> Iterator[Finding]:
    """A file has a path, a server a dsn, dlt a destination; the others would be ignored."""
    kind = str(target.get("kind"))
    if kind not in TARGET_KINDS:
        return
    needed, may_have, _ = TARGET_KINDS[kind]
    if not target.get(needed):
        variable = f"ETL_TARGETS__{name.upper()}__{needed.upper()}"
        hint = {
            "dsn": f"keep it out of files: {variable}",
            "path": "a file or a folder",
            "destination": "one of dlt's, such as filesystem",
        }[needed]
        yield Finding(("targets", name, needed), f"is missing for kind {kind}", hint)
    keys = {key for each in TARGET_KINDS.values() for key in (each.needs, *each.may_have)}
    for other in sorted(keys - {needed, *may_have}):
        if target.get(other) not in (None, {}):
            yield Finding(("targets", name, other), f"has no effect on a target of kind {kind}")


def _check_own(at: tuple[Any, ...], place: str, data: Path) -> Iterator[Finding]:
    led_to = _led_to(data / place) + "/"
    for own in OWN_FILES:
        if led_to.startswith(_led_to(data / own) + "/"):
            yield Finding(at, f"`{own}` in data_dir is the job's own")


def _led_to(path: Path) -> str:
    """Where the path leads to, links followed, in lower case: some disks ignore case."""
    return os.path.realpath(path).casefold()


def _check_loads(loads: Any, targets: dict[str, Any]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for i, load in enumerate(loads if isinstance(loads, list) else []):
        if not isinstance(load, dict):
            continue
        model, target = load.get("model"), load.get("target")
        if isinstance(target, str) and target not in targets:
            yield Finding(
                ("loads", i, "target"), f"no target is called `{target}`", nearest(target, targets)
            )
        if not (isinstance(model, str) and isinstance(target, str)):
            continue
        settings = _mapping(targets, target)
        name = str(settings.get("kind"))
        kind = TARGET_KINDS.get(name)
        for key in SERVER_ONLY if kind is not None and kind.needs != "dsn" else ():
            if load.get(key) not in (None, [], Load.model_fields[key].default):
                yield Finding(("loads", i, key), f"has no effect at a target of kind {name}")
        table = load.get("table")
        if not isinstance(table, str):
            table = model.rpartition(".")[2]
        # Two targets may be one server; and DuckDB's names ignore case.
        server = repr(sorted((k, v) for k, v in settings.items() if k != "default_schema"))
        schema = settings.get("default_schema") or (kind.schema if kind else "")
        place = (server, (table if "." in table else f"{schema}.{table}").casefold())
        if place not in seen:
            seen[place] = (model, target)
        elif seen[place] == (model, target):
            yield Finding(("loads", i), f"{model} goes to target {target} twice")
        else:
            other, there = seen[place]
            what = f"{other} goes to table {table} of target {there} already"
            yield Finding(("loads", i), what, "give one another `table`")


def _check_dialect(dialect: Any) -> Iterator[Finding]:
    """Known to sqlglot or not: its files are looked at, it is not imported."""
    if not isinstance(dialect, str) or dialect == "duckdb":
        return
    found = importlib.util.find_spec("sqlglot")
    if found is not None and found.origin is not None:
        known = {p.stem for p in (Path(found.origin).parent / "dialects").glob("[a-z]*.*")}
        if known and dialect.partition(",")[0].strip() not in known - {"dialect"}:
            yield Finding(
                ("transform", "dialect"), f"no dialect is called `{dialect}`",
                nearest(dialect, known - {"dialect"}),
            )  # fmt: skip


def _check_metrics(metrics: dict[str, Any], data: Path) -> Iterator[Finding]:
    textfile = metrics.get("textfile")
    if isinstance(textfile, str):
        at = ("metrics", "textfile")
        if not textfile.endswith(".prom"):
            yield Finding(at, "must end with .prom", "node_exporter reads no other file")
        yield from _check_own(at, textfile, data)
    for key, other in (("username", "password"), ("password", "username")):
        if metrics.get(key) is not None and not metrics.get("pushgateway"):
            yield Finding(("metrics", key), "has an effect only with `pushgateway`")
        elif metrics.get(key) is None and metrics.get(other) is not None:
            yield Finding(("metrics", key), "is missing: the Pushgateway wants both")


def _check_traces(traces: dict[str, Any]) -> Iterator[Finding]:
    if traces.get("headers") and not traces.get("endpoint"):
        yield Finding(("traces", "headers"), "has an effect only with `endpoint`")
