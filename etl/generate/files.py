"""Generated files: merged with hand edits, their generated form kept beside (docs/adr/0010).

`sqlmesh/.generated/` holds every file as it was generated last and belongs to the project like the
files themselves. A conflict leaves the file alone and writes `<file>.new`; who has taken from it
what he wants removes it, and the next generation merges from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etl.errors import TransformError
from etl.generate.merging import merge
from etl.runs import write_atomically

Action = Literal["new", "updated", "merged", "unchanged", "conflict", "kept", "removed"]
BASE = ".generated"
PROPOSED = ".new"
# A file's format: the text as `sqlmesh format` leaves it, None when it is broken.
Format = Callable[[str], str | None]


@dataclass(frozen=True)
class FileChange:
    """What becomes of one file.

    kept: written by hand and never generated; removed: generated, then deleted by hand. `lines` of
    a conflict are (first, last) in the file as it stands.
    """

    path: str
    action: Action
    lines: tuple[tuple[int, int], ...] = ()

    @property
    def changes(self) -> bool:
        """True when the project is not what its schemas would generate."""
        return self.action in ("new", "updated", "merged", "conflict")

    def __str__(self) -> str:
        where = ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in self.lines)
        told = {
            "conflict": f"changed by hand in lines {where}, where the schema changes too: left as "
            f"it is, the proposal is {self.path}{PROPOSED}",
            "kept": "written by hand: left as it is",
            "removed": "removed by hand: not written again",
        }
        return f"{self.path}: {told.get(self.action, self.action)}"


class GeneratedFiles:
    """The generated files of one SQLMesh project."""

    def __init__(self, folder: Path, format_file: Callable[[str], Format]) -> None:
        self._folder = folder
        self._format_file = format_file

    def known(self, pattern: str) -> list[str]:
        """Paths, relative to the project, that were generated before and match the pattern."""
        base = self._folder / BASE
        return sorted(str(p.relative_to(base)) for p in base.glob(pattern) if p.is_file())

    def is_own(self, path: str) -> bool:
        """True for a file that somebody wrote himself: it was never generated."""
        return (self._folder / path).is_file() and not (self._folder / BASE / path).is_file()

    def bring(self, wanted: Mapping[str, str], *, write: bool) -> list[FileChange]:
        """Bring files to their generated texts (formatted), hand edits kept.

        Raises:
            TransformError: a file that stands is no UTF-8.
        """
        # Side by side, because most of the time a file waits for the disk.
        with ThreadPoolExecutor(max_workers=8) as pool:
            brought = [
                pool.submit(self._bring_one, path, text, write)
                for path, text in sorted(wanted.items())
            ]
        return [each.result() for each in brought]

    def _bring_one(self, path: str, fresh: str, write: bool) -> FileChange:
        file, base_file = self._folder / path, self._folder / BASE / path
        base = self._settled_base(file, base_file, write)
        now = _read(file)
        if now == fresh:
            change, result = FileChange(path, "unchanged"), fresh
        elif now is None:
            change = FileChange(path, "new" if base is None else "removed")
            result = fresh
        elif base is None:
            return FileChange(path, "kept")
        elif base == fresh:
            change, result = FileChange(path, "unchanged"), now
        elif now == base:
            change, result = FileChange(path, "updated"), fresh
        else:
            change, result = _merged(path, self._format_file(path), base, now, fresh)
        if write:
            self._write(change, result, fresh, base)
        return change

    def _write(self, change: FileChange, result: str, fresh: str, base: str | None) -> None:
        file, base_file = self._folder / change.path, self._folder / BASE / change.path
        if change.action == "conflict":
            write_atomically(_beside(file), fresh)
            write_atomically(_beside(base_file), fresh)
            return
        if change.action in ("new", "updated", "merged"):
            write_atomically(file, result)
        _beside(file).unlink(missing_ok=True)
        _beside(base_file).unlink(missing_ok=True)
        # Last: killed before it, the next generation finds the file as it is now wanted.
        if base != fresh:
            write_atomically(base_file, fresh)

    @staticmethod
    def _settled_base(file: Path, base_file: Path, write: bool) -> str | None:
        """What was generated last; a proposal whose copy was removed counts as taken."""
        proposed = _beside(base_file)
        text = _read(proposed)
        if text is not None and not _beside(file).exists():
            if write:
                write_atomically(base_file, text)
                proposed.unlink()
            return text
        return _read(base_file)


def _merged(path: str, form: Format, base: str, now: str, fresh: str) -> tuple[FileChange, str]:
    # Formatted first, so that only what was meant counts as an edit.
    ours = form(now)
    merged = merge(base, ours if ours is not None else now, fresh)
    result = form(merged.text) if not merged.conflicts and ours is not None else None
    if result is not None:
        return FileChange(path, "merged"), result
    lines = merge(base, now, fresh).conflicts or ((1, len(now.splitlines())),)
    return FileChange(path, "conflict", lines), now


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except UnicodeDecodeError as e:
        raise TransformError(
            f"{file}: is not UTF-8 text (byte {e.start})", hint="save it as UTF-8, then try again"
        ) from e


def _beside(file: Path) -> Path:
    return file.with_name(file.name + PROPOSED)
