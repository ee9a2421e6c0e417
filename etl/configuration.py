"""Loads the settings: files, profile, environment and secrets merged, each wrong key explained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etl.checks import cross_check
from etl.errors import ConfigError, Problem
from etl.names import nearest
from etl.settings import MODEL_NAME, NAME, TABLE_NAME, WEB_ADDRESS, Settings
from etl.strict_yaml import UnreadableError, read_yaml
from etl.trees import Finding, Layer, child, clean, holds, merge
from etl.variables import INTERNAL, Variable, annotations_at, fields_of, variables_layer

SECRETS_DIR = Path("/run/secrets/etl")


def load_settings(
    project: Path, profile: str = "default", environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings of a project under a profile.

    Later layers win: config/etl.yaml, config/<profile>.yaml, environment, secrets directory. A
    profile may be several, `demo,postgres`: each on top of the one before.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    layers = _files(project, profile, problems)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.tree)
    for read in (_environment, _secrets_dir):
        layer = read(environ, merged, problems)
        layers.append(layer)
        problems += [_problem(f, layers) for f in layer.findings]
        merged = merge(merged, layer.tree)
    # `_env_file` and its like are arguments of pydantic-settings' own.
    for key in sorted(k for k in merged if k in INTERNAL or k.startswith("_")):
        problems.append(Problem(_origin(layers, (key,)), f"{key}: is no setting"))
        merged.pop(key)
    findings = list(cross_check(merged, project))
    try:
        settings = Settings(**merged, project=project, profile=profile)
    except ValidationError as e:
        findings = [*_findings(e, merged), *findings]
    else:
        if not findings and not problems:
            return settings
    problems += [_problem(f, layers) for f in findings]
    raise _config_error(problems)


def _config_error(problems: list[Problem]) -> ConfigError:
    """All problems, one for each place: a wrong value is often wrong in more than one way."""
    kept: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        key = problem.message.partition(": ")[0]
        kept.setdefault((problem.where, key), problem)
    n = len(kept)
    return ConfigError(
        f"{n} problem{'s' if n != 1 else ''} in the configuration", problems=tuple(kept.values())
    )


def _problem(finding: Finding, layers: list[Layer]) -> Problem:
    shown = ".".join(_line(str(p)) for p in finding.path)
    message = f"{shown}: {finding.message}" if shown else finding.message
    return Problem(_origin(layers, finding.path), message, finding.hint)


def _line(text: str) -> str:
    """A key as part of one line."""
    return text if text.isprintable() else repr(text)


# -- files -----------------------------------------------------------------------------------------


def _files(project: Path, profile: str, problems: list[Problem]) -> list[Layer]:
    if not re.fullmatch(r"[\w-]+(,[\w-]+)*", profile):
        raise ConfigError(
            f"`{profile}` is not the name of a profile", hint="several are written demo,postgres"
        )
    config = project / "config"
    base = config / "etl.yaml"
    if not base.is_file():
        raise ConfigError(
            f"{base} not found", hint="run in a project's folder or name it with --project DIR"
        )
    paths = [base]
    for name in profile.split(","):
        overlay = config / f"{name}.yaml"
        if name == "default":
            continue
        if not overlay.is_file():
            known = {p.stem for p in config.glob("*.yaml")} - {"etl"} | {"default"}
            raise ConfigError(f"profile `{name}`: {overlay} not found", hint=nearest(name, known))
        paths.append(overlay)
    layers, unread = [], []
    for path in paths:
        name = str(path.relative_to(project))
        try:
            tree = read_yaml(path)
        except UnreadableError as e:
            unread.append(Problem(f"{name}:{e.line}" if e.line else name, str(e)))
            continue
        cleaned, findings = clean(tree)
        layers.append(Layer(name, cleaned))
        found = [_problem(f, layers[-1:]) for f in findings]
        # A file that cannot be taken as a whole would make everything else look wrong.
        (unread if findings and not findings[0].path else problems).extend(found)
    if unread:
        raise _config_error([*unread, *problems])
    return layers


# -- environment and secrets -----------------------------------------------------------------------


def _environment(
    environ: Mapping[str, str], merged: dict[str, Any], problems: list[Problem]
) -> Layer:
    named = {
        name.removeprefix("ETL_").upper(): Variable(name, text)
        for name, text in environ.items()
        if name.startswith("ETL_")
    }
    return variables_layer("environment", named, merged, problems, strict=False)


def _secrets_dir(
    environ: Mapping[str, str], merged: dict[str, Any], problems: list[Problem]
) -> Layer:
    asked = environ.get("ETL_SECRETS_DIR")
    folder = Path(asked or SECRETS_DIR)
    # systemd need not make the folder of a service that has no credentials.
    optional = not asked or asked == environ.get("CREDENTIALS_DIRECTORY")
    named: dict[str, Variable] = {}
    files: list[Path] = []
    try:
        if folder.is_dir() or not optional:
            files = sorted(folder.iterdir())
    except OSError as e:
        where = f"ETL_SECRETS_DIR: {folder}" if asked else str(folder)
        problems.append(Problem(where, f"cannot be read: {e.strerror}"))
    for path in files:
        # Kubernetes mounts ..data links beside the files.
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as e:
            problems.append(Problem(str(path), f"cannot be read: {type(e).__name__}"))
            continue
        named[path.name.upper().removeprefix("ETL_")] = Variable(str(path), text)
    return variables_layer(str(folder), named, merged, problems, strict=True)


def _origin(layers: Iterable[Layer], path: tuple[Any, ...]) -> str:
    """The last layer that sets the value, or the nearest enclosing group of it.

    Of a group a file is named before a variable that sets something else in it.
    """
    ordered = list(layers)
    for depth in range(len(path), 0, -1):
        beside = [x for x in ordered if depth < len(path) and not x.sets(path[:depth])]
        for layer in [*reversed([x for x in ordered if x not in beside]), *reversed(beside)]:
            found = layer.origin(path[:depth])
            if found is not None:
                return found
    return ordered[0].name


# -- pydantic's errors in our words ----------------------------------------------------------------

_PATTERNS = {
    NAME: "a name has lower-case letters, digits and _ only",
    MODEL_NAME: "write schema.model, such as marts.orders",
    TABLE_NAME: "write table or schema.table",
    WEB_ADDRESS: "write http://host:port; credentials have settings of their own",
}
_TEXT_EXPECTED = {"string_type", "path_type"}


def _findings(error: ValidationError, merged: dict[str, Any]) -> Iterator[Finding]:
    for item in error.errors(include_url=False, include_input=False):
        path = _real_path(item["loc"], merged)
        value: Any = reduce(child, path, merged)
        context = item.get("ctx", {})
        message = item["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        hint = ""
        if item["type"] == "extra_forbidden":
            message = "no such setting"
            hint = nearest(str(path[-1]), fields_of(annotations_at(path[:-1])))
        elif item["type"] == "string_pattern_mismatch":
            message = _PATTERNS.get(str(context.get("pattern")), message)
        elif item["type"] == "literal_error":
            expected = re.findall(r"'(\w+)'", str(context.get("expected")))
            hint = nearest(value, expected) if isinstance(value, str) else ""
            hint = "" if hint.startswith("known") else hint  # the message lists them
        elif item["type"] in _TEXT_EXPECTED:
            message = "must be text"
            if not isinstance(value, dict | list | None):
                hint = "write it in quotes"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] in {"model_type", "model_attributes_type", "dict_type"}:
            names = fields_of(annotations_at(path))
            message = "must be a group of settings"
            hint = f"its keys: {', '.join(names)}" if names else "key: value"
        elif item["type"] == "tuple_type":
            message, hint = "must be a list", "as in [a, b]"
        yield Finding(path, message, hint)


def _real_path(loc: tuple[Any, ...], merged: Any) -> tuple[Any, ...]:
    """The keys of a location: pydantic puts the branch of a union between them."""
    path: list[Any] = []
    node = merged
    for i, part in enumerate(loc):
        if holds(node, part):
            node = node[part]
            path.append(part)
        elif not isinstance(part, str) or (
            isinstance(node, dict) and "[" not in part and i == len(loc) - 1
        ):  # else it is the name of a union's branch
            path.append(part)
    return tuple(path)
