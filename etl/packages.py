"""Load packages in raw: which are committed, which were transformed, when and by which run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from etl.settings import Settings, dataset_name
from etl.warehouse import bind, literal, quoted

SUFFIX = dataset_name("")


@dataclass(frozen=True)
class Package:
    """A load package that stands in raw; `committed_at` is when dlt recorded it first."""

    dataset: str
    load_id: str
    committed_at: datetime


def raw_datasets(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Raw schemas in the warehouse, of sources that this profile does not read too.

    Told by their ending: a pipeline that is not ours may load into the same file.
    """
    rows = connection.execute(
        bind(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = '_dlt_loads' "
            "AND ends_with(table_schema, ?) ORDER BY ALL",
            SUFFIX,
        )
    ).fetchall()
    return [str(r[0]) for r in rows]


def half_loaded(settings: Settings, source: str) -> list[str]:
    """Load packages of which some files are in raw and others are not, as dlt's folders tell."""
    folder = settings.dlt_dir / source / "load" / "normalized"
    return sorted(
        package.name
        for package in folder.glob("*")
        if any(any((package / s).glob("*")) for s in ("started_jobs", "completed_jobs"))
    )


def active_packages(connection: duckdb.DuckDBPyConnection, environment: str) -> list[Package]:
    """Packages that are committed and not yet transformed in the environment."""
    _create(connection)
    rows = connection.execute(
        f"SELECT dataset, load_id, committed_at FROM ({_committed(connection)}) AS committed "  # noqa: S608
        "ANTI JOIN (SELECT * FROM etl_meta.processed_packages "
        f"WHERE environment = {literal(environment)}) AS done "
        "USING (dataset, load_id) ORDER BY ALL"
    ).fetchall()
    return [Package(str(d), str(i), at) for d, i, at in rows]


def note_processed(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    run_id: str,
    packages: Collection[Package],
) -> None:
    """Note that a run has transformed these packages; one that was noted before stays as it was."""
    _create(connection)
    now = datetime.now(UTC)
    rows = [[environment, p.dataset, p.load_id, now, run_id] for p in packages]
    for row in rows:
        connection.execute(
            bind("INSERT OR IGNORE INTO etl_meta.processed_packages VALUES (?, ?, ?, ?, ?)", *row)
        )


def show_packages(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the view `etl_meta.load_packages` up to the sources that are there now."""
    _create(connection)
    connection.execute(
        f"CREATE OR REPLACE VIEW etl_meta.load_packages AS "  # noqa: S608
        f"SELECT left(dataset, length(dataset) - {len(SUFFIX)}) AS source, load_id, "
        "committed_at, processed_at, run_id, processed_at IS NULL AS is_active "
        f"FROM ({_committed(connection)}) AS committed LEFT JOIN "
        f"(SELECT * FROM etl_meta.processed_packages WHERE environment = 'prod') AS done "
        "USING (dataset, load_id)"
    )


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS etl_meta")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS etl_meta.processed_packages (environment VARCHAR, "
        "dataset VARCHAR, load_id VARCHAR, processed_at TIMESTAMPTZ, run_id VARCHAR, "
        "PRIMARY KEY (environment, dataset, load_id))"
    )


def _committed(connection: duckdb.DuckDBPyConnection) -> str:
    parts = [
        f"SELECT {literal(d)} AS dataset, load_id, min(inserted_at) AS committed_at "  # noqa: S608
        f"FROM {quoted(d, '_dlt_loads')} WHERE status = 0 GROUP BY load_id"
        for d in raw_datasets(connection)
    ]
    nothing = "SELECT '' AS dataset, '' AS load_id, NULL::TIMESTAMPTZ AS committed_at WHERE FALSE"
    return " UNION ALL ".join([nothing, *parts])
