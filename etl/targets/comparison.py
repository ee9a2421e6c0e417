"""Compares a mart with what a target has: is its key good, is it new, what changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from etl.errors import LoadError, ReconciliationError
from etl.records import LoadRun
from etl.targets.publication import Publication
from etl.targets.relation import Relation, Version, query, row_hash
from etl.warehouse import quoted

NOT_THE_SAME = (
    "the target keeps its old version; a view that is not deterministic (random(), now()) gives "
    "other rows each time"
)


@dataclass(frozen=True)
class Changes:
    """Rows that came, changed and went between two versions of a table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


@contextmanager
def reading(publication: Publication, target: str) -> Iterator[None]:
    """Raise LoadError when the mart itself cannot be read: the target has no part in that."""
    try:
        yield
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise LoadError(
            f"{publication.model} cannot be read from the warehouse for target {target}: {error}",
            subject=target,
            hint="run the transform stage, or correct the load's `model`",
        ) from error


def record(
    publication: Publication,
    target: str,
    changes: Changes | None,
    *,
    rows: int,
    dry_run: bool,
    seconds: float,
    reconciled: bool = False,
) -> LoadRun:
    """What one load did or would do; no `changes` when the target has the mart already.

    What was `reconciled` in a dry run is taken back.
    """
    done = changes or Changes()
    return LoadRun(
        model=publication.model,
        target=target,
        table=publication.table,
        strategy=publication.strategy,
        status="dry_run" if dry_run else "published" if changes else "unchanged",
        inserted=done.inserted,
        updated=done.updated,
        deleted=done.deleted,
        rows_at_target=rows,
        reconciled=reconciled and not dry_run,
        seconds=seconds,
    )


def check_version(table: str, target: str, found: Version, expected: Version) -> None:
    """Raise ReconciliationError when a new version is not what the mart holds."""
    if not expected.equals(found):
        raise ReconciliationError(
            f"{table} at target {target}: {found.content} written, {expected.content} in the "
            "warehouse",
            subject=target,
            hint=NOT_THE_SAME,
        )


def check_count(table: str, target: str, found: int, expected: int) -> None:
    """Raise ReconciliationError when readers of the target do not see every row of the mart."""
    if found != expected:
        raise ReconciliationError(
            f"{table} at target {target}: {found} rows after publishing, {expected} expected",
            subject=target,
        )


def check_key(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> None:
    """Raise LoadError when the key does not tell every row from every other."""
    if not publication.key:
        return
    keys = ", ".join(quoted(k) for k in publication.key)
    # Under names of our own: a column may be called like any alias.
    named_keys = ", ".join(f"{quoted(k)} AS k{i}" for i, k in enumerate(publication.key))
    some_null = " OR ".join(f"k{i} IS NULL" for i in range(len(publication.key)))
    rows, distinct, nulls = query(
        cursor,
        "SELECT coalesce(sum(n), 0), count(*), "  # noqa: S608
        f"coalesce(sum(n) FILTER (WHERE {some_null}), 0) "
        f"FROM (SELECT {named_keys}, count(*) AS n FROM {mart.sql} GROUP BY ALL)",
    )
    named = f"{publication.table} at target {target}: key ({', '.join(publication.key)})"
    if nulls:
        raise LoadError(
            f"{named} is NULL in {nulls} of {rows} rows",
            subject=target,
            hint=f"add the audit not_null to {publication.model}, or name another key",
        )
    if rows != distinct:
        raise LoadError(
            f"{named} is not unique: {rows - distinct} duplicates in {rows} rows",
            subject=target,
            hint=f"SELECT {keys}, count(*) FROM {publication.model} "  # noqa: S608
            f"GROUP BY ALL HAVING count(*) > 1",
        )


def count_changes(
    cursor: duckdb.DuckDBPyConnection, old: Relation | None, new: Relation, key: tuple[str, ...]
) -> Changes:
    """Compare two versions by key; without a usable key as bags of rows, which knows no updates."""
    (rows,) = query(cursor, f"SELECT count(*) FROM {new.sql}")  # noqa: S608
    if old is None:
        return Changes(inserted=rows)
    old_types = {c.name.casefold(): c.type for c in old.columns}
    if key and all(k.casefold() in old_types for k in key) and _is_unique(cursor, old, key):
        return _count_by_key(cursor, old, new, key)
    if old.columns != new.columns:
        return Changes(rows, 0, *query(cursor, f"SELECT count(*) FROM {old.sql}"))  # noqa: S608
    inserted, deleted = query(
        cursor,
        "SELECT coalesce(sum(greatest(n, 0)), 0), coalesce(sum(greatest(-n, 0)), 0) "  # noqa: S608
        "FROM (SELECT sum(n) AS n FROM ("
        f"SELECT {row_hash(new)} AS h, 1 AS n FROM {new.sql} "
        f"UNION ALL SELECT {row_hash(old)}, -1 FROM {old.sql}) GROUP BY h)",
    )
    return Changes(inserted, 0, deleted)


def _is_unique(cursor: duckdb.DuckDBPyConnection, old: Relation, key: tuple[str, ...]) -> bool:
    """False when the key was chosen later, or somebody wrote into the target."""
    keys = ", ".join(quoted(k) for k in key)
    (repeated,) = query(
        cursor,
        f"SELECT count(*) FROM (SELECT 1 FROM {old.sql} GROUP BY {keys} "  # noqa: S608
        "HAVING count(*) > 1)",
    )
    return repeated == 0


def _count_by_key(
    cursor: duckdb.DuckDBPyConnection, old: Relation, new: Relation, key: tuple[str, ...]
) -> Changes:
    """With other columns than before, every row that stayed counts as updated."""
    # As text: a key column's type may have changed, and '7' stays the same key as 7.
    keys = [f"{quoted(k)}::VARCHAR AS k{i}" for i, k in enumerate(key)]
    on = " AND ".join(f"o.k{i} = n.k{i}" for i in range(len(key)))
    differs = "o.h <> n.h" if old.columns == new.columns else "true"
    return Changes(
        *query(
            cursor,
            "SELECT count(*) FILTER (WHERE o.h IS NULL), "  # noqa: S608
            f"count(*) FILTER (WHERE o.h IS NOT NULL AND n.h IS NOT NULL AND {differs}), "
            "count(*) FILTER (WHERE n.h IS NULL) "
            f"FROM (SELECT {', '.join(keys)}, {row_hash(new)} AS h FROM {new.sql}) AS n "
            f"FULL JOIN (SELECT {', '.join(keys)}, {row_hash(old)} AS h FROM {old.sql}) AS o "
            f"ON {on}",
        )
    )
