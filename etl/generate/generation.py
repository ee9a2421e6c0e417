"""`etl generate`: which files the recorded schemas ask for, and what became of each."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath

import yaml

from etl.errors import ApprovalError, ConfigError
from etl.generate.external import external_models
from etl.generate.files import FileChange, Format, GeneratedFiles
from etl.generate.marts import dimension, fact
from etl.generate.references import check_references, reach
from etl.generate.sql import Draft
from etl.generate.staging import staging_model
from etl.lock import hold_lock
from etl.names import nearest
from etl.project.formatting import format_sql
from etl.raw.schemas import RawSchema, RawTable, read_schema
from etl.settings import Settings

AUDITS = {
    "relationship": """AUDIT (name relationship, dialect duckdb);
/* Guards a reference: the values of @columns, none of them NULL, are found in @parent_columns of
@parent_model. Returns the rows that refer to nothing. */
SELECT * FROM @this_model
WHERE @AND(@EACH(@columns, c -> NOT c IS NULL))
AND NOT @columns IN (SELECT @parent_columns FROM @parent_model)""",
    "same_row_count": """AUDIT (name same_row_count, dialect duckdb);
/* Guards a join: the model has exactly as many rows as @base_model. Returns both numbers. */
WITH counts AS (
  SELECT (SELECT COUNT(*) FROM @this_model) AS rows_here,
  (SELECT COUNT(*) FROM @base_model) AS rows_in_base
) SELECT rows_here, rows_in_base FROM counts WHERE rows_here <> rows_in_base""",
}


def generate(
    settings: Settings,
    wait_lock: float,
    *,
    sources: Collection[str],
    table: str | None,
    facts: Collection[str],
    write: bool,
) -> list[FileChange]:
    """`bring_files` while no run is at work.

    Raises:
        LockedError: another run holds the lock after `wait_lock` seconds.
        ConfigError: as `bring_files`.
    """
    # The libraries stay: the collector need not walk through them again for every few models.
    gc.freeze()
    with hold_lock(settings, wait_lock):
        return bring_files(settings, sources=sources, table=table, facts=facts, write=write)


def bring_files(
    settings: Settings,
    *,
    sources: Collection[str] = (),
    table: str | None = None,
    facts: Collection[str] = (),
    write: bool = True,
) -> list[FileChange]:
    """Bring the project's generated files to the recorded schemas.

    No `sources`: all that were extracted once. `table` limits models to one raw table and its mart.
    Facts that were generated before are kept up to date without being named again.

    Raises:
        ConfigError: unknown source or table, wrong references, colliding names, nothing recorded.
        TransformError: a file that stands is no UTF-8.
    """
    schemas = _schemas(settings, sources)
    for schema in schemas:
        check_references(schema)
    files = GeneratedFiles(settings.sqlmesh_dir, partial(_format, settings))
    wanted = {
        path: _finish(asked, _format(settings, path), path)
        for path, asked in _drafts(schemas, files, table, facts)
    }
    return files.bring(wanted, write=write)


def refuse_changes(changes: Iterable[FileChange], *, check: bool) -> None:
    """End with code 11 when files need a person: conflicts, or with `check` any change.

    Raises:
        ApprovalError: names files and lines.
    """
    conflicts = [c for c in changes if c.action == "conflict"]
    open_changes = [c for c in changes if c.changes] if check else conflicts
    if not open_changes:
        return
    raise ApprovalError(
        "; ".join(str(c) for c in open_changes[:20])
        + (f"; and {len(open_changes) - 20} more" if len(open_changes) > 20 else ""),
        hint="take from each .new file what you want into the file beside it, remove the .new "
        "file, then `etl generate` again"
        if conflicts
        else "run `etl generate` and commit what it writes",
    )


def tell_unpublished(settings: Settings, changes: Iterable[FileChange]) -> list[str]:
    """A line that names the new marts which no load brings to a target; nothing when there is none.

    A run that ends with 0 would otherwise leave those who made them looking for their rows.
    """
    published = {load.model for load in settings.loads}
    new = [PurePosixPath(c.path) for c in changes if c.action == "new"]
    marts = [f"marts.{p.stem}" for p in new if p.parent.name == "marts" and p.suffix == ".sql"]
    lacking = [m for m in marts if m not in published]
    if not lacking:
        return []
    target = next(iter(settings.targets), "…")
    return [
        f"not published yet: {', '.join(lacking)}",
        f"  add to `loads` in config/etl.yaml: - {{model: {lacking[0]}, target: {target}}}",
    ]


def _schemas(settings: Settings, sources: Collection[str]) -> list[RawSchema]:
    for name in sources:
        if name not in settings.sources:
            raise ConfigError(
                f"--source {name}: no such source", hint=nearest(name, settings.sources)
            )
    found = []
    for name in sources or settings.active_sources:
        schema = read_schema(settings, name)
        if schema is not None and schema.tables:
            found.append(schema)
        elif sources:
            raise ConfigError(
                f"{name}: dlt has recorded no schema of it",
                subject=name,
                hint=f"etl run --stage extract --source {name}",
            )
    if not found:
        raise ConfigError(
            "dlt has recorded no schema of any source",
            hint="etl run --stage extract"
            if settings.active_sources
            else "name a source in config/etl.yaml, then etl run --stage extract",
        )
    return found


def _drafts(
    schemas: Sequence[RawSchema],
    files: GeneratedFiles,
    table: str | None,
    facts: Collection[str],
) -> Iterable[tuple[str, Draft | str]]:
    """Every wanted file: its path in the project, and what is to be formatted of it."""
    names = [t.name for s in schemas for t in s.tables]
    for wanted in [*([table] if table else []), *facts]:
        if wanted not in names:
            raise ConfigError(f"{wanted}: no such raw table", hint=nearest(wanted, names))
    for fact_table in facts:
        homes = [s.source for s in schemas if s.table(fact_table)]
        if len(homes) > 1:
            raise ConfigError(
                f"--fact {fact_table}: {', '.join(homes)} have a table of this name",
                hint="add --source",
            )
    for name, text in AUDITS.items():
        yield f"audits/{name}.sql", text
    for schema in schemas:
        yield from external_models(schema)
        for one in schema.tables:
            if table is not None and one.name != table:
                continue
            staging = _staging_path(schema, one)
            yield staging, staging_model(schema, one)
            # Who wrote the staging himself chose its columns: nothing can be built on them unseen.
            if one.is_root and not files.is_own(staging):
                yield _path("marts", f"dim_{schema.source}__{one.name}"), dimension(schema, one)
            path = _path("marts", f"fact_{schema.source}__{one.name}")
            if one.name in facts or files.known(path):
                own = [
                    t.name
                    for t in (one, *(h.table for h in reach(schema, one)))
                    if files.is_own(_staging_path(schema, t))
                ]
                if own:
                    raise ConfigError(
                        f"fact on {one.name}: staging of {', '.join(own)} was written by hand, its "
                        "columns are not known",
                        subject=schema.source,
                        hint="write the fact by hand as well",
                    )
                yield path, fact(schema, one)


def _staging_path(schema: RawSchema, table: RawTable) -> str:
    return _path("staging", f"stg_{schema.source}__{table.name}")


def _finish(asked: Draft | str, form: Format, path: str) -> str:
    if path.endswith(".yaml") and isinstance(asked, str):
        return asked  # written by PyYAML: it is as it should be
    text = form(asked.text if isinstance(asked, Draft) else asked)
    if text is None:
        raise ValueError(f"{path}: the generated text does not parse")
    return asked.fill(text) if isinstance(asked, Draft) else text


def _path(layer: str, name: str) -> str:
    return f"models/{layer}/{name}.sql"


def _format(settings: Settings, path: str) -> Format:
    if path.endswith(".yaml"):
        return _format_yaml
    return lambda text: format_sql(text, settings.transform.dialect)


def _format_yaml(text: str) -> str | None:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return text
