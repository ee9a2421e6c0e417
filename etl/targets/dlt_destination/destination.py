"""One target's destination of dlt: what it can, what stands there, and a load package to it."""

from __future__ import annotations

import difflib
import inspect
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
from dlt.common.configuration.container import Container
from dlt.common.destination.exceptions import (
    DatasetNotAvailable,
    DestinationUndefinedEntity,
    SqlClientNotAvailable,
)
from dlt.common.destination.reference import DestinationReference
from dlt.destinations.exceptions import DatabaseTerminalException
from dlt.destinations.impl.duckdb.configuration import DuckDbBaseCredentials
from dlt.destinations.job_client_impl import SqlJobClientWithStagingDataset

from etl.errors import ConfigError
from etl.secrets import reveal
from etl.settings import Target
from etl.targets.batches import READ_LITTLE_AHEAD, read_batches, read_schema
from etl.targets.dlt_destination.failures import classify_delivery
from etl.targets.publication import Publication
from etl.targets.relation import Relation

BATCH_ROWS = 50_000
VALUE_ROWS = 2048  # of any length
LOAD_ID = "_dlt_load_id"
# What dlt calls each strategy; the first that the destination has.
_MERGE = ("upsert", "delete-insert")
_APPEND_ONCE = ("insert-only",)


@dataclass(frozen=True)
class Mart:
    """One mart and its table, with the names that the destination has for them."""

    publication: Publication
    relation: Relation
    rows: int
    table: str
    key: tuple[str, ...]
    disposition: Any


class Tables:
    """The tables of one target as dlt reads them back; where it cannot, they count as empty."""

    def __init__(self, destination: Any, dataset: str, schema: Any) -> None:
        self.readable = True
        self._dataset = dlt.dataset(destination, dataset, schema=schema)
        try:
            credentials = getattr(self._dataset.sql_client, "credentials", None)
        except (SqlClientNotAvailable, DatasetNotAvailable, NotImplementedError):
            self.readable = False
            return
        _read_little_ahead(credentials)

    def count(self, table: str, load_id: str | None = None) -> int:
        """The rows of a table, or those that one load package brought; 0 when there is none."""
        found = self._dataset.table(table).select(LOAD_ID)
        if load_id is not None:
            found = found.where(LOAD_ID, "eq", load_id)
        return sum(len(batch) for batch in self._read(found))

    def keys(self, table: str, key: tuple[str, ...]) -> Iterator[Any] | None:
        """The keys that stand in a table, as Arrow tables; None when it has no such columns."""
        batches = self._read(self._dataset.table(table).select(*key))
        try:
            first = list(islice(batches, 1))
        except DatabaseTerminalException:
            return None
        return chain(first, batches)

    def column(self, table: str, column: str, load_id: str) -> Iterator[Any]:
        """One column of the rows that a load package brought, as Arrow tables."""
        found = self._dataset.table(table).where(LOAD_ID, "eq", load_id).select(column)
        return self._read(found, VALUE_ROWS)

    def _read(self, relation: Any, rows: int = BATCH_ROWS) -> Iterator[Any]:
        if not self.readable:
            return
        try:
            yield from relation.iter_arrow(chunk_size=rows)
        except DestinationUndefinedEntity:
            return  # not there yet


def _read_little_ahead(credentials: Any) -> None:
    """Let a driver that would hold a whole column bring it in parts."""
    if isinstance(credentials, DuckDbBaseCredentials):  # of files, too
        credentials.local_config = {**READ_LITTLE_AHEAD, **(credentials.local_config or {})}
    elif hasattr(credentials, "engine_kwargs") and not credentials.engine_args:  # SQLAlchemy's
        streaming = {"stream_results": True}
        credentials.engine.update_execution_options(**streaming)
        # dlt makes another engine after each use.
        others = credentials.engine_kwargs or {}
        credentials.engine_kwargs = {"execution_options": streaming, **others}


