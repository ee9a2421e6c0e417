"""Writes a new project: all of its files at once, or none."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from etl.configuration import load_settings
from etl.errors import ConfigError
from etl.settings import NAME
from etl.settings_schema import json_schema
from etl.start.proposal import Proposal, as_yaml, make_proposal, summarize
from etl.variables import variable_name
from etl.versions import versions

ENDING = ".template"
SOURCES = "# <sources>\n"
SECRETS = ("token", "username", "password", "api_key")


def create_project(
    folder: Path, source: str | None, urls: Sequence[str], environ: Mapping[str, str]
) -> str:
    """Make the project in a folder that is new or empty; returns what there is to say about it.

    With URLs each of them is asked once, and a source is proposed from the answers.

    Raises:
        ConfigError: something is in the way, a name or URL is none.
        UnreachableError, AuthError, ExtractError: a URL's answer cannot be used.
    """
    _check_place(folder)
    if source is not None and not re.fullmatch(NAME, source):
        raise ConfigError(
            f"--source {source}: is no name", hint="lower-case letters, digits and _ only"
        )
    proposal, hints = _propose(source, urls, environ) if urls else (None, [])
    _write(folder, _contents(folder, source, proposal))
    lines = [f"{folder}: a new project"]
    if proposal is not None:
        lines.append(summarize(proposal).rstrip("\n"))
        lines.append("  look at the evidence in config/etl.yaml, and change what is not so")
    lines += hints
    named = shlex.quote(str(folder))
    if proposal is not None:
        lines.append(f"next: etl run --stage extract --project {named}")
        lines.append(f"then: etl generate --project {named}")
    else:
        lines.append(f"next: etl run --project {named}")
    return "\n".join(lines) + "\n"


def _propose(
    source: str | None, urls: Sequence[str], environ: Mapping[str, str]
) -> tuple[Proposal, list[str]]:
    from etl.start.guess import guess_resources, source_name
    from etl.start.probe import ask, read_address

    name = source or source_name(urls[0])
    begin = variable_name(("sources", name, "client", "auth", ""))
    known = {s: environ[begin + s.upper()] for s in SECRETS if environ.get(begin + s.upper())}
    addresses = [read_address(url, known) for url in urls]
    hosts = {urlsplit(a.url)[:2] for a in addresses}
    if len(hosts) > 1:
        raise ConfigError(
            "--base-url: the addresses are of different hosts",
            hint="a source is one API; add the others to config/etl.yaml",
        )
    if len({json.dumps([a.auth, a.secrets]) for a in addresses}) > 1:
        raise ConfigError("--base-url: the addresses carry different credentials")
    answers = [ask(address, begin) for address in addresses]
    resources = [r for answer in answers for r in guess_resources(answer)]
    missing = [begin + s.upper() for s in addresses[0].secrets if s not in known]
    hints = [f"secrets are in no file: before a run, export {v}=…" for v in missing]
    return make_proposal(name, addresses[0].auth, resources), hints


# -- files -----------------------------------------------------------------------------------------


def _check_place(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise ConfigError(f"{folder.parent}: no such folder", hint="make it first")
    if folder.is_symlink() and not folder.exists():
        raise ConfigError(f"{folder}: is a link that leads nowhere")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is a file", hint="name a new folder")
    found = sorted(p.name for p in folder.iterdir())
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise ConfigError(
            f"{folder}: is not empty: {shown}", hint="name a new folder; nothing was written"
        )


def _contents(
    folder: Path, source: str | None, proposal: Proposal | None
) -> Iterator[tuple[PurePosixPath, str]]:
    """Every file of the project: its path and text."""
    job = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "etl"
    name = proposal.name if proposal is not None else source or "shop"
    marks = {
        "<job>": job, "<source>": name, "<SOURCE>": name.upper(),
        "<version>": versions()["etl-job"],
    }  # fmt: skip
    for path, template in _templates(files("etl.start") / "templates", PurePosixPath()):
        text = template
        for mark, value in marks.items():
            text = text.replace(mark, value)
        if path.name == "etl.yaml":
            before, example, after = text.split(SOURCES)
            text = before + (as_yaml(proposal) if proposal is not None else example) + after
        yield path, text
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    yield PurePosixPath("config/etl.schema.json"), schema


def _templates(folder: Traversable, inside: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    """The files that ship. Their ending and `dot.` keep tools from taking them for their own."""
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _templates(entry, inside / entry.name)
        elif entry.name.endswith(ENDING):
            name = re.sub(r"^dot\.", ".", entry.name.removesuffix(ENDING))
            yield inside / name, entry.read_text(encoding="utf-8")


def _write(folder: Path, contents: Iterator[tuple[PurePosixPath, str]]) -> None:
    """Write beside the place, look whether the configuration is good, then move it there."""
    beside = folder if folder.is_dir() else folder.parent
    with tempfile.TemporaryDirectory(prefix=".etl-init-", dir=beside) as temporary:
        new = Path(temporary) / "project"
        new.mkdir()
        for path, text in contents:
            target = new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        load_settings(new, environ={"ETL_SECRETS_DIR": temporary})  # which has no file
        if beside != folder:
            try:
                new.rename(folder)
            except OSError as e:
                if folder.exists():
                    raise ConfigError(f"{folder}: was made by someone else meanwhile") from e
                raise
        else:
            _move_into(new, folder)


def _move_into(new: Path, folder: Path) -> None:
    """Move the files into a folder that stays the same one: someone may stand in it."""
    moved: list[Path] = []
    try:
        for path in sorted(new.iterdir()):
            target = folder / path.name
            if os.path.lexists(target):
                raise ConfigError(f"{target}: was made by someone else meanwhile")
            path.rename(target)
            moved.append(target)
    except BaseException:
        for target in moved:
            target.rename(new / target.name)
        raise
