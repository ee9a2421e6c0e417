"""What a table becomes by strategy: the mart, or the mart with the rows that stay."""

from __future__ import annotations

import duckdb

from etl.errors import ConfigError, LoadError, ReconciliationError
from etl.targets.comparison import NOT_THE_SAME, Changes, check_key, count_changes
from etl.targets.publication import Publication
from etl.targets.relation import Column, Relation, Version, describe, fingerprint, query
from etl.warehouse import quoted


def succeed(
    cursor: duckdb.DuckDBPyConnection,
    before: Version | None,
    mart: Version,
    publication: Publication,
    target: str,
) -> tuple[Version, Changes | None]:
    """The table's next version, checked to hold all that it shall; and what changes, if anything.

    With `merge` and `append_once` a column that left the mart stays, as its rows do. Raises
    ConfigError when the table lacks the key, LoadError, ReconciliationError.
    """
    relation, content, said = mart.relation, mart.content, mart.comments
    if before is not None and publication.strategy != "replace":
        relation = _unite(cursor, before.relation, relation, publication, target)
        content = fingerprint(cursor, relation)
        # Columns that left the mart and stay at the target keep what is said about them.
        said = before.comments | said
    named = {"", *(c.name for c in relation.columns)}
    following = Version(relation, content, {n: text for n, text in said.items() if n in named})
    if following.equals(before):
        return following, None
    old = before.relation if before else None
    return following, count_changes(cursor, old, relation, publication.key)


def _unite(
    cursor: duckdb.DuckDBPyConnection,
    old: Relation,
    mart: Relation,
    publication: Publication,
    target: str,
) -> Relation:
    """The table with the mart's rows brought to it, as a query. Raises as `succeed` does."""
    theirs = {c.name.casefold(): c for c in old.columns}
    for key in publication.key:
        if key.casefold() not in theirs:
            raise ConfigError(
                f"key `{key}` is not a column of {publication.table} at target {target}",
                subject=target,
                hint=f"strategy {publication.strategy} compares by it: name another `table`, or "
                "publish once with strategy replace, which drops the rows that left the mart",
            )
    _check_kept(cursor, theirs, old, mart, publication, target)
    following = describe(cursor, f"({_union(theirs, old, mart, publication)})")
    check_key(cursor, following, publication, target)
    _check_mart(cursor, following, mart, publication, target)
    return following


def _check_kept(
    cursor: duckdb.DuckDBPyConnection,
    theirs: dict[str, Column],
    old: Relation,
    mart: Relation,
    publication: Publication,
    target: str,
) -> None:
    """Raise LoadError when a column's new type cannot hold what the rows that stay have there.

    DuckDB rounds 1.75 to 2 without a word. What was text is taken for what it says.
    """
    ours = {k.casefold() for k in publication.key}
    for column in mart.columns:
        found = theirs.get(column.name.casefold())
        if found is None or found.type in (column.type, "VARCHAR"):
            continue
        stay = f"{old.sql} AS o"
        # Of a key every row counts: by a rounded one, rows would be taken for others.
        if publication.strategy == "merge" and column.name.casefold() not in ours:
            stay += f" ANTI JOIN {mart.sql} AS n ON {_same(theirs, mart, publication)}"
        (lost,) = query(
            cursor,
            f"SELECT count(*) FROM {stay} "  # noqa: S608
            f"WHERE CAST({_present(theirs, column)} AS {found.type}) "
            f"IS DISTINCT FROM o.{quoted(found.name)}",
        )
        if lost:
            raise LoadError(
                f"{publication.table} at target {target}: {lost} rows that stay have values of "
                f"`{column.name}` ({found.type}) that {column.type} cannot hold",
                subject=target,
                hint="keep the column's type in the mart, or publish once with strategy replace, "
                "which drops the rows that left the mart",
            )


def _present(theirs: dict[str, Column], column: Column) -> str:
    """SQL: the table's value of a column, in the type that the mart has now."""
    found = theirs.get(column.name.casefold())
    if found is None:
        return f"NULL::{column.type}"
    value = f"o.{quoted(found.name)}"
    return value if found.type == column.type else f"CAST({value} AS {column.type})"


def _same(theirs: dict[str, Column], mart: Relation, publication: Publication) -> str:
    """SQL: a row of the table (`o`) and one of the mart (`n`) have one key."""
    by_name = {c.name: c for c in mart.columns}
    return " AND ".join(f"{_present(theirs, by_name[k])} = n.{quoted(k)}" for k in publication.key)


def _union(
    theirs: dict[str, Column], old: Relation, mart: Relation, publication: Publication
) -> str:
    """SQL: rows of the mart (`n`) and of the table (`o`), each key once."""
    ours = {c.name.casefold() for c in mart.columns}
    left = [c for name, c in theirs.items() if name not in ours]

    new = [f"n.{quoted(c.name)}" for c in mart.columns]
    kept = [f"{_present(theirs, c)} AS {quoted(c.name)}" for c in mart.columns]
    stay = [f"o.{quoted(c.name)}" for c in left]
    same = _same(theirs, mart, publication)
    if publication.strategy == "merge":
        joined = f"LEFT JOIN {old.sql} AS o ON {same}" if stay else ""
        return (
            f"SELECT {', '.join(new + stay)} FROM {mart.sql} AS n {joined} "  # noqa: S608
            f"UNION ALL SELECT {', '.join(kept + stay)} FROM {old.sql} AS o "
            f"ANTI JOIN {mart.sql} AS n ON {same}"
        )
    empty = [f"NULL::{c.type} AS {quoted(c.name)}" for c in left]
    return (
        f"SELECT {', '.join(kept + stay)} FROM {old.sql} AS o "  # noqa: S608
        f"UNION ALL SELECT {', '.join(new + empty)} FROM {mart.sql} AS n "
        f"ANTI JOIN {old.sql} AS o ON {same}"
    )


def _check_mart(
    cursor: duckdb.DuckDBPyConnection,
    following: Relation,
    mart: Relation,
    publication: Publication,
    target: str,
) -> None:
    """Raise ReconciliationError when a row of the mart is not in the next version."""
    columns = ", ".join(quoted(c.name) for c in mart.columns)
    part = describe(cursor, f"(SELECT {columns} FROM {following.sql})")  # noqa: S608
    changes = count_changes(cursor, part, mart, publication.key)
    differing = changes.updated if publication.strategy == "merge" else 0
    if changes.inserted or differing:
        raise ReconciliationError(
            f"{publication.table} at target {target}: {changes.inserted} rows of the mart would be "
            f"missing and {differing} would differ",
            subject=target,
            hint=NOT_THE_SAME,
        )
