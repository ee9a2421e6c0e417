"""Settings from variables: environment and secrets files find the key that their name spells."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel

from etl.errors import Problem
from etl.settings import Settings
from etl.trees import Items, Layer, child, clean

# Set by the loader, never by a file or variable.
INTERNAL = {"project", "profile"}
# Variables of the command line's options and of tests: they are no settings.
OPTION_VARIABLES = {
    "ALL", "APPLY", "BASE_URL", "CHECK", "DEBUG", "DOT", "DOWNSTREAM", "DRY_RUN", "END",
    "ENVIRONMENT", "FACT", "FORMAT", "FULL_REFRESH", "HTML", "JSON", "MARKDOWN", "PROFILE",
    "PROJECT", "RUNS", "SECRETS_DIR", "SELECT", "SOURCE", "STAGE", "START", "TABLE",
    "TERMINATION_LOG", "UPSTREAM", "WAIT_LOCK",
}  # fmt: skip
# What Kubernetes puts into every container of a namespace that has a service whose name begins
# with `etl`: ETL_PORT, ETL_SERVICE_HOST, ETL_SERVICE_PORT_HTTP, ETL_PORT_80_TCP_ADDR.
_SERVICE = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Variable(NamedTuple):
    """A value with the name by which the user knows its place: a variable's or a file's."""

    name: str
    text: str


def variables_layer(
    layer: str,
    variables: Mapping[str, Variable],
    merged: dict[str, Any],
    problems: list[Problem],
    *,
    strict: bool,
) -> Layer:
    """The settings that these variables spell (by name without `ETL_`, upper case).

    A key is found whatever its case and signs: `X-Api-Key` by `X_API_KEY`. A part that no layer
    below has becomes a new key in lower case. `strict`: every name must be a setting; other
    software sets variables that begin with ETL_ too, secrets files are ours alone.
    """
    fields = [f for f in Settings.model_fields if f not in INTERNAL]
    result = Layer(layer, {})
    for short, (name, text) in sorted(variables.items(), key=lambda v: _natural(v[0])):
        if not strict and (short in OPTION_VARIABLES or short.startswith("TEST_")):
            continue
        top, nested, _ = short.lower().partition("__")
        if top not in fields:
            near = difflib.get_close_matches(top, fields, 1, 0.8)
            option = difflib.get_close_matches(short, OPTION_VARIABLES, 1, 0.85)
            foreign = not (near or nested or option) or _SERVICE.fullmatch(short)
            if option and not (strict or near or foreign):
                problems.append(
                    Problem(name, "no option has this variable", f"did you mean ETL_{option[0]}?")
                )
            elif strict or not foreign:
                known = near or difflib.get_close_matches(top, fields, 1, 0.6)
                hint = f"did you mean {known[0]}?" if known else ""
                problems.append(Problem(name, f"no setting is called `{top}`", hint))
            continue
        _put(result, short, merged, Variable(name, text))
    return result


def _natural(short: str) -> list[tuple[int, int, str]]:
    """Items of a list in the order of their numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in short.split("__")]


def _put(layer: Layer, short: str, merged: Any, variable: Variable) -> None:
    node: Any = layer.tree
    known: Any = merged
    path: tuple[Any, ...] = ()
    rest = short
    while True:
        key, rest = _step(rest, known, annotations_at(path))
        path += (key,)
        known = child(known, key)
        if not rest:
            node[key], found = clean(_value(variable.text, known, annotations_at(path)))
            layer.names[path] = variable.name
            layer.findings += [f._replace(path=(*path, *f.path)) for f in found]
            return
        if not isinstance(node.get(key), dict):
            listed = isinstance(known, list) or (known is None and _is_list(annotations_at(path)))
            node[key] = Items() if listed else {}
        node = node[key]


def _step(rest: str, known: Any, annotations: list[Any]) -> tuple[Any, str]:
    """The next key that the name spells, and what is left of the name."""
    head, _, tail = rest.partition("__")
    if head.isdecimal() and (isinstance(known, list) or (known is None and _is_list(annotations))):
        return int(head), tail
    keys = [str(k) for k in known] if isinstance(known, dict) else []
    keys += [n for n in fields_of(annotations) if n not in keys]
    plain = _plain(rest)
    fitting = [k for k in keys if plain == _plain(k) or plain.startswith(_plain(k) + "__")]
    if fitting:
        key = max(fitting, key=len)
        return key, rest[len(key) + 2 :]
    return head.lower(), tail


def _plain(name: str) -> str:
    """A key as a variable's name can spell it; as long as the key."""
    return "".join(c.lower() if c.isascii() and c.isalnum() else "_" for c in name)


def variable_name(path: Iterable[Any]) -> str:
    """The variable that sets the value at this path."""
    return "ETL_" + "__".join(_plain(str(key)).upper() for key in path)


def _value(text: str, below: Any, annotations: list[Any]) -> Any:
    """A variable's text as the type that the setting has, or that stands in the files.

    JSON (in our own settings YAML's flow style, too) for lists and mappings.
    """
    ours = annotations != [Any] and bool(annotations)
    if ours:
        if type(None) in annotations and text.strip() in {"", "~", "null"}:
            return None
        if any(_is_group(a) for a in annotations) and not (
            str in annotations and text[:1] not in {"[", "{"}
        ):
            return _parsed(text)
        return text
    if isinstance(below, str):
        return text
    if isinstance(below, bool | int | float | list | dict):
        return _parsed(text)
    if text[:1] in {"[", "{"}:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _is_group(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return get_origin(annotation) in {dict, tuple}


def _is_list(annotations: list[Any]) -> bool:
    return any(get_origin(a) is tuple for a in annotations)


def annotations_at(path: Iterable[Any]) -> list[Any]:
    """The types that the setting at this path may have; `[Any]` inside dlt's own parts."""
    current: list[Any] = [Settings]
    for key in path:
        below: list[Any] = []
        for annotation in current:
            if annotation is Any:
                below.append(Any)
            elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
                field = annotation.model_fields.get(str(key))
                below += _options(field.annotation) if field else []
            elif get_origin(annotation) is dict:
                below += _options(get_args(annotation)[1])
            elif get_origin(annotation) is tuple:
                below += _options(get_args(annotation)[0])
        current = below
    return current


def _options(annotation: Any) -> list[Any]:
    """The members of a union, each without its `Annotated`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _options(get_args(annotation)[0])
    if str(origin) in {"typing.Union", "<class 'types.UnionType'>"}:
        return [o for a in get_args(annotation) for o in _options(a)]
    return [annotation]


def fields_of(annotations: Iterable[Any]) -> list[str]:
    """The names of the settings in a group, sorted; empty when it is none of ours."""
    return sorted(
        name
        for a in annotations
        if isinstance(a, type) and issubclass(a, BaseModel)
        for name in a.model_fields
        if name not in INTERNAL
    )
