"""YAML files read strictly: no key twice, and errors that quote nothing of the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_MERGE_KEY = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the second would win in silence."""

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            # Such as 2026-99-99: YAML takes it for a date, Python does not.
            raise yaml.constructor.ConstructorError(
                None, None, "a date or time that does not exist", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_KEY:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a plain value", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)


class UnreadableError(Exception):
    """The file is no mapping in YAML; `line` counts from 1 where it is known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's tree.

    Raises:
        UnreadableError: line and what is wrong; nothing of the file's content is in it.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else None
        raise UnreadableError(_yaml_problem(e), line) from None
    except UnicodeDecodeError as e:
        raise UnreadableError(f"is not UTF-8 text (byte {e.start})") from None
    except yaml.reader.ReaderError as e:
        raise UnreadableError(f"holds a character that YAML forbids (at {e.position})") from None
    except OSError as e:
        raise UnreadableError(f"cannot be read: {e.strerror}") from None
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError, AttributeError):
        # Such as the number 0x: YAML takes it for one, Python does not.
        raise UnreadableError("holds a number that does not exist") from None
    if tree is not None and not isinstance(tree, dict):
        raise UnreadableError("is not a mapping of settings")
    return tree or {}


# PyYAML quotes what it stumbled over, and that may be the beginning of a password.
_YAML_PROBLEMS = {
    "undefined alias": "an alias without its anchor: a text that begins with * needs quotes",
    "constructor for the tag": "an unknown tag: a text that begins with ! needs quotes",
    "undefined tag handle": "an unknown tag: a text that begins with ! needs quotes",
    "duplicate anchor": "an anchor stands here twice",
    "found character '%'": "a text that begins with % needs quotes",
    "found character '@'": "a text that begins with @ needs quotes",
    "found character '`'": "a text that begins with ` needs quotes",
    "found character '\\t'": "a tab: YAML indents with spaces",
}


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or "is no valid YAML")
    for part, plain in _YAML_PROBLEMS.items():
        if part in problem:
            return plain
    # Single signs and the names of YAML's own tokens, <block end>, may be shown.
    return re.sub(
        r"'([^']*)'|\"([^\"]*)\"",
        lambda m: m[0] if len(m[0]) <= 3 or m[0][1] == "<" else "…",
        problem,
    )
