"""Makes, empty, the raw tables that are declared and were never loaded: no plan breaks on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import yaml
from loguru import logger

from etl.causes import classify_os_error
from etl.errors import ConfigError, EtlError
from etl.fingerprint import is_leftover
from etl.settings import NAME, Settings, Source, dataset_name
from etl.warehouse import connect, ensure_tables, exists


def ensure_raw_tables(settings: Settings) -> list[str]:
    """Make what models expect (external models) and what sources declare; returns what was made.

    The extract stage has made the tables of the sources that it read. Others are asked only when
    something of theirs is missing: dlt costs a second.

    Raises:
        ConfigError: a file of external models is no list of tables with names and columns, or
            DuckDB has no such type.
    """
    with connect(settings.warehouse) as connection:
        lacking = [n for n, s in settings.active_sources.items() if _lacks(connection, n, s)]
    created: list[str] = []
    for name in lacking:
        try:
            created += _make_declared(settings, name)
        except EtlError as e:
            # The source's own run says what is wrong with it; the others go on.
            logger.bind(source=name).warning(f"its raw tables could not be made ahead: {e}")
    with connect(settings.warehouse) as connection:
        try:
            created += ensure_tables(connection, read_expected(settings.sqlmesh_dir))
        except (duckdb.CatalogException, duckdb.ParserException, duckdb.BinderException) as e:
            raise ConfigError(
                f"{settings.sqlmesh_dir / 'external_models'}: a table cannot be made: {e}",
                hint="mend its columns and their types",
            ) from e
    if created:
        logger.bind(tables=created).info("raw tables without data were created empty")
    return created


def _lacks(connection: duckdb.DuckDBPyConnection, name: str, source: Source) -> bool:
    dataset = dataset_name(source=name)
    tables = ["_dlt_loads", *_plain_tables(source)]
    return any(not exists(connection, dataset, table) for table in tables)


def _plain_tables(source: Source) -> list[str]:
    """Tables whose names dlt leaves as they are; the others it alone can tell."""
    names = []
    for resource in source.resources:
        given = {"name": resource} if isinstance(resource, str) else resource
        name = str(given.get("table_name", given.get("name")))
        if given.get("selected", True) and re.fullmatch(NAME, name) and not name.endswith("_"):
            names.append(name)
    return names


def _make_declared(settings: Settings, name: str) -> list[str]:
    from etl.raw.pipeline import Raw
    from etl.sources.build import declare_source

    raw = Raw(settings, name)
    built, _ = declare_source(settings, name, first=raw.is_new)
    return raw.ensure_tables(built)


def read_expected(sqlmesh_dir: Path) -> list[dict[str, Any]]:
    """The raw tables that models read, as the files in `sqlmesh/external_models` declare them.

    Raises:
        ConfigError: a file is no list of tables with names and columns.
        ResourcesError: a file may not be read.
    """
    tables: list[dict[str, Any]] = []
    for path in sorted((sqlmesh_dir / "external_models").rglob("*.yaml")):
        if is_leftover(path):
            continue
        try:
            found = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) or []
            tables += [
                {"name": _named(t["name"]), "columns": dict(t["columns"])}
                for t in found
                if t["name"] and t.get("columns")  # that of somebody else has none, and stands
            ]
        except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError) as e:
            raise classify_os_error(e) or ConfigError(
                f"{path}: is no list of external models: {type(e).__name__}",
                hint="each needs a name with its schema, and columns",
            ) from e
    return tables


def _named(name: str) -> str:
    if "." not in name:
        raise ValueError(name)
    return name
