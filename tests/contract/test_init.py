"""`etl init` as people use it: a real process, the commands of the new project, the docs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from etl.demo import Replay
from etl.start.answer import Answer
from etl.start.guess import guess_resources
from etl.start.proposal import as_yaml, make_proposal
from tests.contract.process import DAY
from tests.duckdb_files import opened
from tests.processes import ROOT, run_etl, without_settings

BIN = Path(sys.executable).parent


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command; what `pytest` starts is started anew, so `etl` and `sqlmesh` are forked here."""
    if command[0] in ("etl", "sqlmesh"):
        return run_etl(command[1:], cwd, without_settings(**variables), program=command[0])
    return subprocess.run(
        command,
        cwd=cwd,
        env=without_settings(PATH=f"{BIN}:{os.environ['PATH']}", **variables),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def etl(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("etl", *arguments, cwd=cwd, **variables)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project without a source."""
    folder = tmp_path_factory.mktemp("init")
    done = etl("init", "shop", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "etl run --project shop" in done.stdout
    return folder / "shop"


@pytest.mark.slow
def test_every_command_of_the_new_projects_readme_succeeds(project: Path) -> None:
    text = (project / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```shell\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line)
        if words[0] == "docker":
            continue  # the image is built from a base image that is not here
        if words[0] == "pytest":
            words[1:1] = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(project)]
        done = run(*words, cwd=project)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (project / "data" / "marts.duckdb").exists()


def test_the_plain_sqlmesh_commands_work_in_a_new_project(project: Path) -> None:
    for command in (["format", "--check"], ["plan", "--no-prompts", "--auto-apply"]):
        done = run("sqlmesh", "-p", "sqlmesh", *command, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_new_projects_files_pass_the_linters(project: Path) -> None:
    for command in (
        ["hadolint", "Dockerfile"],
        ["ruff", "check", "--isolated", "--select", "E,F,I,UP,ANN,D100", "--no-cache", "."],
        ["ruff", "format", "--isolated", "--check", "--no-cache", "."],
    ):
        done = run(str(BIN / command[0]), *command[1:], cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_project_without_models_and_sources_ends_with_0(tmp_path: Path) -> None:
    assert etl("init", "bare", cwd=tmp_path).returncode == 0
    bare = tmp_path / "bare"
    (bare / "sqlmesh" / "models" / "marts" / "calendar.sql").unlink()
    config = bare / "config" / "etl.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.partition("\nloads:")[0], encoding="utf-8")
    for _ in range(2):
        done = etl("run", "--project", "bare", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "no source to read" in done.stderr


@pytest.mark.slow
def test_a_source_proposed_from_the_replay_is_read_whole_and_modelled(tmp_path: Path) -> None:
    with Replay(date=DAY) as replay:
        urls = [
            f"--base-url={replay.base_url}app.bsky.graph.{name}?actor=bulk-300.test&limit=100"
            for name in ("getFollowers", "getFollows")
        ]
        done = etl("init", "sky", "--source", "bluesky", *urls, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(replay.requests) == 2
        assert "cursor holds a cursor" in done.stdout
        assert etl("config", "show", "--project", "sky", cwd=tmp_path).returncode == 0
        said = {}
        for command in (["run", "--stage", "extract"], ["generate"], ["run"]):
            done = etl(*command, "--project", "sky", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            said[command[0]] = done.stdout
    marts = ["marts.dim_bluesky__followers", "marts.dim_bluesky__follows"]
    assert f"not published yet: {', '.join(marts)}\n" in said["generate"]
    (line,) = [x for x in said["generate"].splitlines() if "add to `loads`" in x]
    config = tmp_path / "sky" / "config" / "etl.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(f"{text}  {line.partition('etl.yaml: ')[2]}\n", encoding="utf-8")
    assert etl("run", "--stage", "load", "--project", "sky", cwd=tmp_path).returncode == 0
    with opened(tmp_path / "sky" / "data" / "marts.duckdb", read_only=True) as published:
        assert published.execute("SELECT count(*) FROM dim_bluesky__followers").fetchall() == [
            (300,)
        ]

    expected = {"followers": 300, "follows": 300}
    with opened(tmp_path / "sky" / "data" / "warehouse.duckdb") as connection:
        for table, rows in expected.items():
            for name in (f"bluesky_raw.{table}", f"staging.stg_bluesky__{table}"):
                sql = f"SELECT count(*), count(DISTINCT did) FROM {name}"
                assert connection.execute(sql).fetchall() == [(rows, rows)]


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    done = etl("init", "shop", "--source", "a", "--source", "b", cwd=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_url_is_never_shown(tmp_path: Path) -> None:
    done = etl("init", "x", "--base-url", "http://ann:s3cret@127.0.0.1:9/teas", cwd=tmp_path)
    assert done.returncode == 4
    assert "s3cret" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_documentation_shows_what_is_proposed() -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    shown = re.search(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    rows = [{"id": n, "total": 5, "updated_at": "2026-01-01T00:00:00Z"} for n in range(100)]
    url, params = "https://api.example.com/v1/orders", {"limit": "100"}
    resources = guess_resources(Answer(url, {"orders": rows, "next_cursor": "abc"}, params))
    assert shown.group(1) == as_yaml(make_proposal("example", {}, resources))
