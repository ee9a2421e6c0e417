"""Loads the settings: files, profile, environment and secrets merged, each wrong key explained."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from etl.errors import ConfigError, Problem
from etl.settings import Settings

SECRETS_DIR = Path("/run/secrets/etl")
INTERNAL = {"project", "profile"}
# Variables of the command line's options and of tests: they are no settings.
OPTION_VARIABLES = {
    "PROJECT", "PROFILE", "STAGE", "SOURCE", "SELECT", "ENVIRONMENT", "FULL_REFRESH", "START",
    "END", "DRY_RUN", "WAIT_LOCK", "JSON", "SECRETS_DIR",
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the second would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str | int | float | bool | date | None):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a plain value", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key `{key}` stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class Layer:
    """One origin of settings: its name as the user knows it, and its tree."""

    def __init__(self, name: str, tree: dict[str, Any]) -> None:
        self.name = name
        self.tree = tree

    def has(self, path: tuple[Any, ...]) -> bool:
        """True when this layer sets the value at this path."""
        node: Any = self.tree
        for key in path:
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and isinstance(key, int) and key < len(node):
                node = node[key]
            else:
                return False
        return True


def load_settings(
    project: Path,
    profile: str = "default",
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a project under a profile.

    Later layers win: config/etl.yaml, config/<profile>.yaml, environment, secrets directory.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    environ = os.environ if environ is None else environ
    layers = _files(project, profile)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer.tree)
    problems: list[Problem] = []
    for layer in (_environment(environ, merged, problems), _secrets_dir(environ, merged, problems)):
        merged = _merge(merged, layer.tree)
        layers.append(layer)
    for key in sorted(INTERNAL & merged.keys()):
        problems.append(Problem(_origin(layers, (key,)), f"{key}: is no setting"))
        merged.pop(key)
    try:
        settings = Settings(**{str(k): v for k, v in merged.items()}, project=project, profile=profile)
    except ValidationError as e:
        problems += _explain(e, layers, merged)
        raise _config_error(problems) from None
    except RecursionError:
        raise _config_error([Problem(layers[0].name, "nested too deeply")]) from None
    if problems:
        raise _config_error(problems)
    return settings


def _config_error(problems: list[Problem]) -> ConfigError:
    n = len(problems)
    return ConfigError(
        f"{n} problem{'s' if n != 1 else ''} in the configuration", problems=tuple(problems)
    )


def _files(project: Path, profile: str) -> list[Layer]:
    if not re.fullmatch(r"[\w-]+", profile):
        raise ConfigError(f"`{profile}` is not the name of a profile")
    config = project / "config"
    base = config / "etl.yaml"
    if not base.is_file():
        raise ConfigError(
            f"{base} not found", hint="run in a project's folder or name it with --project DIR"
        )
    paths = [base]
    if profile != "default":
        overlay = config / f"{profile}.yaml"
        if not overlay.is_file():
            known = sorted({p.stem for p in config.glob("*.yaml")} - {"etl"} | {"default"})
            raise ConfigError(
                f"profile `{profile}`: {overlay} not found", hint=f"profiles: {', '.join(known)}"
            )
        paths.append(overlay)
    problems: list[Problem] = []
    layers = []
    for path in paths:
        name = str(path.relative_to(project))
        try:
            tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
        except yaml.MarkedYAMLError as e:
            at = f"{name}:{e.problem_mark.line + 1}" if e.problem_mark else name
            problems.append(Problem(at, str(e.problem or "is no valid YAML")))
            continue
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, OSError, RecursionError) as e:
            problems.append(Problem(name, f"cannot be read: {type(e).__name__}"))
            continue
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            problems.append(Problem(name, "is not a mapping of settings"))
            continue
        layers.append(Layer(name, tree))
    if problems:
        raise _config_error(problems)
    return layers


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {k: _merge(below[k], v) if k in below else v for k, v in above.items()}
    if isinstance(below, list) and isinstance(above, _Items):
        items = list(below)
        for i, value in above.items():
            if i < len(items):
                items[i] = _merge(items[i], value)
            else:
                items.append(value)
        return items
    return list(above.values()) if isinstance(above, _Items) else above


class _Items(dict[int, Any]):
    """Single items of a list, by index, as an environment variable names them."""


def _environment(
    environ: Mapping[str, str], merged: dict[str, Any], problems: list[Problem]
) -> Layer:
    named = {
        k.upper().removeprefix("ETL_"): (k, v)
        for k, v in environ.items()
        if k.upper().startswith("ETL_")
    }
    return _from_variables("environment", named, merged, problems, strict=False)


def _secrets_dir(
    environ: Mapping[str, str], merged: dict[str, Any], problems: list[Problem]
) -> Layer:
    folder = Path(environ.get("ETL_SECRETS_DIR") or SECRETS_DIR)
    named = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            # Kubernetes mounts ..data links beside the files.
            if path.is_file() and not path.name.startswith("."):
                try:
                    text = path.read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as e:
                    problems.append(Problem(str(path), f"cannot be read: {type(e).__name__}"))
                    continue
                named[path.name.upper().removeprefix("ETL_")] = (str(path), text)
    return _from_variables(str(folder), named, merged, problems, strict=True)


def _from_variables(
    layer: str,
    named: Mapping[str, tuple[str, str]],
    merged: dict[str, Any],
    problems: list[Problem],
    *,
    strict: bool,
) -> Layer:
    fields = [f for f in Settings.model_fields if f not in INTERNAL]
    tree: dict[str, Any] = {}
    for short, (name, text) in sorted(named.items()):
        if not strict and (short in OPTION_VARIABLES or short.startswith("TEST_")):
            continue
        parts = short.split("__")
        top = parts[0].lower()
        if top not in fields:
            near = difflib.get_close_matches(top, fields, 1, 0.8)
            # Other software sets ETL_… too (Kubernetes does, for a service named etl): only
            # what is plainly meant for us is an error.
            if strict or near or len(parts) > 1:
                known = near or difflib.get_close_matches(top, fields, 1, 0.4)
                hint = f"did you mean {known[0]}?" if known else ""
                problems.append(Problem(name, f"no setting is called `{top}`", hint))
            continue
        _put(tree, parts, merged, text)
    return Layer(layer, tree)


def _put(tree: dict[str, Any], parts: list[str], merged: Any, text: str) -> None:
    """Place a variable's value at its path, with the keys as the files spell them."""
    node: Any = tree
    known: Any = merged
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        key: Any = part.lower()
        below: Any = None
        if isinstance(known, list) and part.isdigit():
            key = int(part)
            below = known[key] if key < len(known) else None
        elif isinstance(known, dict):
            key = next((k for k in known if str(k).lower() == part.lower()), key)
            below = known.get(key)
        if last:
            node[key] = _value(text, below)
            return
        empty: dict[Any, Any] = _Items() if isinstance(below, list) else {}
        existing = node.get(key)
        if not isinstance(existing, dict):
            node[key] = existing = empty
        node, known = existing, below


