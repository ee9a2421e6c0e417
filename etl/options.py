"""The command line's commands and options, each option with its variable."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from etl.arguments import Parser, Version, count, environment_name, seconds
from etl.exit_codes import FORMATS
from etl.names import STAGE_NAMES


def parse(argv: Sequence[str] | None, env: Mapping[str, str] | None = None) -> argparse.Namespace:
    """The command, by name in `command`, and its options.

    Raises:
        ConfigError: a variable holds what its option does not take.
        SystemExit: argparse has said what is to be said: help, version, a usage error.
    """
    arguments, unknown = _parser(os.environ if env is None else env).parse_known_args(argv)
    if unknown:
        parser: Parser = arguments.parser
        near = difflib.get_close_matches(unknown[0].partition("=")[0], parser.options(), 1)
        hint = f", did you mean {near[0]}?" if near else ""
        parser.error(f"no such option or argument: {' '.join(unknown)}{hint}")
    return arguments


def _parser(env: Mapping[str, str]) -> Parser:
    parser = Parser(
        env,
        prog="etl",
        description="A batch job that a scheduler can trust: extract, transform, audit, load.",
        epilog="Every option can be set by a variable: --wait-lock by ETL_WAIT_LOCK. "
        "Exit codes: etl exit-codes.",
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, default=argparse.SUPPRESS, help="print the version"
    )
    kind: Any = partial(Parser, env)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=kind
    )

    run = _command(
        commands, "run", "the job: extract → transform → audit → load",
        "examples:\n"
        "  etl run                                   the whole job\n"
        "  etl run --dry-run                         say what it would do\n"
        "  etl run --stage transform --stage audit   without extracting or publishing\n"
        "  etl run --select +marts.mutuals           one mart and what it reads\n"
        "  etl run --start 2026-01-01 --end 2026-01-31\n"
        "                                            build January again\n"
        "  etl run --environment dev_ann             in a virtual environment; not published\n"
        "  etl run --json --wait-lock 600            for a scheduler\n",
    )  # fmt: skip
    run.add_list(
        "--stage", None, "only this stage; repeat for more (always run in pipeline order)",
        choices=STAGE_NAMES,
    )  # fmt: skip
    run.add_list("--source", "NAME", "only this source and what depends on it; repeat for more")
    run.add_list(
        "--select", "SELECTOR",
        "only these models and what they read, in SQLMesh's selector language (+model, tag:x)",
    )  # fmt: skip
    _add_environment(run)
    run.add_switch(
        "--full-refresh",
        "extract everything anew in place of what is in raw, and build the models anew",
    )
    run.add_option("--start", "DATE", "build again what was loaded from this day on")
    run.add_option("--end", "DATE", "… up to this day")
    run.add_switch("--dry-run", "say what each stage would do; change nothing")
    _add_wait_lock(run)
    run.add_switch("--json", "print the run record on standard output")

    retry = _command(
        commands, "retry", "the last failed run again, from the stage that failed",
        "It keeps the run's id and options. After code 0 there is nothing to retry: code 2.",
    )  # fmt: skip
    _add_wait_lock(retry)
    retry.add_switch("--json", "print the run record on standard output")

    plan = _command(
        commands, "plan", "what a run would change in the models",
        "examples:\n"
        "  etl plan           show the changes that transform.approve lets through or holds back\n"
        "  etl plan --apply   approve them all\n",
    )  # fmt: skip
    plan.add_switch("--apply", "approve and apply what the policy holds back")
    _add_environment(plan)
    _add_wait_lock(plan)
    plan.add_switch("--json", "print the changes as JSON")

    generate = _command(
        commands, "generate", "SQL models from the schemas that dlt recorded",
        "Files can be edited by hand: what is generated later is merged into them.\n"
        "examples:\n"
        "  etl generate --source shop     external models, staging and dimensions\n"
        "  etl generate --fact orders     and a fact table with the keys of all it refers to\n"
        "  etl generate --check           write nothing; 11 when something would change\n",
    )  # fmt: skip
    generate.add_list("--source", "NAME", "only this source; repeat for more")
    generate.add_option("--table", "TABLE", "only the models of this raw table")
    generate.add_list("--fact", "TABLE", "also a fact table on this raw table; repeat for more")
    generate.add_switch("--check", "write nothing; end with 11 when something would change")
    _add_wait_lock(generate)
    generate.add_switch("--json", "print the files as JSON")

    lineage = _command(
        commands, "lineage", "where columns come from, and what they feed",
        "examples:\n"
        "  etl lineage marts.mutuals                        every column, up to the API's field\n"
        "  etl lineage marts.mutuals.handle                 one column\n"
        "  etl lineage 'marts.mutuals.*'                    what decides which rows there are\n"
        "  etl lineage bluesky_raw.followers.handle         what it feeds, down to the targets\n"
        "  etl lineage marts.mutuals --html                 a page to click through; keep it as a\n"
        "                                                   file\n\n"
        "It reads the models alone, so it can be asked while a run lasts.",
    )  # fmt: skip
    lineage.add_argument("name", metavar="MODEL[.column]", help="a model or a raw table")
    lineage.add_one_of({
        "--upstream": "what it is made of (the default for models)",
        "--downstream": "what it feeds (the default for raw tables)",
    })  # fmt: skip
    lineage.add_one_of({
        "--json": "print the graph as JSON",
        "--dot": "print the graph for Graphviz",
        "--html": "print the graph as one page that needs no network",
    })  # fmt: skip

    _add_looks(commands)
    _add_init(commands)

    config = _subparser(commands, "config", "show the settings, or their schema")
    parts = config.add_subparsers(metavar="PART", required=True, parser_class=kind)
    show = _command(
        parts, "show", "the merged settings, secrets masked",
        "The output is a valid config/etl.yaml, but for the masked secrets.",
    )  # fmt: skip
    show.add_switch("--all", "with every default")
    show.add_switch("--json", "print as JSON")
    schema = _subparser(parts, "schema", "the JSON Schema of config/*.yaml, for editors")
    schema.add_switch("--markdown", "a table of all settings instead")

    codes = _subparser(commands, "exit-codes", "what each exit code means")
    codes.add_option(
        "--format", "FORMAT", f"{', '.join(FORMATS)} (a podFailurePolicy for a Job)",
        usual="text", choices=tuple(FORMATS),
    )  # fmt: skip
    return parser


def _add_looks(commands: Any) -> None:
    status = _command(
        commands, "status", "last runs, freshness, pending packages, lock holder",
        "It reads files only, so it can be asked while a run lasts.",
    )  # fmt: skip
    status.add_option("--runs", "N", "how many runs to list (default: 10)", usual="10", type=count)
    status.add_switch("--json", "print the status as JSON")

    report = _command(
        commands, "report", "the HTML report of a run",
        "examples:\n"
        "  etl report                           write the latest run's again, and say where it is\n"
        "  etl report 20260101T040000Z-1f2e3d   that of an earlier run\n"
        "  etl report --html                    print it instead; keep it as a file\n\n"
        "Each run leaves its own beside its record. It reads files only.",
    )  # fmt: skip
    report.add_argument(
        "run", metavar="RUN", nargs="?", default="latest",
        help="the run's id, as `etl status` lists it (default: the latest)",
    )  # fmt: skip
    report.add_switch("--html", "print the page, and write nothing")

    doctor = _command(
        commands, "doctor", "can this job run here?",
        "It asks sources, warehouse, state, targets, disk and lock, and changes nothing. Its exit\n"
        "code is the one that a run would end with: 0 when all is well.\n"
        "It does not read the models: etl plan does.",
    )  # fmt: skip
    doctor.add_switch("--json", "print the findings as JSON")


def _add_init(commands: Any) -> None:
    init = _subparser(
        commands, "init", "a new project that runs",
        "examples:\n"
        "  etl init shop\n"
        "                 a project without a source\n"
        "  etl init shop --base-url https://api.example.com/v1/orders?limit=100\n"
        "                 asks the API once and proposes a source from its answer\n",
    )  # fmt: skip
    init.add_argument("directory", metavar="DIR", help="its folder: a new one, or an empty one")
    init.add_list("--source", "NAME", "the name of its source (default: from the host of the URL)")
    init.add_list(
        "--base-url", "URL",
        "a URL of a JSON API to propose a source from; repeat for more of the same API",
        separator=None,  # a URL may hold a comma
    )  # fmt: skip


def _subparser(commands: Any, name: str, text: str, epilog: str = "") -> Parser:
    parser: Parser = commands.add_parser(name, help=text, description=text, epilog=epilog)
    parser.set_defaults(parser=parser, command=parser.prog.removeprefix("etl "))
    return parser


def _command(commands: Any, name: str, text: str, epilog: str) -> Parser:
    """A command that works in a project."""
    parser = _subparser(commands, name, text, epilog)
    parser.add_option(
        "--project", "DIR", "the folder with config/ and sqlmesh/ (default: here)", usual="."
    )
    parser.add_option(
        "--profile", "NAME", "config/NAME.yaml on top of config/etl.yaml; several: A,B",
        usual="default",
    )  # fmt: skip
    return parser


def _add_environment(parser: Parser) -> None:
    parser.add_option(
        "--environment", "NAME", "SQLMesh environment; only prod is published to targets",
        usual="prod", type=environment_name,
    )  # fmt: skip


def _add_wait_lock(parser: Parser) -> None:
    parser.add_option(
        "--wait-lock", "SECONDS",
        "wait so long for another run to end, instead of leaving at once with 8",
        usual="0", type=seconds,
    )  # fmt: skip
