"""Whether there is anything to transform, found without SQLMesh (docs/adr/0002)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from etl.fingerprint import fingerprint_project
from etl.model_states import (
    Transformation,
    forget_models,
    read_states,
    read_transformation,
    write_transformation,
)
from etl.packages import fingerprint_packages, raw_datasets
from etl.records import Options
from etl.runs import utc_now
from etl.settings import Settings
from etl.warehouse import quoted

if TYPE_CHECKING:
    from etl.project.environment import Project

# What a query may read beside tables that it names; nobody tells when it changes. A file that
# stands where a table does is a table to SQLGlot, and none of ours.
FILES = re.compile(
    r"\b(?:read_\w+|st_read|\w+_scan|\w*query(?:_table)?|glob|(?:iceberg|parquet)_\w+|sniff_csv|"
    r"getenv)\s*\(",
    re.IGNORECASE,
)


def find_idle(
    connection: duckdb.DuckDBPyConnection, settings: Settings, options: Options
) -> Transformation | None:
    """The last transformation, if one now could change nothing; else None."""
    if options.full_refresh or options.start or options.end or options.select:
        return None
    last = read_transformation(connection, options.environment)
    if last is None or last.due_at is None or not last.finished_at <= utc_now() < last.due_at:
        return None
    states = read_states(connection, options.environment)
    if any(s.verdict != "passed" for s in states.values()):
        return None
    same = (
        last.packages == json.dumps(fingerprint_packages(connection))
        and last.project == fingerprint_project(settings)
        and last.plan_id == _plan_id(settings, options.environment)
    )
    published = {x.model for x in settings.loads} if options.environment == "prod" else set()
    read = published | {model for _, _, model in last.pairs}
    return last if same and _stand(connection, read) else None


def _stand(connection: duckdb.DuckDBPyConnection, models: Iterable[str]) -> bool:
    """False when what models show is gone: a transformation says what is wrong with it."""
    try:
        for model in models:
            connection.execute(f"SELECT NULL FROM {quoted(*model.split('.'))} LIMIT 0")  # noqa: S608
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def note_transformation(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    run_id: str,
    packages: dict[str, list[str]],
    pairs: tuple[tuple[str, str, str], ...],
    begun_at: datetime,
) -> None:
    """Note that nothing is left to do for these packages and this state of the project.

    Args:
        begun_at: before the models were evaluated. A tick that came meanwhile is still to be seen.
    """
    done = Transformation(
        project=project.fingerprint,
        packages=json.dumps(packages),
        plan_id=project.plan_id(),
        due_at=project.due_at(begun_at) if _sees_all(connection, project) else None,
        pairs=pairs,
        finished_at=datetime.now(UTC),
    )
    write_transformation(connection, project.environment, run_id, done)
    forget_models(connection, project.environment, keep=project.graph.names)


def _sees_all(connection: duckdb.DuckDBPyConnection, project: Project) -> bool:
    """True when models and audits read nothing but raw tables of dlt, seeds and each other."""
    return not (
        project.foreign(set(raw_datasets(connection)))
        or project.reads_elsewhere(FILES)
        or project.graph.has_seeds_outside(project.settings.sqlmesh_dir)
    )


def _plan_id(settings: Settings, environment: str) -> str:
    """The environment's last plan, read from SQLMesh's state: somebody may have used `sqlmesh`."""
    if not settings.state.exists():
        return ""
    try:
        with duckdb.connect(str(settings.state), read_only=True) as state:
            row = state.execute(
                "SELECT plan_id FROM sqlmesh._environments WHERE name = ?", [environment]
            ).fetchone()
    except duckdb.Error:
        return ""  # SQLMesh itself will say what is wrong with its state
    return str(row[0]) if row else ""
