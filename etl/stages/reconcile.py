"""Counts every committed load package in raw against the staging models that hold its rows."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from etl.errors import ReconciliationError
from etl.packages import raw_datasets
from etl.records import Reconciliation
from etl.runs import Run
from etl.warehouse import quoted

Pairs = Iterable[tuple[str, str, str]]


def raw_tables(
    connection: duckdb.DuckDBPyConnection, datasets: Iterable[str]
) -> dict[str, dict[str, bool]]:
    """Raw tables by dataset, each with whether it is nested: its rows hang on a parent's."""
    found: dict[str, dict[str, bool]] = {d: {} for d in datasets}
    for dataset, table, is_root in connection.execute(
        "SELECT table_schema, table_name, bool_or(column_name = '_dlt_load_id') "
        "FROM information_schema.columns "
        "WHERE column_name IN ('_dlt_load_id', '_dlt_parent_id') GROUP BY ALL"
    ).fetchall():
        if dataset in found and not table.startswith("_dlt"):
            found[dataset][table] = not is_root
    return found


def reconcile(
    connection: duckdb.DuckDBPyConnection, run: Run, pairs: Pairs
) -> list[ReconciliationError]:
    """Compare each pair of (dataset, raw table, staging model), package by package.

    The record gets this run's packages and whatever does not agree.
    """
    known = raw_tables(connection, raw_datasets(connection))
    errors = []
    now = {i for s in run.sources for i in s.load_ids}
    for dataset, table, model in pairs:
        if table not in known.get(dataset, {}):
            continue
        wrong = []
        for load_id, expected, found in _count(connection, dataset, table, model, known[dataset]):
            result = Reconciliation(
                between="raw-staging",
                subject=model,
                load_id=load_id,
                expected=expected,
                found=found,
            )
            if load_id in now or not result.agrees:
                run.reconciliations.append(result)
            if not result.agrees:
                wrong.append(result)
        if wrong:
            errors.append(_error(f"{dataset}.{table}", model, wrong))
    return errors


def _count(
    connection: duckdb.DuckDBPyConnection,
    dataset: str,
    table: str,
    model: str,
    tables: dict[str, bool],
) -> list[tuple[str, int, int]]:
    """(load id, rows in raw, rows in staging) for each package that has rows in either.

    Rows of a package that is not committed belong in neither.
    """
    return connection.execute(
        f"""
        WITH committed AS (
            SELECT DISTINCT load_id FROM {quoted(dataset, "_dlt_loads")} WHERE status = 0
        ), raw AS (
            SELECT load_id, count(*) AS n FROM ({_raw_rows(dataset, table, tables)})
            WHERE load_id IN (SELECT load_id FROM committed) GROUP BY load_id
        ), staging AS (
            SELECT _dlt_load_id AS load_id, count(*) AS n
            FROM {quoted(*model.split("."))} GROUP BY 1
        )
        SELECT coalesce(load_id, ''), coalesce(raw.n, 0), coalesce(staging.n, 0)
        FROM raw FULL OUTER JOIN staging USING (load_id) ORDER BY 1
        """  # noqa: S608
    ).fetchall()


def _raw_rows(dataset: str, table: str, tables: dict[str, bool]) -> str:
    """SQL for the load id of each row; a nested row has its root's, up the chain of parents."""
    chain = [table]
    while (parent := _parent(chain[-1], tables)) is not None:
        chain.append(parent)
    root = len(chain) - 1
    # With scd2 a row that returns to an earlier state stands twice under one identifier.
    once = (
        "(SELECT _dlt_id, max(_dlt_load_id) AS _dlt_load_id "  # noqa: S608
        f"FROM {quoted(dataset, chain[root])} GROUP BY _dlt_id)"
    )
    joins = "".join(
        f" JOIN {once if i == root else quoted(dataset, name)} t{i} "
        f"ON t{i - 1}._dlt_parent_id = t{i}._dlt_id"
        for i, name in enumerate(chain)
        if i
    )
    return f"SELECT t{root}._dlt_load_id AS load_id FROM {quoted(dataset, table)} t0{joins}"  # noqa: S608


def _parent(table: str, tables: dict[str, bool]) -> str | None:
    """dlt names a nested table by its parent, the fields on the way and its own field."""
    if not tables.get(table):
        return None
    above = [t for t in tables if table.startswith(f"{t}__")]
    return max(above, key=len, default=None)


def _error(table: str, model: str, wrong: list[Reconciliation]) -> ReconciliationError:
    first = wrong[0]
    more = f"; so do {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return ReconciliationError(
        f"{model} differs from {table}: load package {first.load_id or 'without id'} has "
        f"{first.expected} rows in raw and {first.found} in staging{more}",
        subject=model,
        hint="mend the model, or let `etl generate` do it if the source's settings changed; then "
        "build it anew from raw: `etl run --stage transform --stage audit --stage load "
        f"--full-refresh --select {model}+`; run.json → reconciliations lists all; what was "
        "committed before transform.start never is",
    )
