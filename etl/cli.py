"""The command line: parses, loads the settings, calls, returns the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from etl.causes import classify_os_error
from etl.errors import ANY_FAILURE, ConfigError, EtlError, ExitCode, Stopped
from etl.exits import fail, leave, leave_record, open_streams, put_out, redact, say, tell
from etl.libraries import prepare_libraries
from etl.names import STAGE_NAMES
from etl.options import parse

if TYPE_CHECKING:
    from etl.records import Options, RunRecord
    from etl.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the result is the process's exit code. The edge where every error ends."""
    try:
        open_streams()
        help_text, complaint = StringIO(), StringIO()
        try:
            with redirect_stdout(help_text), redirect_stderr(complaint):
                arguments = parse(argv)
        except SystemExit as e:  # argparse has said it: --help, --version, a usage error
            put_out(help_text.getvalue())
            tell(complaint.getvalue())
            said, _, hint = complaint.getvalue().removeprefix("etl: ").partition("→")
            return leave(ConfigError(said, hint=hint.strip())) if e.code else 0
        prepare_libraries()
        return COMMANDS[arguments.command](arguments) or 0
    except EtlError as e:
        return fail(e)
    except Stopped as e:  # there is no run: it waited for the lock, or was a plan
        return leave(EtlError(e.code.meaning, code=e.code))
    except KeyboardInterrupt:
        return leave(EtlError(ExitCode.INTERRUPTED.meaning, code=ExitCode.INTERRUPTED))
    except ANY_FAILURE as e:
        if (known := classify_os_error(e)) is not None:
            return fail(known)
        if os.environ.get("ETL_DEBUG") and isinstance(e, Exception):
            raise
        say(
            f"etl: UNEXPECTED (1): {type(e).__name__}: {e}\n     → a bug: please report it; "
            "ETL_DEBUG=1 shows where it happened"
        )
        return leave(EtlError(f"{type(e).__name__}: {e}", hint="a bug: please report it"))


# -- commands ----------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from etl.records import Options

    options = Options(
        stages=tuple(s for s in STAGE_NAMES if not arguments.stage or s in arguments.stage),
        sources=tuple(arguments.source or ()),
        select=tuple(arguments.select or ()),
        environment=arguments.environment,
        full_refresh=arguments.full_refresh,
        start=arguments.start,
        end=arguments.end,
        dry_run=arguments.dry_run,
    )
    return _finish(arguments, options)


def _retry(arguments: argparse.Namespace) -> int:
    from etl.past_runs import last_failed
    from etl.records import Options

    return _finish(arguments, Options(), last_failed)


