"""What the README shows is what happens: the demo's output, the examples of configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from etl.cli import COMMANDS
from etl.configuration import load_settings
from etl.settings import Settings
from tests.contract import test_docs
from tests.contract.process import Models, new_job
from tests.contract.test_docs import blocks
from tests.duckdb_files import opened
from tests.processes import ROOT, run_etl, without_settings

shop = test_docs.shop
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
    """The command of `make demo`, on a copy of the project."""
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "ETL_LOG__FORMAT=text $(BIN)/etl run --profile demo\n" in make
    with new_job(tmp_path, models=Models.WHOLE) as job:
        done = run_etl(
            ["run", "--profile", "demo", "--project", str(job.folder)],
            tmp_path,
            without_settings(ETL_LOG__FORMAT="text", ETL_DEMO_DATE="2026-01-01"),
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


# -- your own API ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_is_right_for_other_write_dispositions(shop: str, tmp_path: Path) -> None:
    """Whatever is read and transformed again leaves each row once: merged, and replaced."""

    config, mart = (b for b in blocks() if b.file)
    (tmp_path / "config").mkdir()
    settings = yaml.safe_load(config.text)
    (products,) = settings["sources"]["shop"]["resources"]
    settings["sources"]["shop"]["resources"] = [
        products | {"name": "merged", "write_disposition": "merge", "primary_key": "id"},
        products | {"name": "replaced", "write_disposition": "replace"},
    ]
    (load,) = settings["loads"]
    settings["loads"] = [load | {"model": f"marts.{name}"} for name in ("merged", "replaced")]
    (tmp_path / config.file).write_text(yaml.safe_dump(settings), encoding="utf-8")
    for name in ("merged", "replaced"):
        path = tmp_path / Path(mart.file).with_name(f"{name}.sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = mart.text.replace("marts.prices_daily", f"marts.{name}")
        path.write_text(text.replace("stg_shop__products", f"stg_shop__{name}"), encoding="utf-8")
    environment = without_settings(
        ETL_SOURCES__SHOP__CLIENT__BASE_URL=shop,
        ETL_SOURCES__SHOP__CLIENT__AUTH__TOKEN="s3cret-t0ken",
    )
    for command in (
        ["run", "--stage", "extract"],
        ["generate"],
        ["run", "--stage", "transform"],
        ["run"],
    ):
        done = run_etl([*command, "--project", str(tmp_path)], tmp_path, environment)
        assert done.returncode == 0, done.stderr
    for name in ("merged", "replaced"):
        for file, table, key in (
            ("warehouse.duckdb", f"staging.stg_shop__{name}", "id"),
            ("marts.duckdb", name, "product_id"),
        ):
            with opened(tmp_path / "data" / file, read_only=True) as connection:
                rows = connection.sql(f"SELECT count(*), count(DISTINCT {key}) FROM {table}")
                assert rows.fetchall() == [(250, 250)], table
