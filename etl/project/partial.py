"""Finds the part of a project that a change reaches, so that a plan need not load the rest.

SQLMesh takes 25 ms and more for each model that it loads, and a plan compares them all. What a
whole load found equal to an environment is noted; a later plan loads the models whose files differ
from then, what reads them, and what they read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import BaseModel, ValidationError
from sqlmesh.core.snapshot import SnapshotTableInfo

from etl.fingerprint import digest_files, made_by
from etl.project.engine import ProjectContext, open_context
from etl.project.listener import bare_name
from etl.settings import Settings
from etl.warehouse import look_into

MODELS, TABLES = "models", "external_models"


class Noted(BaseModel, frozen=True):
    """A project whose models were all as an environment was built.

    `files`: path below `sqlmesh/` → digest; `tables`: external model → digest of what declares it;
    `models`: fully qualified name → path.
    """

    plan_id: str
    made_by: str
    files: dict[str, str]
    tables: dict[str, str]
    models: dict[str, str]


@dataclass(frozen=True)
class Part:
    """Models to load by their fully qualified names, of how many there are.

    `tables`: external models that may differ or are gone, whether one of these reads them or not.
    """

    models: frozenset[str]
    tables: frozenset[str]
    total: int


def note_built(
    settings: Settings,
    environment: str,
    plan_id: str,
    files: dict[str, str],
    models: Mapping[str, Path],
) -> None:
    """Note from which files the environment was built.

    Args:
        files: as they were before they were read; since then somebody may have edited one.
        models: where each model that SQLMesh builds is defined.
    """
    noted = Noted(
        plan_id=plan_id,
        made_by=made_by(settings),
        files=files,
        tables=_digest_tables(settings.sqlmesh_dir, files),
        models={n: p.relative_to(settings.sqlmesh_dir).as_posix() for n, p in models.items()},
    )
    path = _path(settings, environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(noted.model_dump_json(), encoding="utf-8")


def find_part(settings: Settings, environment: str, also: frozenset[str]) -> Part | None:
    """What may differ from the environment, and what depends on these names; None for all.

    All is loaded when nothing was noted, when models came or went, when a file differs that any
    model may be made of (macros, audits, seeds, SQLMesh's configuration), and when the warehouse
    lacks something of what was built.
    """
    try:
        noted = Noted.model_validate_json(_path(settings, environment).read_bytes())
    except (OSError, ValidationError):
        return None
    if noted.made_by != made_by(settings):
        return None
    try:
        with duckdb.connect(str(settings.state), read_only=True) as state:
            found = state.execute(
                "SELECT snapshots FROM sqlmesh._environments WHERE name = ? AND plan_id = ? "
                "AND finalized_ts IS NOT NULL AND expiration_ts IS NULL",
                [environment, noted.plan_id],
            ).fetchone()
    except duckdb.Error:
        return None  # who loads all says what is wrong with the state
    if found is None:
        return None
    snapshots = json.loads(found[0])
    if environment == "prod" and not _stand(settings.warehouse, snapshots):
        return None
    files = digest_files(settings)
    if files.keys() != noted.files.keys():
        return None
    changed = {path for path, digest in files.items() if digest != noted.files[path]}
    if not all(_is_model(path) or path.startswith(f"{TABLES}/") for path in changed):
        return None
    tables = _digest_tables(settings.sqlmesh_dir, files)
    names = {t for t in tables.keys() | noted.tables.keys() if tables.get(t) != noted.tables.get(t)}
    by_name = {bare_name(s["name"]): s["name"] for s in snapshots}
    if not names <= by_name.keys():
        return None
    differing = frozenset(by_name[n] for n in names | (also & by_name.keys()))
    reached = {model for model, path in noted.models.items() if path in changed} | differing
    models = frozenset(_below(reached, snapshots) & noted.models.keys())
    return Part(models, differing, len(noted.models))


def _stand(warehouse: Path, snapshots: list[dict[str, Any]]) -> bool:
    """True when each model's view shows a table of its version, by their names alone.

    It may take one for lost that stands, by a name that DuckDB quotes, but not the other way round.
    """
    with look_into(warehouse) as connection:
        views = dict(
            connection.execute(
                "SELECT schema_name || '.' || view_name, sql FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
        tables = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()")
        standing = views.keys() | {name for (name,) in tables.fetchall()}
    for snapshot in map(SnapshotTableInfo.model_validate, snapshots):
        if snapshot.is_model and not snapshot.is_symbolic:
            _, _, shown = views.get(bare_name(snapshot.name), "").rpartition(" FROM ")
            _, _, table = shown.rstrip(";\n ").partition(".")
            if table not in standing or not table.endswith(f"__{snapshot.version}"):
                return False
    return True


def open_part(settings: Settings, environment: str, part: Part) -> ProjectContext | None:
    """The part, parsed, on a copy of SQLMesh's state that is narrowed to it; None: load all.

    SQLMesh loads all by itself when it finds that its own index of the models is of no use.

    Raises: as `open_context`.
    """
    context = open_context(settings, models=part.models, environment=environment)
    loaded = {name for name, model in context.models.items() if not model.kind.is_external}
    if not part.models <= loaded or len(loaded) >= part.total:
        context.close()
        return None
    context.leave_out_tables(part.tables)
    # What reads them may not be there.
    context.leave_out_standalone_audits()
    known = context.models.keys() | part.models | part.tables
    _narrow_state(settings.state, environment, known)
    return context


def _narrow_state(state: Path, environment: str, keep: Set[str]) -> None:
    """Leave only these models in an environment: to a plan, what the project lacks was removed."""
    with duckdb.connect(str(state)) as connection:
        found = connection.execute(
            "SELECT snapshots FROM sqlmesh._environments WHERE name = ?", [environment]
        ).fetchone()
        kept = [s for s in json.loads(found[0] if found else "[]") if s["name"] in keep]
        connection.execute(
            "UPDATE sqlmesh._environments SET snapshots = ? WHERE name = ?",
            [json.dumps(kept), environment],
        )


def _path(settings: Settings, environment: str) -> Path:
    return settings.data / "cache" / f"built_{environment}.json"


def _is_model(path: str) -> bool:
    return path.startswith(f"{MODELS}/") and path.endswith(".sql")


def _digest_tables(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """The external models of a project, each with a digest of what is said of it."""
    found: dict[str, str] = {}
    for path in files:
        if path.startswith(f"{TABLES}/") and path.endswith(".yaml"):
            listed: Any = yaml.load((folder / path).read_bytes(), Loader=yaml.CSafeLoader)
            found |= {str(t["name"]): repr(t) for t in listed or []}
    return found


def _below(names: set[str], snapshots: list[dict[str, Any]]) -> set[str]:
    """These models and all that read them, at any distance."""
    readers: dict[str, list[str]] = {}
    for snapshot in snapshots:
        for parent in snapshot["parents"]:
            readers.setdefault(parent["name"], []).append(snapshot["name"])
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += readers.get(name, [])
    return found