def _finish(
    arguments: argparse.Namespace,
    options: Options,
    resume: Callable[[Settings], RunRecord] | None = None,
) -> int:
    settings = _settings(arguments)  # before the imports: what is wrong there is told at once
    from etl.job import run_job
    from etl.logs import is_readable
    from etl.summary import summarize

    # Standard output is for data alone: what a source, a macro or a library prints goes elsewhere.
    with redirect_stdout(sys.stderr):
        record = run_job(
            settings, options, wait_lock=arguments.wait_lock, resume=resume, at_end=leave_record
        )
    if is_readable(settings) and not settings.log.quiet:
        tell(summarize(record, settings))
    code = int(record.exit_code or 0)
    if arguments.json:
        try:
            put_out(record.model_dump_json(indent=2) + "\n")
        except OSError:  # a full disk: the run's own failure counts more
            if not code:
                raise
    if code in (ExitCode.TIMEOUT, ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        # Threads that wait for the network would keep the process; all is written.
        tell("")
        os._exit(code)
    return code


def _plan(arguments: argparse.Namespace) -> None:
    from etl.planning import plan

    settings = _settings(arguments)
    with redirect_stdout(sys.stderr):
        lines = plan(settings, arguments.environment, arguments.wait_lock, apply=arguments.apply)
    if arguments.json:
        _print_json({"changes": lines})
    else:
        put_out("\n".join(lines or ["nothing to change"]) + "\n")


def _generate(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from etl.generate.generation import generate, refuse_changes, tell_unpublished

    settings = _settings(arguments)
    with redirect_stdout(sys.stderr):
        changes = generate(
            settings,
            arguments.wait_lock,
            sources=arguments.source,
            table=arguments.table,
            facts=arguments.fact,
            write=not arguments.check,
        )
    if arguments.json:
        _print_json({"files": [asdict(c) for c in changes]})
    else:
        told = [str(c) for c in changes if c.action != "unchanged"]
        same = len(changes) - len(told)
        told += [f"{same} unchanged"] if same else []
        put_out("\n".join(told + tell_unpublished(settings, changes)) + "\n")
    refuse_changes(changes, check=arguments.check)


def _lineage(arguments: argparse.Namespace) -> None:
    from etl.lineage.answer import find_lineage
    from etl.lineage.html import as_html
    from etl.lineage.text import as_dot, as_json, as_tree

    settings = _settings(arguments)
    forms = ((arguments.html, as_html), (arguments.dot, as_dot), (arguments.json, as_json))
    show = next((form for is_asked, form in forms if is_asked), as_tree)
    direction: Literal["upstream", "downstream"] | None = None
    if arguments.upstream or arguments.downstream:
        direction = "upstream" if arguments.upstream else "downstream"
    with redirect_stdout(sys.stderr):
        text = show(find_lineage(settings, arguments.name, direction))
    put_out(text)


def _status(arguments: argparse.Namespace) -> None:
    from etl.status import read_status, show_status

    status = read_status(_settings(arguments), arguments.runs)
    if arguments.json:
        _print_json(status)
    else:
        put_out(show_status(status))


def _report(arguments: argparse.Namespace) -> None:
    from etl.past_runs import find_run
    from etl.report.page import make_page, write_page

    settings = _settings(arguments)
    record = find_run(settings, arguments.run)
    put_out(make_page(settings, record) if arguments.html else f"{write_page(settings, record)}\n")


def _doctor(arguments: argparse.Namespace) -> int:
    from etl.doctor import examine
    from etl.doctor.findings import as_json, as_table, verdict
    from etl.secrets import redactor, secrets_of_dlt

    settings = _settings(arguments)
    with redirect_stdout(sys.stderr):
        findings = examine(settings)
    redact_found = redactor(settings, secrets_of_dlt())
    if arguments.json:
        _print_json(as_json(findings), redact_found)
    else:
        put_out(redact_found(as_table(findings)))
    return int(verdict(findings))


def _init(arguments: argparse.Namespace) -> None:
    from etl.start.project import create_project

    if len(arguments.source) > 1:
        raise ConfigError("--source: a new project begins with one source", hint="name one")
    source = arguments.source[0] if arguments.source else None
    folder = Path(arguments.directory)
    put_out(redact(create_project(folder, source, arguments.base_url, os.environ)))


def _config_show(arguments: argparse.Namespace) -> None:
    import yaml

    from etl.secrets import mask

    settings = _settings(arguments)
    shown = mask(settings.model_dump(mode="json", exclude_unset=not arguments.all))
    if arguments.json:
        _print_json(shown)
    else:
        put_out(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _config_schema(arguments: argparse.Namespace) -> None:
    from etl.settings_schema import json_schema, settings_table

    if arguments.markdown:
        put_out(settings_table())
    else:
        _print_json(json_schema())


def _exit_codes(arguments: argparse.Namespace) -> None:
    from etl.exit_codes import FORMATS

    put_out(FORMATS[arguments.format]())


def _print_json(value: Any, redact: Callable[[str], str] = str) -> None:
    import json

    put_out(redact(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


def _settings(arguments: argparse.Namespace) -> Settings:
    from etl.configuration import load_settings

    project = Path(arguments.project).resolve()
    if not project.is_dir():
        raise ConfigError(
            f"--project {arguments.project}: no such folder",
            hint="name the folder with config/ and sqlmesh/; `etl init` makes one",
        )
    return load_settings(project, arguments.profile)


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "run": _run,
    "retry": _retry,
    "plan": _plan,
    "generate": _generate,
    "lineage": _lineage,
    "status": _status,
    "report": _report,
    "doctor": _doctor,
    "init": _init,
    "config show": _config_show,
    "config schema": _config_schema,
    "exit-codes": _exit_codes,
}
