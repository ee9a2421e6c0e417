"""Brings what is new in raw into the models before they run, for sources that ask for it."""

from __future__ import annotations

import json

from loguru import logger

from etl.errors import EtlError
from etl.runs import write_atomically
from etl.settings import Settings
from etl.stages.context import RunContext


def generate_models(ctx: RunContext) -> list[EtlError]:
    """Generate for each source with `on_new_column: generate` whose recorded schema has changed.

    Asked by the schema's version and not by what this run extracted: a run that was killed before
    it came here leaves the work to the next one. A conflict keeps the models that stand, and is
    told until it is settled.

    Returns:
        One failure for each source whose models need a person.
    """
    failures: list[EtlError] = []
    for name, source in ctx.sources.items():
        if source.on_new_column != "generate":
            continue
        version = _version(ctx.settings, name)
        noted = ctx.settings.dlt_dir / name / "generated"
        if not version or (noted.is_file() and noted.read_text(encoding="utf-8") == version):
            continue
        try:
            _generate(ctx, name)
        except EtlError as e:
            # Not of the source: its rows are there, and the models that stand go on.
            e.subject = "generate"
            failures.append(e)
        else:
            write_atomically(noted, version)
    return failures


def _generate(ctx: RunContext, source: str) -> None:
    from etl.generate.generation import bring_files, refuse_changes

    changes = bring_files(ctx.settings, sources=[source])
    for change in changes:
        if change.changes:
            logger.bind(source=source, action=change.action).info(f"generated {change}")
    if any(c.changes for c in changes):
        ctx.close()  # parsed before: it has to be read anew
    refuse_changes(changes, check=False)


def _version(settings: Settings, source: str) -> str:
    """What identifies the schemas as dlt recorded them; empty before the first extraction."""
    found = [
        str(json.loads(path.read_text(encoding="utf-8")).get("version_hash"))
        for path in sorted((settings.dlt_dir / source / "schemas").glob("*.schema.json"))
    ]
    return " ".join(found)
