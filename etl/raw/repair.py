"""Takes a half-loaded package back to its start, so that it can be loaded without a row twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import duckdb
from dlt.common.storages.load_package import PackageStorage, ParsedLoadJobFileName, TPackageJobState

from etl.raw.schemas import parents_of
from etl.warehouse import exists, quoted

_BEGUN: tuple[TPackageJobState, ...] = ("started_jobs", "completed_jobs")
# Jobs that dlt makes itself once the files of a table and its children are in (merge): it makes
# them again.
_MADE_BY_DLT = {"sql"}

Tables = dict[str, dict[str, Any]]


def is_committed(connection: duckdb.DuckDBPyConnection, dataset: str, load_id: str) -> bool:
    """True when the package's commit stands in `_dlt_loads`."""
    if not exists(connection, dataset, "_dlt_loads"):
        return False
    row = connection.execute(
        f"SELECT count(*) FROM {quoted(dataset, '_dlt_loads')} "  # noqa: S608
        "WHERE load_id = ? AND status = 0",
        [load_id],
    ).fetchone()
    return bool(row and row[0])


def take_back(
    connection: duckdb.DuckDBPyConnection,
    packages: PackageStorage,
    load_id: str,
    dataset: str,
    staging_dataset: str,
) -> None:
    """Remove what an unfinished package has brought into the warehouse; all its files wait again.

    dlt loads file by file and notes each file after the database committed it: killed in between,
    it would load that file again. A merge goes through a staging dataset, where a file that came
    twice gives children twice, so that is emptied as well. Rows first, files after: killed between
    the two, the next run does the same again.
    """
    begun = [
        (state, Path(path).name)
        for state in _BEGUN
        for path in packages.storage.list_folder_files(
            packages.get_job_state_folder_path(load_id, state)
        )
    ]
    waiting = packages.storage.list_folder_files(
        packages.get_job_state_folder_path(load_id, "new_jobs")
    )
    made = [("new_jobs", Path(p).name) for p in waiting if _kind(Path(p).name) in _MADE_BY_DLT]
    if not begun and not made:
        return
    tables = cast(Tables, packages.load_schema(load_id).tables)
    touched = {ParsedLoadJobFileName.parse(name).table_name for _, name in begun}
    _delete_rows(connection, load_id, dataset, staging_dataset, tables, touched)
    for state, name in [*begun, *made]:
        path = _job_path(packages, load_id, cast(TPackageJobState, state), name)
        if _kind(name) in _MADE_BY_DLT:
            path.unlink()
        elif state != "new_jobs":
            path.rename(_job_path(packages, load_id, "new_jobs", name))
        packages.clear_pending_transition(load_id, name)


def _kind(name: str) -> str:
    return str(ParsedLoadJobFileName.parse(name).file_format)


def _job_path(packages: PackageStorage, load_id: str, state: TPackageJobState, name: str) -> Path:
    return Path(packages.storage.make_full_path(packages.get_job_file_path(load_id, state, name)))


def _delete_rows(
    connection: duckdb.DuckDBPyConnection,
    load_id: str,
    dataset: str,
    staging_dataset: str,
    tables: Tables,
    touched: set[str],
) -> None:
    connection.begin()
    # A parent before its children: they go by not having one. A child may have been loaded while
    # its parent was not.
    for name in sorted(touched & tables.keys(), key=lambda n: (len(parents_of(tables, n)), n)):
        if exists(connection, staging_dataset, name):
            connection.execute(f"DELETE FROM {quoted(staging_dataset, name)}")  # noqa: S608
        if not exists(connection, dataset, name):
            continue
        table, parent = quoted(dataset, name), tables[name].get("parent")
        if parent is None:
            if "_dlt_load_id" in tables[name].get("columns", {}):
                connection.execute(
                    f"DELETE FROM {table} WHERE _dlt_load_id = ?",  # noqa: S608
                    [load_id],
                )
        elif exists(connection, dataset, parent):
            connection.execute(
                f"DELETE FROM {table} AS child WHERE NOT EXISTS (SELECT 1 FROM "  # noqa: S608
                f"{quoted(dataset, parent)} AS parent WHERE parent._dlt_id = child._dlt_parent_id)"
            )
    connection.commit()
