"""What the API server stores is what was sent: no value dropped, none replaced by a default."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def lost(sent: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Where they differ; what the server adds to an object is its own."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        for key, value in sent.items():
            yield from lost(value, stored.get(key), f"{path}.{key}")
    elif isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        for number, value in enumerate(sent):
            yield from lost(value, stored[number], f"{path}[{number}]")
    elif sent != stored and (sent, stored) != ([], None):  # an empty list is stored as none
        yield f"{path}: {stored!r} instead of {sent!r}"


def main() -> None:
    """Compare a file of manifests with `kubectl get -f FILE -o json` on standard input."""
    sent = list(yaml.safe_load_all(Path(sys.argv[1]).read_text(encoding="utf-8")))
    stored = json.load(sys.stdin)["items"]
    found = [
        f"{one['kind']} {one['metadata']['name']} {problem}"
        for one, other in zip(sent, stored, strict=True)
        for problem in lost(one, other)
    ]
    if found:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
