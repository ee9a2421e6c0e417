"""The settings described: a JSON Schema for editors, a table for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etl.settings import Settings
from etl.variables import INTERNAL, variable_name


def json_schema() -> dict[str, Any]:
    """The JSON Schema of config/*.yaml, for editors.

    Groups may be given in part, a profile's file has only what differs; an item of a list is given
    whole.
    """
    schema = Settings.model_json_schema()
    for name in INTERNAL:
        schema["properties"].pop(name, None)
    for name, part in [("", schema), *schema.get("$defs", {}).items()]:
        if name != "Load":
            part.pop("required", None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "etl configuration"
    return schema


def settings_table() -> str:
    """All settings as a Markdown table: key path, type, default, meaning, variable."""
    lines = ["| setting | type | default | meaning | variable |", "|---|---|---|---|---|"]
    schema = json_schema()
    for path, leaf in _leaves(schema, schema, ()):
        default = leaf.get("default")
        shown = "" if default in (None, [], {}) else f"`{_scalar(default)}`"
        text = str(leaf.get("description", "")).replace("|", "\\|")
        name = variable_name(p.strip("<>") for p in path)
        lines.append(f"| `{'.'.join(path)}` | {_type(leaf)} | {shown} | {text} | `{name}` |")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _leaves(
    schema: dict[str, Any], node: dict[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for name, part in node["properties"].items():
        group = _group(schema, part)
        extra = _group(schema, part.get("additionalProperties") or {})
        items = _group(schema, part.get("items") or {})
        if group is not None:
            yield from _leaves(schema, group, (*path, name))
        elif extra is not None:
            yield from _leaves(schema, extra, (*path, name, "<name>"))
        elif items is not None:
            yield from _leaves(schema, items, (*path, name, "<0>"))
        else:
            yield (*path, name), part


def _group(schema: dict[str, Any], part: Any) -> dict[str, Any] | None:
    """The group of settings that this part of the schema refers to."""
    if not isinstance(part, dict):
        return None
    for option in (part, *part.get("anyOf", ())):
        if "$ref" in option:
            found: dict[str, Any] = schema["$defs"][option["$ref"].rpartition("/")[2]]
            return found
    return None


def _type(leaf: dict[str, Any]) -> str:
    kinds = []
    for option in leaf.get("anyOf") or [leaf]:
        if "enum" in option:
            kinds.append(", ".join(f"`{v}`" for v in option["enum"]))
        elif option.get("format") in {"date", "path"}:
            kinds.append(option["format"])
        elif option.get("type") == "array":
            kinds.append("list")
        elif option.get("type") == "object":
            kinds.append("mapping")
        elif option.get("type") not in {"null", None}:
            kinds.append(
                {"string": "text", "boolean": "true, false"}.get(option["type"], option["type"])
            )
    return " or ".join(dict.fromkeys(kinds))
