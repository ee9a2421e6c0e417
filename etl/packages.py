"""Load packages in raw: which are committed, which were transformed, when and by which run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from etl.errors import ReconciliationError, ResourcesError
from etl.settings import dataset_name
from etl.warehouse import exists, literal, quoted

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
        "SELECT table_schema FROM information_schema.tables WHERE table_name = '_dlt_loads' "
        "AND ends_with(table_schema, ?) ORDER BY ALL",
        [SUFFIX],
    ).fetchall()
    return [str(r[0]) for r in rows]


def active_packages(connection: duckdb.DuckDBPyConnection, environment: str) -> list[Package]:
    """Packages that are committed and not yet transformed in the environment.

    With those that were while the clock was ahead: their time may have been put right since.
    """
    _create(connection)
    rows = connection.execute(
        f"SELECT dataset, load_id, committed_at FROM ({_committed(connection)}) AS committed "  # noqa: S608
        "ANTI JOIN (SELECT * FROM etl_meta.processed_packages "
        "WHERE environment = ? AND processed_at <= now()) AS done "
        "USING (dataset, load_id) ORDER BY ALL",
        [environment],
    ).fetchall()
    return [Package(str(d), str(i), at) for d, i, at in rows]


def refuse_slow_clock(connection: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """Refuse to work while the clock is behind what raw holds.

    What is committed now would count as older than what came before, and a model that takes the
    newest would take the wrong one. Which of the two times is wrong only a person knows.

    Raises:
        ResourcesError: names the newest package.
    """
    row = connection.execute(
        f"SELECT dataset, load_id, committed_at FROM ({_committed(connection)}) AS committed "  # noqa: S608 - quoted there
        "ORDER BY committed_at DESC LIMIT 1"
    ).fetchone()
    if row is not None and row[2] > now:
        dataset, load_id, committed_at = row
        raise ResourcesError(
            f"the clock is behind: it says {now:%Y-%m-%d %H:%M:%S} UTC, and load package {load_id} "
            f"in {dataset} was committed at {committed_at:%Y-%m-%d %H:%M:%S}",
            hint="set the clock right; if it was ahead then and is right now, put the time of the "
            "commit right: docs/operations.md, The clock",
        )


def refuse_lost_packages(
    connection: duckdb.DuckDBPyConnection, extracted: Mapping[str, Collection[str]]
) -> None:
    """Refuse to go on with a run whose load packages are no longer in raw.

    It would publish without them, and end with 0.

    Args:
        extracted: load ids by source, as the run's record has them.

    Raises:
        ReconciliationError: names the packages of one source.
    """
    found = connection.execute(
        f"SELECT dataset, load_id FROM ({_committed(connection)}) AS committed"  # noqa: S608 - quoted there
    ).fetchall()
    for source, load_ids in extracted.items():
        lost = [i for i in load_ids if (dataset_name(source), i) not in found]
        if lost:
            raise ReconciliationError(
                f"{source}: this run brought load package {', '.join(lost)}, which is no longer in "
                "raw: the warehouse is another one, or older",
                subject=source,
                hint="`etl run` reads the sources again; a retry cannot",
            )


def note_processed(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    run_id: str,
    packages: Collection[Package],
) -> None:
    """Note that a run has transformed these packages."""
    _create(connection)
    now = datetime.now(UTC)
    rows = [[environment, p.dataset, p.load_id, now, run_id] for p in packages]
    if rows:
        connection.executemany(
            "INSERT OR REPLACE INTO etl_meta.processed_packages "
            "(environment, dataset, load_id, processed_at, run_id) VALUES (?, ?, ?, ?, ?)",
            rows,
        )


def note_shown(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    models: Collection[str],
    shown: Mapping[str, Mapping[str, list[str]]],
) -> None:
    """Note which packages stood in raw when views were audited that read raw as it is.

    Args:
        models: whose notes are replaced.
        shown: of each view the raw datasets that it shows, with the fingerprint of each.
    """
    _create(connection)
    connection.begin()
    # Not those that are written again: see `etl.history`.
    for model in set(models) - shown.keys():
        connection.execute(
            "DELETE FROM etl_meta.shown_packages WHERE environment = ? AND model = ?",
            [environment, model],
        )
    for model, packages in shown.items():
        connection.execute(
            "INSERT OR REPLACE INTO etl_meta.shown_packages (environment, model, packages) "
            "VALUES (?, ?, ?)",
            [environment, model, json.dumps(packages)],
        )
    connection.commit()


def find_moved(
    connection: duckdb.DuckDBPyConnection, environment: str, half: Collection[str]
) -> set[str]:
    """Views that no longer show what was audited: packages came to raw since, or part of one.

    Args:
        half: datasets with a package that is only partly in raw.
    """
    if not exists(connection, "etl_meta", "shown_packages"):
        return set()
    now = fingerprint_packages(connection)
    rows = connection.execute(
        "SELECT model, packages FROM etl_meta.shown_packages WHERE environment = ?", [environment]
    ).fetchall()
    return {
        str(model)
        for model, noted in rows
        for dataset, packages in json.loads(noted).items()
        if dataset in half or now.get(dataset) != packages
    }


def fingerprint_packages(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every committed load package, by dataset: which, and when it was committed."""
    found: dict[str, list[str]] = {}
    for dataset in raw_datasets(connection):
        row = connection.execute(
            "SELECT count(*), max(inserted_at), bit_xor(hash(load_id, inserted_at)), "  # noqa: S608
            f"sum(hash(load_id, inserted_at)) FROM {quoted(dataset, '_dlt_loads')} WHERE status = 0"
        ).fetchone()
        found[dataset] = [str(v) for v in row or ()]
    return found


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
    connection.execute(
        "CREATE TABLE IF NOT EXISTS etl_meta.shown_packages (environment VARCHAR, model VARCHAR, "
        "packages VARCHAR, PRIMARY KEY (environment, model))"
    )


def _committed(connection: duckdb.DuckDBPyConnection) -> str:
    parts = [
        f"SELECT {literal(d)} AS dataset, load_id, min(inserted_at) AS committed_at "  # noqa: S608
        f"FROM {quoted(d, '_dlt_loads')} WHERE status = 0 GROUP BY load_id"
        for d in raw_datasets(connection)
    ]
    nothing = "SELECT '' AS dataset, '' AS load_id, NULL::TIMESTAMPTZ AS committed_at WHERE FALSE"
    return " UNION ALL ".join([nothing, *parts])
