"""What the README shows is what happens: the demo's output, the examples of configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from etl.cli import COMMANDS
from etl.configuration import load_settings
from etl.settings import Settings
from tests.contract.process import Models, new_job
from tests.contract.test_docs import blocks
from tests.processes import ROOT, run_etl, without_settings

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(words: str) -> str:
    """The first fenced block after these words."""
    assert words in TEXT, words
    found = re.search(r"^```\w+\n(.*?)^```$", TEXT.partition(words)[2], re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def exported(block: str) -> dict[str, str]:
    lines = [shlex.split(line) for line in block.splitlines() if line.startswith("export ")]
    return dict(words[1].split("=", 1) for words in lines)


def shipped(profile: str = "default", **variables: str) -> Settings:
    return load_settings(ROOT, profile, variables)


# -- the demo --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The command of `make demo`, on a copy of the project; no proxy is asked for the replay."""
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "ETL_LOG__FORMAT=text $(BIN)/etl run --profile demo\n" in make
    proxy = "http://127.0.0.1:9"
    with new_job(tmp_path, models=Models.WHOLE) as job:
        done = run_etl(
            ["run", "--profile", "demo", "--project", str(job.folder)],
            tmp_path,
            without_settings(
                ETL_LOG__FORMAT="text",
                ETL_DEMO_DATE="2026-01-01",
                http_proxy=proxy,
                https_proxy=proxy,
                no_proxy="",
                NO_PROXY="example.com",
            ),
        )
    assert done.returncode == 0, done.stderr
    lines = iter(done.stderr.splitlines())
    for shown in block_after("it ends\nwith:").splitlines():
        pattern = ".*".join(re.escape(part) for part in shown.split("…"))
        assert any(re.fullmatch(pattern, line) for line in lines), shown
    for word in ("record ", "log ", "target ", "look "):
        assert any(line.startswith(word) for line in lines), word


# -- configuration ---------------------------------------------------------------------------------


def test_the_profile_of_the_readme_overlays_the_shipped_configuration(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    shipped_text = (ROOT / "config" / "etl.yaml").read_text(encoding="utf-8")
    (tmp_path / "config" / "etl.yaml").write_text(shipped_text, encoding="utf-8")
    overlay = block_after("**A profile** holds only what differs.")
    (tmp_path / "config" / "two.yaml").write_text(overlay, encoding="utf-8")
    settings = load_settings(tmp_path, "two", {})
    source = settings.sources["bluesky"]
    assert source.for_each == {"actor": ("chess.com", "lichess.org")}
    # Mappings are merged key by key: the rest of the source is still there.
    assert source.resources == shipped().sources["bluesky"].resources


def test_the_variables_of_the_readme_set_what_they_say() -> None:
    variables = exported(block_after("**Environment variables** are"))
    before, after = shipped(), shipped(**variables)
    source, earlier = after.sources["bluesky"], before.sources["bluesky"]
    assert after.timeout == 1800
    assert source.rate_limit is not None
    assert earlier.rate_limit is not None
    assert source.rate_limit.requests == 1000
    assert source.rate_limit.seconds == earlier.rate_limit.seconds
    assert source.for_each == {"actor": ("chess.com", "lichess.org")}
    first, second = source.resources
    assert first == earlier.resources[0]
    assert isinstance(second, dict)
    assert second["endpoint"]["params"] == {"actor": "{actor}", "limit": 50}


def test_the_secrets_directory_of_the_readme_wins_over_variables(tmp_path: Path) -> None:
    for block in blocks("yaml"):
        if block.file == "config/etl.yaml":
            (tmp_path / "config").mkdir()
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    script = block_after("**A secrets directory** holds") + 'printf "%s" "$ETL_SECRETS_DIR"\n'
    done = subprocess.run(
        ["/bin/sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (variable,) = exported(script)
    name = "ETL_SOURCES__SHOP__CLIENT__AUTH__TOKEN"
    settings = load_settings(
        tmp_path, environ={variable: str(tmp_path / done.stdout), name: "of the variable"}
    )
    client = settings.sources["shop"].client
    assert client is not None
    assert client["auth"]["type"] == "bearer"
    assert client["auth"]["token"].get_secret_value() == "t0ken"
    assert "t0ken" not in repr(settings)


# -- tables ----------------------------------------------------------------------------------------


def test_every_command_stands_in_the_table() -> None:
    section = TEXT.split("\n## Commands\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `etl ([a-z -]+)` \|", section, re.MULTILINE)) == set(COMMANDS)
