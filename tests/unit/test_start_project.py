"""A new project is there whole or not at all, and nothing that stands in its way is touched."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from etl.configuration import load_settings
from etl.errors import ConfigError
from etl.start import project as module
from etl.start.project import create_project

ROOT = Path(__file__).parents[2]
FILES = {
    "config/etl.yaml", "config/etl.schema.json", "sqlmesh/config.py", "tests/test_project.py",
    "sqlmesh/models/marts/calendar.sql", "sqlmesh/tests/test_calendar.yaml", "Dockerfile",
    ".dockerignore", ".gitignore", "README.md",
}  # fmt: skip
FOLDERS = {"sqlmesh/models/staging", "sqlmesh/audits", "sqlmesh/external_models"}


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_or_empty_folder_becomes_a_project(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    if exists:
        folder.mkdir()
    said = create_project(folder, None, [], {})
    assert said.endswith(f"next: etl run --project '{folder}'\n"), "as a shell takes it"
    assert files_of(folder) >= FILES
    assert all((folder / f).is_dir() for f in FOLDERS)
    assert [p.name for p in tmp_path.iterdir()] == ["my shop"]
    settings = load_settings(folder, environ={})
    assert (settings.job, settings.sources) == ("my-shop", {})


def test_no_placeholder_is_left(tmp_path: Path) -> None:
    create_project(tmp_path / "shop", "tea", [], {})
    for name in files_of(tmp_path / "shop"):
        text = (tmp_path / "shop" / name).read_text(encoding="utf-8")
        marks = ("<job>", "<source>", "<SOURCE>", "<sources>", "<version>")
        assert not any(m in text for m in marks), name


def test_its_image_stands_on_the_one_that_make_image_builds(tmp_path: Path) -> None:
    create_project(tmp_path / "shop", None, [], {})
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dockerfile = (tmp_path / "shop" / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nARG ETL_IMAGE=etl:{pyproject['project']['version']}\n" in dockerfile


def test_the_folder_that_someone_stands_in_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    create_project(Path(), None, [], {})
    assert tmp_path.stat().st_ino == before
    assert Path("config/etl.yaml").exists()


def test_others_may_read_it_as_they_may_read_any_new_folder(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    create_project(tmp_path / "shop", None, [], {})
    modes = {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("usual", "shop", "shop/config")}
    assert len(modes) == 1


def test_a_folder_with_anything_in_it_is_left_alone_and_said(tmp_path: Path) -> None:
    for name in "cadbegf":
        (tmp_path / name).write_text(name)
    with pytest.raises(ConfigError, match=r"not empty: a, b, c, d, e and 2 more"):
        create_project(tmp_path, None, [], {})
    assert sorted(p.name for p in tmp_path.iterdir()) == list("abcdefg")


def test_a_file_a_dead_link_and_a_missing_parent_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, words in (("file", "is a file"), ("link", "leads nowhere"), ("a/b", "no such fol")):
        with pytest.raises(ConfigError, match=words):
            create_project(tmp_path / name, None, [], {})
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]  # noqa: PTH208 - dead links too
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "urls", "words"),
    [
        ("My Shop", [], "is no name"),
        ("shop", ["api.example.com/v1"], "no address of an API"),
        ("shop", ["ftp://api.example.com/v1"], "no address of an API"),
        ("shop", ["https://x.org:port/"], "no address of an API"),
        ("shop", ["https:///v1"], "no address of an API"),
        ("shop", ["https://a.org/x", "https://b.org/x"], "different hosts"),
        ("shop", ["https://a.org/x", "https://u:pass@a.org/x"], "different credentials"),
        ("shop", ["https://u:pass@a.org/x?token=abcd"], "more than one secret"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is(
    source: str, urls: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        create_project(tmp_path / "shop", source, urls, {})
    assert not any(secret in str(raised.value) for secret in ("pass@", "abcd"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_while_writing_leaves_nothing(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop"
    if exists:
        folder.mkdir()

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "load_settings", fail)
    with pytest.raises(KeyboardInterrupt):
        create_project(folder, None, [], {})
    assert sorted(tmp_path.rglob("*")) == ([folder] if exists else [])


@pytest.mark.parametrize("exists", [False, True])
def test_what_someone_else_makes_meanwhile_is_not_overwritten(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop"
    if exists:
        folder.mkdir()

    def meanwhile(*_: object, **__: object) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "sqlmesh").write_text("mine")

    monkeypatch.setattr(module, "load_settings", meanwhile)
    with pytest.raises(ConfigError, match="meanwhile"):
        create_project(folder, None, [], {})
    assert files_of(tmp_path) == {"shop/sqlmesh"}
    assert (folder / "sqlmesh").read_text() == "mine"
