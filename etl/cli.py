"""The command line: parses, loads the settings, calls, returns the exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError, EtlError, ExitCode, classify_os_error

if TYPE_CHECKING:
    from etl.records import Options, RunRecord
    from etl.settings import Settings

STAGES = ("extract", "transform", "audit", "load")
TRUE = {"1", "true", "yes", "on"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the result is the process's exit code. The edge where every error ends."""
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return int(command(arguments))
    except ConfigError as e:
        _say_config_error(e)
        return int(e.code)
    except EtlError as e:
        _say(f"etl: {e.code.name} ({int(e.code)}): {e}" + (f"\n     → {e.hint}" if e.hint else ""))
        return int(e.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left (`etl status | head`): nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as e:
        known = classify_os_error(e)
        if known is not None:
            _say(f"etl: {known.code.name} ({int(known.code)}): {known}\n     → {known.hint}")
            return int(known.code)
        if os.environ.get("ETL_DEBUG"):
            raise
        _say(
            f"etl: UNEXPECTED (1): {type(e).__name__}: {e}\n     → a bug: please report it; "
            "ETL_DEBUG=1 shows where it happened"
        )
        return int(ExitCode.UNEXPECTED)


def _say(text: str) -> None:
    sys.stderr.write(_redact(text) + "\n")


def _redact(text: str) -> str:
    """Credentials in URLs never reach the screen, whatever message carries them."""
    if "://" not in text:
        return text
    from etl.secrets import redactor

    return redactor()(text)


def _say_config_error(error: ConfigError) -> None:
    if error.problems:
        _say(f"etl: {error}:")
        for problem in error.problems:
            _say(f"  {problem}")
    else:
        _say(f"etl: {error}" + (f"\n     → {error.hint}" if error.hint else ""))


# -- commands ----------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from etl.records import Options

    settings = _settings(arguments)
    options = Options(
        stages=tuple(s for s in STAGES if not arguments.stage or s in arguments.stage),
        sources=tuple(arguments.source or ()),
        select=tuple(arguments.select or ()),
        environment=arguments.environment,
        full_refresh=arguments.full_refresh,
        start=arguments.start,
        end=arguments.end,
        dry_run=arguments.dry_run,
    )
    return _finish(arguments, settings, options, None)


def _retry(arguments: argparse.Namespace) -> int:
    from etl.records import Options
    from etl.runs import last_failed

    settings = _settings(arguments)
    return _finish(arguments, settings, Options(), last_failed)


def _finish(
    arguments: argparse.Namespace,
    settings: Settings,
    options: Options,
    resume: Callable[[Settings], RunRecord] | None,
) -> int:
    from etl.job import run_job
    from etl.libraries import prepare_libraries
    from etl.summary import summarize

    prepare_libraries()
    record = run_job(settings, options, wait_lock=arguments.wait_lock, resume=resume)
    if settings.log.format == "text" or (settings.log.format == "auto" and sys.stderr.isatty()):
        sys.stderr.write(summarize(record, settings))
    if arguments.json:
        sys.stdout.write(record.model_dump_json(indent=2) + "\n")
        sys.stdout.flush()
    code = int(record.exit_code or 0)
    if code in (ExitCode.TIMEOUT, ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        # Threads that wait for the network would keep the process; all is written.
        sys.stderr.flush()
        os._exit(code)
    return code


def _plan(arguments: argparse.Namespace) -> int:
    from etl.libraries import prepare_libraries
    from etl.planning import apply_plan, show_plan

    prepare_libraries()
    settings = _settings(arguments)
    act = apply_plan if arguments.apply else show_plan
    lines = act(settings, arguments.environment, arguments.wait_lock)
    if arguments.json:
        sys.stdout.write(json.dumps({"changes": lines}, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(lines or ["nothing to change"]) + "\n")
    return int(ExitCode.OK)


def _status(arguments: argparse.Namespace) -> int:
    from etl.status import read_status, show_status

    status = read_status(_settings(arguments), arguments.runs)
    if arguments.json:
        sys.stdout.write(json.dumps(status, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(show_status(status))
    return int(ExitCode.OK)


def _config_show(arguments: argparse.Namespace) -> int:
    import yaml

    from etl.secrets import mask

    settings = _settings(arguments)
    shown = mask(settings.model_dump(exclude_unset=not arguments.all))
    shown = json.loads(json.dumps(shown, default=str))
    if arguments.json:
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    return int(ExitCode.OK)


def _config_schema(arguments: argparse.Namespace) -> int:
    from etl.settings_schema import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return int(ExitCode.OK)


def _exit_codes(arguments: argparse.Namespace) -> int:
    from etl.exit_codes import FORMATS

    sys.stdout.write(FORMATS[arguments.format]())
    return int(ExitCode.OK)


def _settings(arguments: argparse.Namespace) -> Settings:
    from etl.configuration import load_settings

    project = Path(arguments.project).resolve()
    if not project.is_dir():
        raise ConfigError(f"--project {arguments.project}: no such folder")
    return load_settings(project, arguments.profile)


# -- options -----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse whose usage errors are one line and end with the code of a wrong option."""

    def error(self, message: str) -> Any:
        """Say what is wrong and where the options are listed."""
        self.exit(int(ExitCode.CONFIG), f"etl: {message}\n     → {self.prog} --help\n")


def _parser(environ: Mapping[str, str] | None = None) -> argparse.ArgumentParser:
    env = os.environ if environ is None else environ
    parser = _Parser(
        prog="etl",
        description="A batch job that a scheduler can trust: extract, transform, audit, load.",
        epilog="Every option can be set by a variable: --wait-lock by ETL_WAIT_LOCK. "
        "Exit codes: etl exit-codes.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "the job: extract → transform → audit → load", env)
    run.add_argument(
        "--stage", action="append", choices=STAGES, default=_stages(env.get("ETL_STAGE")),
        help="only this stage; repeat for more (always run in pipeline order)",
    )  # fmt: skip
    run.add_argument(
        "--source", action="append", metavar="NAME", default=_listed(env.get("ETL_SOURCE")),
        help="only this source and what depends on it; repeat for more",
    )  # fmt: skip
    run.add_argument(
        "--select", action="append", metavar="SELECTOR", default=_listed(env.get("ETL_SELECT")),
        help="only these models and what they read, in SQLMesh's selector language (+model, tag:x)",
    )  # fmt: skip
    _environment(run, env)
    run.add_argument(
        "--full-refresh", action="store_true", default=_flag(env, "ETL_FULL_REFRESH"),
        help="extract everything anew in place of what is in raw, and build the models anew",
    )  # fmt: skip
    run.add_argument(
        "--start", metavar="DATE", default=env.get("ETL_START") or None,
        help="build again what was loaded from this day on",
    )  # fmt: skip
    run.add_argument(
        "--end", metavar="DATE", default=env.get("ETL_END") or None, help="… up to this day"
    )
    run.add_argument(
        "--dry-run", action="store_true", default=_flag(env, "ETL_DRY_RUN"),
        help="say what each stage would do; change nothing",
    )  # fmt: skip
    _wait_lock(run, env)
    _json(run, env, "print the run record on standard output")

    retry = _command(
        commands, "retry", _retry, "the last failed run again, from the stage that failed", env
    )
    _wait_lock(retry, env)
    _json(retry, env, "print the run record on standard output")

    plan = _command(commands, "plan", _plan, "what a run would change in the models", env)
    plan.add_argument(
        "--apply", action="store_true", help="approve and apply what the policy holds back"
    )
    _environment(plan, env)
    _wait_lock(plan, env)
    _json(plan, env, "print the changes as JSON")

    status = _command(
        commands, "status", _status, "last runs, freshness, pending packages, lock holder", env
    )
    status.add_argument("--runs", type=int, default=10, metavar="N", help="how many runs to list")
    _json(status, env, "print the status as JSON")

    config = commands.add_parser("config", help="show the settings, or their schema")
    parts = config.add_subparsers(metavar="PART", required=True)
    show = _command(parts, "show", _config_show, "the merged settings, secrets masked", env)
    show.add_argument("--all", action="store_true", help="with every default")
    _json(show, env, "print as JSON")
    schema = parts.add_parser("schema", help="the JSON Schema of config/*.yaml, for editors")
    schema.set_defaults(command=_config_schema)

    codes = commands.add_parser("exit-codes", help="what each exit code means")
    codes.add_argument(
        "--format", choices=("text", "markdown", "json", "kubernetes"), default="text",
        help="kubernetes: a podFailurePolicy for a Job",
    )  # fmt: skip
    codes.set_defaults(command=_exit_codes)
    return parser


def _command(
    commands: Any,
    name: str,
    function: Callable[[argparse.Namespace], int],
    text: str,
    env: Mapping[str, str],
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    parser.add_argument(
        "--project", metavar="DIR", default=env.get("ETL_PROJECT") or ".",
        help="the folder with config/ and sqlmesh/ (default: here)",
    )  # fmt: skip
    parser.add_argument(
        "--profile", metavar="NAME", default=env.get("ETL_PROFILE") or "default",
        help="config/NAME.yaml on top of config/etl.yaml",
    )  # fmt: skip
    return parser


def _environment(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    parser.add_argument(
        "--environment", metavar="NAME", type=_environment_name,
        default=env.get("ETL_ENVIRONMENT") or "prod",
        help="SQLMesh environment; only prod is published to targets",
    )  # fmt: skip


def _environment_name(text: str) -> str:
    if not text.replace("_", "").isalnum() or not text.isascii() or text != text.lower():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: lower-case letters, digits and _ only"
        )
    return text


def _wait_lock(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    parser.add_argument(
        "--wait-lock", type=_seconds, metavar="SECONDS", default=env.get("ETL_WAIT_LOCK") or "0",
        help="wait so long for another run to end, instead of leaving at once with 8",
    )  # fmt: skip


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def _json(parser: argparse.ArgumentParser, env: Mapping[str, str], text: str) -> None:
    parser.add_argument("--json", action="store_true", default=_flag(env, "ETL_JSON"), help=text)


def _flag(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in TRUE


def _listed(text: str | None) -> list[str] | None:
    return [x.strip() for x in text.split(",") if x.strip()] if text else None


def _stages(text: str | None) -> list[str] | None:
    stages = _listed(text)
    for stage in stages or ():
        if stage not in STAGES:
            raise ConfigError(f"ETL_STAGE: no such stage: {stage}", hint=f"{', '.join(STAGES)}")
    return stages


def _version() -> str:
    from importlib import metadata

    try:
        return f"etl {metadata.version('etl-job')}"
    except metadata.PackageNotFoundError:
        return "etl, not installed"