class Destination:
    """dlt's destination of one target."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.dataset = name, target.schema_name
        options = reveal(dict(target.options))
        factory: Any = DestinationReference.find(str(target.destination))
        with _configuring(name):
            self.destination = factory(**options)
            _check_options(self.destination, name, options)
            self.capabilities = self.destination.capabilities()
            self.schema = self._make_schema()

    def _make_schema(self) -> dlt.Schema:
        # Else its names would be those of the last destination that this process had.
        with Container().injectable_context(self.capabilities):
            return dlt.Schema(self.name)

    def name_of(self, table: str) -> str:
        """A table as dlt writes it there."""
        return self.schema.naming.normalize_table_identifier(table)

    def column_of(self, column: str) -> str:
        """A column as dlt writes it there."""
        return self.schema.naming.normalize_path(column)

    def disposition(self, publication: Publication) -> Any:
        """What dlt is told; ConfigError when the destination cannot do the strategy."""
        if publication.strategy == "replace":
            return "replace"
        able = list(self.capabilities.supported_merge_strategies or [])
        selector: Any = self.capabilities.merge_strategies_selector
        if selector is not None:
            able = list(selector(able, table_schema={}))
        wanted = _MERGE if publication.strategy == "merge" else _APPEND_ONCE
        chosen = next((s for s in wanted if s in able), None)
        if chosen is None:
            # dlt would append, with a warning in its log.
            raise ConfigError(
                f"{publication.model}: target {self.name} cannot do strategy "
                f"{publication.strategy}: dlt has no {' or '.join(wanted)} for this destination",
                subject=self.name,
                hint="use strategy replace, or another destination",
            )
        return {"disposition": "merge", "strategy": chosen}

    def read_tables(self, columns: Mapping[str, Iterable[str]]) -> Tables:
        """What stands there, whatever schemas dlt once noted: a run of a part notes its part.

        Of each table only these columns are looked for. Files that lack one cannot be read at all.
        """
        schema = self._make_schema()
        for table, names in columns.items():
            known: Any = {
                c: {"name": c, "data_type": "text", "nullable": True} for c in (*names, LOAD_ID)
            }
            found: Any = {"name": table, "columns": known, "write_disposition": "replace"}
            # Files are only looked for where there was data.
            found["x-normalizer"] = {"seen-data": True}
            schema.update_table(found)
        return Tables(self.destination, self.dataset, schema)

    def load(
        self, cursor: duckdb.DuckDBPyConnection, marts: list[Mart], work: Path
    ) -> tuple[str, Tables]:
        """Bring all marts there in one load package; its id, and the tables that it made."""
        # What a killed run left is never gone on with.
        shutil.rmtree(work, ignore_errors=True)
        pipeline = dlt.pipeline(
            self.name, pipelines_dir=str(work), destination=self.destination,
            dataset_name=self.dataset,
        )  # fmt: skip
        pipeline.config.restore_from_destination = False
        pipeline.config.enable_runtime_trace = False  # it quotes exceptions, and so credentials
        formats = self.capabilities.supported_loader_file_formats or []
        chosen: Any = "parquet" if "parquet" in formats else None
        with ExitStack() as cursors:
            # dlt reads the marts in turn, and each keeps its place.
            pipeline.extract(
                [_resource(cursors.enter_context(cursor.cursor()), m) for m in marts],
                schema=self.schema,
                loader_file_format=chosen,
            )
            pipeline.normalize()
        _prepare_tables(pipeline, [m.table for m in marts if m.publication.strategy != "replace"])
        info = pipeline.load()
        info.raise_on_failed_jobs()
        shutil.rmtree(work, ignore_errors=True)
        (load_id,) = info.loads_ids
        made = pipeline.default_schema
        for mart in marts:
            # dlt would compare it with a text(64), which PostgreSQL does not have.
            made.tables[mart.table]["columns"][LOAD_ID].pop("precision", None)
        return str(load_id), Tables(self.destination, self.dataset, made)


@contextmanager
def _configuring(target: str) -> Iterator[None]:
    """Nothing is asked of the place yet: what fails, fails by the settings."""
    try:
        yield
    except Exception as error:
        found = classify_delivery(error, target)
        if isinstance(found, ConfigError):
            raise found from error
        # Its text may tell the credentials.
        raise ConfigError(
            f"targets.{target}: dlt cannot use these options: {type(error).__name__}",
            subject=target,
            hint="see dlt's page on the destination; is the driver installed that they name?",
        ) from error


def _check_options(destination: Any, target: str, options: dict[str, Any]) -> None:
    """dlt ignores what it does not know: a mistyped option would have no effect, unsaid."""
    parameters = inspect.signature(type(destination).__init__).parameters
    fields = getattr(destination.spec, "__dataclass_fields__", {})
    known = {n for n in (*parameters, *fields) if not n.startswith("_")} - {"self", "kwargs"}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            raise ConfigError(
                f"targets.{target}.options.{name}: {type(destination).__name__} has no such option",
                subject=target,
                hint=f"did you mean {near[0]}?" if near else "see dlt's page on the destination",
            )


def _prepare_tables(pipeline: Any, merged: list[str]) -> None:
    """Make what is missing, whatever dlt has noted there.

    It takes the tables of a schema that it has noted before for present, so what somebody dropped
    would never be made again; and its staging tables keep the column types of their first load.
    """
    with pipeline.destination_client() as client:
        if not client.is_storage_initialized():
            return
        if merged and isinstance(client, SqlJobClientWithStagingDataset):
            with client.with_staging_dataset():
                if client.is_storage_initialized():
                    client.drop_tables(*merged, delete_schema=True)
        client.update_stored_schema(force=True)


def _resource(cursor: duckdb.DuckDBPyConnection, mart: Mart) -> Any:
    def batches() -> Iterator[Any]:
        query = f"SELECT * FROM {mart.relation.sql}"  # noqa: S608  quoted names
        # First an empty one: a mart without rows has a table, too.
        yield read_schema(cursor, query).empty_table()
        for batch in read_batches(cursor, query, BATCH_ROWS):
            yield pa.Table.from_batches([batch])

    # Naive times become times with a zone unless it is said.
    naive = [
        c.name
        for c in mart.relation.columns
        if c.type.startswith("TIMESTAMP") and "ZONE" not in c.type
    ]
    return dlt.resource(
        batches,
        name=mart.table,
        write_disposition=mart.disposition,
        primary_key=list(mart.publication.key),
        columns={n: {"data_type": "timestamp", "timezone": False} for n in naive},
    )
