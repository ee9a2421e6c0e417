"""Which tables of a file target this job has made, kept in the warehouse: it drops no others."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
from loguru import logger

from etl.targets.publication import Publication
from etl.warehouse import exists

SCHEMA = "etl_published"
CLAIMS = f"{SCHEMA}.claims"


def claim(cursor: duckdb.DuckDBPyConnection, target: str, tables: Iterable[str]) -> None:
    """Note the tables, case-folded, that the target's file has now or is about to get."""
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    cursor.execute(
        f"CREATE TABLE IF NOT EXISTS {CLAIMS} "
        "(target VARCHAR, table_name VARCHAR, PRIMARY KEY (target, table_name))"
    )
    for table in tables:
        insert = f"INSERT OR IGNORE INTO {CLAIMS} (target, table_name) VALUES ($1, $2)"  # noqa: S608 - a constant
        cursor.execute(insert, [target, table])


def claimed(cursor: duckdb.DuckDBPyConnection, target: str) -> set[str]:
    """The tables, case-folded, that this job has made at the target, there now or not.

    By the target's name, not its path: a project may be moved, or be mounted elsewhere.
    """
    if not exists(cursor, SCHEMA, "claims"):
        return set()
    known = f"SELECT table_name FROM {CLAIMS} WHERE target = $1"  # noqa: S608 - a constant
    return {str(table) for (table,) in cursor.execute(known, [target]).fetchall()}


def warn_of_loss(publication: Publication, target: str) -> None:
    """Tell that a table which was published before is gone, where it had rows of its own."""
    if publication.strategy != "replace":
        logger.bind(target=target, table=publication.table).warning(
            "the table was published before and is gone, with what the mart has no more: if it was "
            "not dropped on purpose, put back a copy, then run again"
        )
