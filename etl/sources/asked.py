"""What settings ask an API for, part by part: told when it changes behind a cursor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from etl.secrets import mask
from etl.settings import Source

# Parameters, in small letters, that say how many rows a page has: the rows are the same.
PAGE_SIZES = {
    "limit", "per_page", "page_size", "pagesize", "size", "max_results", "top", "take", "first",
    "page_limit", "count", "rows",
}  # fmt: skip
# Parts of an endpoint that say which rows come.
_PARTS = ("path", "json", "data", "data_selector")


def asked_by(source: Source) -> dict[str, dict[str, str]]:
    """Of each resource that settings describe the parts of its request, each as a digest.

    Secrets count as one value: with a key that is renewed the rows are the same.
    """
    asked = {}
    for given in source.resources:
        resource: Mapping[str, Any] = {"name": given} if isinstance(given, str) else given
        name = str(resource.get("name"))
        shared = endpoint_of(source.resource_defaults, name)
        endpoint = shared | endpoint_of(resource, name)
        params = (shared.get("params") or {}) | (endpoint.get("params") or {})
        found = {part: endpoint.get(part) for part in _PARTS}
        found["method"] = str(endpoint.get("method") or "GET").upper()
        steps = source.resource_defaults.get("processing_steps")
        found["processing_steps"] = resource.get("processing_steps", steps)
        found |= {
            f"params.{n}": value
            for n, value in params.items()
            if n.lower() not in PAGE_SIZES and not _is_cursor(value)
        }
        asked[name] = {part: _digest(value) for part, value in found.items() if value is not None}
    return asked


def tell_changed(
    source: str,
    before: Mapping[str, Mapping[str, str]],
    now: Mapping[str, Mapping[str, str]],
    incremental: Collection[str],
) -> Iterator[str]:
    """A line for each resource with a cursor that asks otherwise than in the last extraction.

    What it would find by now among the older rows is not read. Resources that `for_each` repeats
    are named once.
    """
    for name in sorted({resource.partition("[")[0] for resource in incremental}):
        earlier, parts = before.get(name), now.get(name, {})
        if earlier is not None and earlier != parts:
            changed = sorted(p for p in {*earlier, *parts} if earlier.get(p) != parts.get(p))
            yield (
                f"{source}.{name}: it asks otherwise than in the last run ({', '.join(changed)}), "
                "and only for what lies behind its cursor: of older rows it reads none that it "
                f"left out before; `etl run --full-refresh --source {source}` reads everything anew"
            )


def endpoint_of(resource: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A resource's endpoint, which may be written as a path alone, or not at all."""
    endpoint = resource.get("endpoint")
    if isinstance(endpoint, Mapping):
        return dict(endpoint)
    return {"path": endpoint or name}


def _is_cursor(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "incremental"


def _digest(value: Any) -> str:
    text = json.dumps(mask(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
