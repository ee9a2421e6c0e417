"""What a source's last committed extraction looked like, kept on disk for the next one's guards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl.runs import write_atomically

if TYPE_CHECKING:
    from etl.raw.pipeline import Raw

FILE = "last.json"


def last_extraction(raw: Raw) -> dict[str, Any]:
    """What was kept by these names: `rows`, and by resource `pages`, `bases`, `tables`, `asked`.

    `pages` is the length of the resource's longest chain, `bases` where its rows are in an answer,
    `tables` where they go to, `asked` digests of its request. Empty when nothing was kept.
    """
    try:
        found = json.loads((raw.folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember_extraction(
    raw: Raw,
    rows: int,
    pages: Mapping[str, int],
    bases: Mapping[str, str],
    tables: Mapping[str, str],
    asked: Mapping[str, Mapping[str, str]],
) -> None:
    """Keep what the guards of the next run ask for.

    Raises:
        ResourcesError: the disk is full or the folder is not writable.
    """
    found = {"rows": rows, "pages": pages, "bases": bases, "tables": tables, "asked": asked}
    write_atomically(raw.folder / FILE, json.dumps(found))
