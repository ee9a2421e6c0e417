"""The command line: every option has its variable, output is data only, both entries are one."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.arguments import Parser
from etl.cli import COMMANDS, main
from etl.errors import ConfigError
from etl.options import _parser, parse
from etl.variables import OPTION_VARIABLES

ROOT = Path(__file__).parents[2]


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser of every command."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for child in action.choices.values():
            yield from commands(child)


OPTIONS = [
    (parser.prog.removeprefix("etl "), action.option_strings[-1])
    for parser in commands(_parser({}))
    for action in parser._actions
    if action.option_strings and action.dest != "help"
]
# A valid value of each option, and what it is then.
VALUES = {
    "--project": ("some/where", "some/where"), "--profile": ("demo", "demo"),
    "--stage": ("load,extract", ["load", "extract"]), "--source": ("a, b", ["a", "b"]),
    "--select": ("+marts.x,tag:y", ["+marts.x", "tag:y"]), "--environment": ("dev_x", "dev_x"),
    "--start": ("2026-01-01", "2026-01-01"), "--end": ("2026-01-02", "2026-01-02"),
    "--base-url": ("http://a/x http://a/y", ["http://a/x", "http://a/y"]),
    "--table": ("orders", "orders"), "--fact": ("a, b", ["a", "b"]),
    "--wait-lock": ("1.5", 1.5), "--runs": ("3", 3), "--format": ("json", "json"),
}  # fmt: skip
POSITIONALS = {"init": ["shop"], "lineage": ["marts.x"]}


def words(command: str) -> list[str]:
    """The command with the arguments that it cannot do without."""
    return [*command.split(), *POSITIONALS.get(command, [])]


def test_every_command_has_a_function() -> None:
    assert {p.prog.removeprefix("etl ") for p in commands(_parser({}))} == COMMANDS.keys()


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_has_its_variable_and_wins_over_it(command: str, option: str) -> None:
    text, value = VALUES.get(option, ("yes", True))
    dest = option.strip("-").replace("-", "_")
    assert dest.upper() in OPTION_VARIABLES
    variables = {f"ETL_{dest.upper()}": text}
    given = parse(words(command), variables)
    assert getattr(given, dest) == value
    assert vars(given).keys() == vars(parse(words(command), {})).keys()
    if option in VALUES:  # a switch can only be turned on
        usual = {"--stage": "audit", "--wait-lock": "9", "--runs": "9", "--format": "text"}
        last = usual.get(option, "z")
        found = getattr(parse([*words(command), option, last], variables), dest)
        assert found in (last, [last], 9, 9.0)


def test_a_switch_displaces_the_variable_of_one_that_excludes_it() -> None:
    given = parse(["lineage", "x", "--html"], {"ETL_JSON": "1"})
    assert (given.html, given.json, given.dot) == (True, False, False)
    with pytest.raises(ConfigError, match="ETL_DOT and ETL_HTML: only one"):
        parse(["lineage", "x"], {"ETL_HTML": "1", "ETL_DOT": "1"})
    with pytest.raises(SystemExit):
        parse(["lineage", "x", "--upstream", "--downstream"], {})


@pytest.mark.parametrize(
    ("variable", "text"),
    [("ETL_DRY_RUN", "maybe"), ("ETL_STAGE", "extrac"), ("ETL_FORMAT", "xml"), ("ETL_JSON", "ja")],
)
def test_a_variable_that_its_option_does_not_take_is_code_2(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, text)
    assert main(["status"]) == 2
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--stagee", "x"], "did you mean --stage?"),
        (["run", "--dry"], "did you mean --dry-run?"),
        (["run", "--stage", "extrac"], "invalid choice"),
        (["run", "--wait-lock", "soon"], "no number of seconds"),
        (["run", "--environment", "Dev-Ann"], "lower-case letters"),
        (["status", "--runs", "0x"], "no number of runs"),
        (["status", "--runs", "0"], "no number of runs"),
        (["nonsense"], "invalid choice"),
        (["config"], "PART"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_option_is_two_lines_and_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert line in out.err
    assert len(out.err.splitlines()) == 2
    assert re.search(r"→ etl.* --help$", out.err)


@pytest.mark.parametrize("parser", list(commands(_parser({}))), ids=lambda p: p.prog)
def test_every_command_explains_each_option(parser: argparse.ArgumentParser) -> None:
    assert isinstance(parser, Parser)
    assert all(a.help for a in parser._actions)
    # The examples are commands that parse.
    for line in re.findall(r"^  etl ([^\n]*?)(?:  .*)?$", parser.epilog or "", re.MULTILINE):
        parse(line.split(), {})


def run(*command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ETL_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_module_and_the_script_are_the_same(tmp_path: Path) -> None:
    script = str(Path(sys.executable).parent / "etl")
    for arguments in (["--help"], ["run", "--help"], ["exit-codes"], ["status"], ["run", "--x"]):
        one = run(sys.executable, "-m", "etl", *arguments, tmp_path=tmp_path)
        two = run(script, *arguments, tmp_path=tmp_path)
        assert (one.returncode, one.stdout, one.stderr) == (
            two.returncode, two.stdout, two.stderr,
        )  # fmt: skip


def test_a_terminal_without_unicode_is_no_failure(tmp_path: Path) -> None:
    os.environ["PYTHONIOENCODING"] = "ascii"
    try:
        done = run(sys.executable, "-m", "etl", "run", "--help", tmp_path=tmp_path)
    finally:
        del os.environ["PYTHONIOENCODING"]
    assert done.returncode == 0, done.stderr


def test_a_project_elsewhere_is_named_with_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "show"]) == 2
    assert "--project" in capsys.readouterr().err
    assert main(["config", "show", "--project", str(ROOT), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"] == "bluesky"
    assert main(["status", "--project", str(tmp_path / "none")]) == 2
