"""Removes from an environment what no run of the job reads, and says what each part weighed.

    python slim.py SITE_PACKAGES

The image's build calls it after the locked requirements were installed, and its test runs the job
with what is left. A pattern that matches nothing is an error: a library moved, so look again.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# Pattern below site-packages: why nothing in a run reads it.
UNUSED = {
    "**/tests": "the libraries' own tests",
    "jedi/third_party": "type stubs for completion in notebooks",
    "jupyterlab_widgets": "JavaScript of notebooks",
    "widgetsnbextension/static": "JavaScript of notebooks",
    "../../../share/jupyter": "JavaScript of notebooks",
    "web": "SQLMesh's user interface; its server is an extra that is not installed",
    "pyarrow/include": "headers, to build against Arrow",
    "pyarrow/includes": "Cython's declarations, likewise",
    "pyarrow/src": "sources, likewise",
    "pyarrow/*.p[xy][xid]": "sources, likewise",
    "pyarrow/*_flight*": "Arrow's remote procedure calls",
    "pyarrow/*_s3*": "S3 from within Arrow: files are local here, and dlt has its own way",
    "numpy/f2py": "Fortran compiler's front end",
    "numpy/**/*.a": "static libraries, to build against NumPy",
    "numpy/_core/include": "headers, likewise",
    "numpy/_core/_simd.*": "what NumPy's tests see of its kernels",
}
# Byte code of what a run does not import; the source stays, so that it works all the same.
NOT_IMPORTED = (
    "IPython/terminal", "dateparser/data", "dateparser_data", "dlt/_workspace",
    "duckdb/experimental", "git", "gitdb", "ipywidgets", "jedi", "numpy/polynomial",
    "pandas/plotting", "parso", "prompt_toolkit", "psutil", "pydantic/v1", "pygments/formatters",
    "pygments/lexers", "pygments/styles", "setuptools", "sqlmesh/dbt", "sqlmesh/lsp", "sqlmesh_dbt",
    "wcwidth",
)  # fmt: skip


def main(site_packages: Path) -> None:
    """Remove, make copies of one library one file, and tell of each."""
    for pattern, reason in UNUSED.items():
        found = list(site_packages.glob(pattern))
        if not found:
            raise SystemExit(
                f"slim.py: nothing matches {pattern} ({reason}): has the library moved?"
            )
        tell(sum(map(remove, found)), pattern, reason)
    tell(sum(map(link, copies(site_packages / "pyarrow"))), "pyarrow/*.so", "copies of one library")
    libraries = [f for f in site_packages.rglob("*.so*") if f.is_file() and not f.is_symlink()]
    tell(sum(map(strip, libraries)), "*.so", "symbols that only a linker or debugger reads")
    caches = [c for name in NOT_IMPORTED for c in (site_packages / name).rglob("__pycache__")]
    tell(sum(map(remove, caches)), "__pycache__", "byte code of what is not imported")


def tell(size: int, what: str, why: str) -> None:
    """One line of the build's log."""
    sys.stdout.write(f"{size / 1e6:6.1f} MB  {what}: {why}\n")


def remove(path: Path) -> int:
    """Bytes that went with it."""
    if not path.exists():  # below a folder that has gone
        return 0
    size = sum(f.stat().st_size for f in [path, *path.rglob("*")] if f.is_file())
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return size


def copies(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A wheel has no links: the library under its three names is three files."""
    for real in folder.glob("*.so.*.*.*"):
        stem = real.name.partition(".so")[0]
        for other in folder.glob(f"{stem}.so*"):
            if other != real and other.read_bytes() == real.read_bytes():
                yield real, other


def link(pair: tuple[Path, Path]) -> int:
    """Bytes that a link instead of the copy saves."""
    real, other = pair
    size = remove(other)
    other.symlink_to(real.name)
    return size


def strip(library: Path) -> int:
    """Bytes cut off behind the last segment: section headers and symbol tables.

    What a loader maps is named by the program headers of an ELF file, and nothing else. `strip`
    would do more, but a slim base image has none, and what apt brings is not locked.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\2\1":  # 64 bits, little-endian: every platform with wheels here
        return 0
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = (struct.unpack_from("<8xQ16xQ", data, headers + i * size) for i in range(count))
    end = max(headers + count * size, *(offset + length for offset, length in segments))
    struct.pack_into("<Q", data, 40, 0)  # where the section headers are
    struct.pack_into("<2H", data, 60, 0, 0)  # how many, and which one names them
    library.write_bytes(data[:end])
    return len(data) - end


if __name__ == "__main__":
    main(Path(sys.argv[1]))