def _value(text: str, below: Any) -> Any:
    """A variable's text as the type that stands in the files; JSON for lists and mappings."""
    if isinstance(below, str):
        return text
    if isinstance(below, bool | int | float | list | dict) or text[:1] in "[{":
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _origin(layers: Iterable[Layer], path: tuple[Any, ...]) -> str:
    """The last layer that sets the value, or the nearest enclosing group of it."""
    ordered = list(layers)
    for depth in range(len(path), 0, -1):
        for layer in reversed(ordered):
            if layer.has(path[:depth]):
                if layer.name == "environment":
                    return "ETL_" + "__".join(str(p).upper() for p in path[:depth])
                return layer.name
    return ordered[0].name


def _explain(error: ValidationError, layers: list[Layer], merged: dict[str, Any]) -> list[Problem]:
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        path = tuple(p for p in item["loc"] if not _is_union_tag(p, item["loc"], merged))
        shown = ".".join(str(p) for p in path)
        hint = ""
        if item["type"] == "extra_forbidden":
            names = _names_at(Settings, path[:-1])
            near = difflib.get_close_matches(str(path[-1]), names, 1, 0.5)
            message = "no such setting"
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
        where = _origin(layers, path)
        line = f"{shown}: {message}" if shown else message
        problems.setdefault(f"{where} {shown}", Problem(where, line, hint))
    return list(problems.values())


def _is_union_tag(part: Any, loc: tuple[Any, ...], merged: Any) -> bool:
    """Pydantic puts the branch of a union into the path: such a part is no key of ours."""
    if not isinstance(part, str):
        return False
    return part in {"str", "SecretStr"} or part.startswith(("dict[", "literal[", "tuple["))


def _names_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The valid names in the group of settings at this path."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:  # dict[str, X] or tuple[X, ...]
            current = next((a for a in reversed(get_args(current)) if a is not Ellipsis), None)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return sorted(f for f in current.model_fields if f not in INTERNAL)
    return []


def json_schema() -> dict[str, Any]:
    """The JSON Schema of config/*.yaml, for editors."""
    schema = Settings.model_json_schema()
    for name in INTERNAL:
        schema["properties"].pop(name, None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "etl configuration"
    return schema
