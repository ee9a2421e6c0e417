"""Publishes marts to any destination of dlt, by a pipeline of its own that begins anew each time.

dlt resumes a load package that a kill interrupted, and then loads files twice (docs/adr/0015). Here
nothing is resumed: the mart still stands in the warehouse, so a new package brings all of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from loguru import logger

from etl.causes import causes
from etl.errors import ConfigError, EtlError, LoadError, ReconciliationError, Stopped
from etl.memory import MEGABYTES_PER_THREAD, in_little_memory
from etl.records import LoadRun
from etl.settings import Target
from etl.targets.choosing import choose
from etl.targets.comparison import Changes, check_key, reading, record
from etl.targets.dlt_destination.destination import LOAD_ID, Destination, Mart, Tables
from etl.targets.dlt_destination.failures import classify_delivery
from etl.targets.dlt_destination.values import add_up, agrees
from etl.targets.files import translating, warehouse_folder
from etl.targets.parquet_types import export
from etl.targets.publication import Order, Publication, fold
from etl.targets.relation import Relation, describe, query
from etl.warehouse import quoted

_KEYS = "temp.main.etl_keys"
# dlt takes an unsigned number for a signed one of its size.
_SIGNED = {"UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT"}


def publish(
    connection: duckdb.DuckDBPyConnection,
    order: Order,
    target: Target,
    *,
    dry_run: bool = False,
) -> list[LoadRun]:
    """Send every mart whole; see `Publish`, of which less holds here: docs/destinations.md.

    Tables change one after the other. What fails in between is repaired by the next run.
    """
    if not order.tables:
        return []
    work = warehouse_folder(connection) / "cache" / "destinations" / order.target
    with (
        connection.cursor() as cursor,
        translating(cursor, order.target, "publishing marts", work, "**/*"),
    ):

        def attempt() -> list[LoadRun]:
            with _translated(order.target):
                return _publish(cursor, order, target, work, dry_run=dry_run)

        return in_little_memory(cursor, attempt, *MEGABYTES_PER_THREAD)


def _publish(
    cursor: duckdb.DuckDBPyConnection, order: Order, target: Target, work: Path, *, dry_run: bool
) -> list[LoadRun]:
    destination = Destination(order.target, target)
    _check_names(order, destination)
    marts = [_read_mart(cursor, p, destination) for p in order.publish]
    names = {fold(p.table): destination.name_of(p.table) for p in order.hold}
    tables = destination.read_tables(
        dict.fromkeys((*(m.table for m in marts), *names.values()), ())
    )
    keyed = destination.read_tables({m.table: m.key for m in marts})
    held = {table: tables.count(name) for table, name in names.items()}
    runs, sums = [], {}
    for mart in marts:
        started, before = time.perf_counter(), tables.count(mart.table)
        changes, brought = _compare(cursor, mart, keyed, before)
        sums[mart.table] = () if dry_run else add_up(cursor, brought)
        run = record(
            mart.publication, order.target, changes,
            rows=before, dry_run=dry_run, seconds=time.perf_counter() - started,
        )  # fmt: skip
        runs.append(run)
    if marts and not dry_run:
        started = time.perf_counter()
        load_id, after = destination.load(cursor, marts, work)
        runs = [_reconcile(after, m, r, load_id) for m, r in zip(marts, runs, strict=True)]
        for mart in marts:
            _check_values(cursor, after, mart, sums[mart.table], load_id, destination)
        seconds = (time.perf_counter() - started) / len(marts)
        runs = [r.model_copy(update={"seconds": r.seconds + seconds}) for r in runs]
    return runs + order.held_runs(held)


def _check_names(order: Order, destination: Destination) -> None:
    """Raise ConfigError when two tables have one name there: dlt writes `A Table` as `a_table`."""
    seen: dict[str, str] = {}
    for p in (*order.publish, *order.hold):
        other = seen.setdefault(destination.name_of(p.table), p.table)
        if other != p.table:
            raise ConfigError(
                f"tables `{other}` and `{p.table}` are one at target {destination.name}",
                subject=destination.name,
                hint="give one of the loads another `table`",
            )


def _read_mart(
    cursor: duckdb.DuckDBPyConnection, publication: Publication, destination: Destination
) -> Mart:
    name = destination.name
    if "." in publication.table:
        raise ConfigError(
            f"{publication.table} at target {name}: a destination of dlt has one schema",
            subject=name,
            hint="name the table alone, and the schema in the target's `default_schema`",
        )
    with reading(publication, name):
        whole = export(cursor, publication.model)
        signed = ", ".join(
            f"{quoted(c.name)}::{_SIGNED.get(c.type, c.type)} AS {quoted(c.name)}"
            for c in whole.columns
        )
        whole = describe(cursor, f"(SELECT {signed} FROM {whole.sql})")  # noqa: S608  quoted names
        publication, mart = choose(cursor, whole, publication, name)
        if any(destination.column_of(c.name) == LOAD_ID for c in mart.columns):
            raise ConfigError(
                f"{publication.model} has a column {LOAD_ID}, which dlt fills at target {name}",
                subject=name,
                hint="give it another name in the model, or leave it out by the load's `columns`",
            )
        check_key(cursor, mart, publication, name)
        (rows,) = query(cursor, f"SELECT count(*) FROM {mart.sql}")  # noqa: S608
    return Mart(
        publication, mart, rows, destination.name_of(publication.table),
        tuple(destination.column_of(k) for k in publication.key),
        destination.disposition(publication),
    )  # fmt: skip


def _compare(
    cursor: duckdb.DuckDBPyConnection, mart: Mart, tables: Tables, before: int
) -> tuple[Changes, Relation]:
    """What the strategy does to the table, by key, and the rows that it brings.

    A row that stays is written again, except by `append_once`.

    Without a key, or where it cannot be read there, all of it comes and goes.
    """
    batches = tables.keys(mart.table, mart.key) if mart.key and before else None
    if batches is None:
        return Changes(inserted=mart.rows, deleted=before), mart.relation
    # As the mart's types: drivers write the same time, or number, in several ways.
    by_name = {c.name: c.type for c in mart.relation.columns}
    types = [by_name[k] for k in mart.publication.key]
    kept = ", ".join(f"k{i} {kind}" for i, kind in enumerate(types))
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE etl_keys ({kept})")
    values = ", ".join(
        f"TRY_CAST({quoted(k)} AS {kind})" for k, kind in zip(mart.key, types, strict=True)
    )
    for batch in batches:
        cursor.register("etl_batch", batch)
        cursor.execute(f"INSERT INTO {_KEYS} SELECT {values} FROM etl_batch")  # noqa: S608  quoted names
        cursor.unregister("etl_batch")
    same = " AND ".join(f"m.{quoted(k)} = t.k{i}" for i, k in enumerate(mart.publication.key))
    (stay,) = query(
        cursor,
        f"SELECT count(*) FROM {mart.relation.sql} AS m SEMI JOIN {_KEYS} AS t ON {same}",  # noqa: S608
    )
    strategy = mart.publication.strategy
    if strategy == "append_once":
        new = f"(SELECT m.* FROM {mart.relation.sql} AS m ANTI JOIN {_KEYS} AS t ON {same})"  # noqa: S608  quoted
        return Changes(inserted=mart.rows - stay), Relation(new, mart.relation.columns)
    deleted = before - stay if strategy == "replace" else 0
    return Changes(mart.rows - stay, stay, deleted), mart.relation


def _check_values(
    cursor: duckdb.DuckDBPyConnection,
    tables: Tables,
    mart: Mart,
    sums: tuple[int, ...],
    load_id: str,
    destination: Destination,
) -> None:
    """Raise LoadError when a column does not hold there what it holds in the mart.

    Many databases round what they are sent, or take '007' for 7, without a word; and dlt never
    changes the type of a column that is there.
    """
    if not tables.readable:
        return
    for column, total in zip(mart.relation.columns, sums, strict=True):
        there = tables.column(mart.table, destination.column_of(column.name), load_id)
        if not agrees(cursor, column, total, there):
            table = mart.publication.table
            raise LoadError(
                f"{table} at target {destination.name}: column `{column.name}` does not hold there "
                f"what it holds in the mart, in which it is {column.type}",
                subject=destination.name,
                hint="the destination has no such type: cast the column in the model or leave it "
                "out by the load's `columns`; or the table keeps an earlier type: drop it there; "
                "or a view gives other values each time (random(), now())",
            )


def _reconcile(tables: Tables, mart: Mart, run: LoadRun, load_id: str) -> LoadRun:
    """Count what this package brought and what the table has. Raises ReconciliationError."""
    if not tables.readable:
        logger.bind(target=run.target, table=run.table).warning(
            "the destination cannot be read back: rows and values there were not compared"
        )
        return run
    rows = tables.count(mart.table)
    brought = tables.count(mart.table, load_id)
    expected = run.inserted + run.updated
    whole = mart.publication.strategy != "replace" or rows == mart.rows
    if brought != expected or not whole or rows < mart.rows:
        raise ReconciliationError(
            f"{run.table} at target {run.target}: {rows} rows after publishing, {brought} of them "
            f"by this run; the mart has {mart.rows}, of which {expected} had to be brought",
            subject=run.target,
            hint="run again: each run sends the whole mart",
        )
    return run.model_copy(update={"rows_at_target": rows, "reconciled": True})


@contextmanager
def _translated(target: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, EtlError):
        raise  # the warehouse's own, and ours
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, duckdb.OutOfMemoryException):
                raise cause from error
        stopped = next((c for c in causes(error) if isinstance(c, Stopped)), None)
        raise stopped or classify_delivery(error, target) from error
