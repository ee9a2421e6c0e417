"""The scripts of the image's build: what they take out of packages, and the bill of materials."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCK = """\
# by hand
tenacity==9.2.1 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "image" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lock_is_read_for_this_platform_with_its_hashes() -> None:
    assert script("sbom").read_lock(LOCK) == {"tenacity": ("9.2.1", ["a" * 64, "b" * 64])}


def bill(tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    file = tmp_path / "lock.txt"
    file.write_text(lock)
    monkeypatch.setattr("sys.argv", ["sbom.py", "-r", str(file), *more])
    script("sbom").main()


def test_a_version_that_is_not_the_locked_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"tenacity: locked 0\.1, installed \d"):
        bill(tmp_path, "tenacity==0.1\n", monkeypatch)


def test_what_nobody_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="pytest: installed, not locked"):
        bill(tmp_path, "", monkeypatch, "--complete")


def test_a_package_has_its_licence_and_its_dependencies() -> None:
    sbom: Any = script("sbom")
    installed = {d.name.lower(): d for d in sbom.metadata.distributions()}
    lock = {n: (installed[n].version, ["a" * 64]) for n in ("requests", "urllib3", "idna")}
    document = sbom.describe(lock, installed, "1.2.3")
    idna, requests, _ = document["components"]
    assert document["metadata"]["component"]["version"] == "1.2.3"
    assert idna["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert requests["externalReferences"][0]["hashes"][0]["content"] == "a" * 64
    needs = {d["ref"].partition("@")[0]: d["dependsOn"] for d in document["dependencies"]}
    assert len(needs["pkg:pypi/requests"]) == 2  # of those that are locked


def test_a_library_without_its_symbols_still_loads(tmp_path: Path) -> None:
    found = sorted(Path(sysconfig.get_paths()["platlib"]).glob("**/*.so"))
    if not found or found[0].read_bytes()[:4] != b"\x7fELF":
        pytest.skip("no ELF libraries here")
    library = tmp_path / "library.so"
    shutil.copy(next(f for f in found if f.name.startswith("_yaml")), library)
    before = library.stat().st_size
    cut = script("slim").strip(library)
    assert cut > 0
    assert library.stat().st_size == before - cut
    assert script("slim").strip(library) == 0  # nothing is left to cut
    assert hasattr(ctypes.CDLL(str(library)), "PyInit__yaml")


def test_a_file_that_is_no_library_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "linker.so"
    text.write_bytes(b"INPUT(-lfoo)")
    assert script("slim").strip(text) == 0
    assert text.read_bytes() == b"INPUT(-lfoo)"


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nothing matches"):
        script("slim").main(tmp_path)
