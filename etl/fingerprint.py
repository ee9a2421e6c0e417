"""What decides what the models are, as digests: the project's files, its settings, the versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from etl.settings import Settings
from etl.versions import versions

# What no model is made of. SQLMesh's tests say something about models and change none.
IGNORED = {"tests", "logs", "__pycache__"}
# How names begin of what Emacs and macOS leave beside files, under the names of models.
_LEFTOVERS = (".#", "._")


def fingerprint_project(settings: Settings, files: dict[str, str] | None = None) -> str:
    """A digest of all of it; `files` as `digest_files` found them earlier, else as they are."""
    whole = json.dumps([made_by(settings), digest_files(settings) if files is None else files])
    return hashlib.sha256(whole.encode()).hexdigest()


def made_by(settings: Settings) -> str:
    """What decides, beside its files, what a model is."""
    told = settings.transform.model_dump(mode="json", exclude={"approve", "pii"})
    return json.dumps([versions(), told], sort_keys=True)


def digest_files(settings: Settings) -> dict[str, str]:
    """The files that models are made of, each with a digest."""
    found: list[Path] = []
    for top in settings.sqlmesh_dir.glob("*"):  # `models` and its like may be links to folders
        if top.name not in IGNORED and not top.name.startswith("."):
            found += top.rglob("*") if top.is_dir() else [top]
    return {
        path.relative_to(settings.sqlmesh_dir).as_posix(): _digest(path)
        for path in sorted(found)
        if not path.is_dir() and "__pycache__" not in path.parts and not is_leftover(path)
    }


def is_leftover(path: Path) -> bool:
    """True for a file of an editor or a file system."""
    return path.name.startswith(_LEFTOVERS)


def _digest(path: Path) -> str:
    # A link to nothing is something that does not load.
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
