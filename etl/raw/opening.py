"""Opens a source's dlt pipeline, in a folder that is whole and of the same day as the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.configuration import known_sections, resolve_configuration
from dlt.common.schema.exceptions import SchemaEngineNoUpgradePathException
from dlt.pipeline.configuration import PipelineConfiguration
from dlt.pipeline.exceptions import (
    CannotRestorePipelineException,
    PipelineStateEngineNoUpgradePathException,
)
from loguru import logger

from etl.causes import causes, first_line
from etl.errors import ConfigError
from etl.raw.buffers import end_buffers_by_bytes
from etl.raw.destination import Warehouse
from etl.raw.packages import Packages
from etl.raw.repair import is_committed
from etl.settings import Settings, dataset_name
from etl.warehouse import exists, quoted

_NEWER = (PipelineStateEngineNoUpgradePathException, SchemaEngineNoUpgradePathException)
# dlt takes them for granted; a backup may leave out empty folders.
_PARTS = ("load/new", "load/normalized", "load/loaded", "normalize/extracted")


class SourcePipeline:
    """One source's dlt pipeline, its load packages, and its connections to the warehouse.

    Raises:
        ConfigError: dlt's own configuration says something of the pipeline, the warehouse has
            another one's state, or a file in its folder is damaged or of a newer dlt.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        self.settings = settings
        self.source = source
        self.dataset = dataset_name(source)
        self.folder = settings.dlt_dir / source
        settings.dlt_dir.mkdir(parents=True, exist_ok=True)  # in the warehouse's folder
        with _folder_told(source, self.folder):
            self._open()

    def _open(self) -> None:
        fresh = not self.folder.exists()
        _refuse_own_settings(self.source)
        end_buffers_by_bytes()
        warehouse = self.settings.warehouse
        self.pipeline = dlt.pipeline(
            pipeline_name=self.source,
            pipelines_dir=str(self.settings.dlt_dir),
            # Nobody reads raw while it is written, so the cheapest way to replace is right; named
            # here, because `take_back` knows no other.
            destination=Warehouse(str(warehouse), replace_strategy="truncate-and-insert"),
            dataset_name=self.dataset,
        )
        # It would quote each URL and exception as they are, secrets too; nobody reads it.
        self.pipeline.config.enable_runtime_trace = False
        for left in self.settings.dlt_dir.glob("*/trace.pickle"):  # of an earlier version
            left.unlink(missing_ok=True)
        self.packages = Packages(self.pipeline, self.settings.data / "quarantine" / self.source)
        self.pipeline.activate()
        if not self._make_whole():
            self._begin_anew()
        elif fresh and warehouse.exists():
            # The working directory was lost, the warehouse was not: schema and cursors come back.
            self._take_state()

    def _make_whole(self) -> bool:
        """Make the empty folders that are missing; False when a schema is, too."""
        for part in _PARTS:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        schemas = self.folder / "schemas"
        return all((schemas / f"{n}.schema.json").is_file() for n in self.pipeline.schema_names)

    def fits_warehouse(self) -> bool:
        """False when the warehouse lacks the last package that was committed, or has a later one.

        Then one of the two was restored or deleted, and the cursors here are of another day than
        the rows there: rows would be left out, or come twice.
        """
        loaded = self.packages.loaded
        with self.connection() as connection:
            newest = _newest_commit(connection, self.dataset)
            return (newest is None or newest in {*loaded, *self.packages.pending()}) and (
                not loaded or is_committed(connection, self.dataset, loaded[-1])
            )

    def match_warehouse(self) -> None:
        """Take schema and cursors from the warehouse, unless they are of the same day already."""
        if not self.fits_warehouse():
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Go on from what the warehouse holds; packages that wait are kept in quarantine."""
        logger.bind(source=self.source).warning(
            f"{self.folder} and the warehouse are not of the same run (restored or deleted?): the "
            "source goes on from what the warehouse holds"
        )
        self.packages.put_in_quarantine(self.packages.pending())
        self.pipeline.drop()
        self.pipeline.activate()
        self._take_state()

    def _take_state(self) -> None:
        with self.connection() as connection:
            _leave_newest_state(connection, self.dataset)
        self.pipeline.sync_destination()

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the warehouse, in a pool of this source."""
        # The client itself keeps one connection only: in a `with` of it a second one would be lost.
        connection = self.client.open_connection()
        try:
            yield connection
        finally:
            self.client.credentials.conn_pool.return_conn(connection)

    @cached_property
    def client(self) -> Any:
        """dlt's client of the warehouse."""
        # dlt would resolve the whole configuration of the destination for each connection.
        return self.pipeline.sql_client()


@contextmanager
def _folder_told(source: str, folder: Path) -> Iterator[None]:
    """Tell of a state that is not the source's, and of files in its folder that dlt cannot read."""
    try:
        yield
    except Exception as e:
        for cause in causes(e):
            if isinstance(cause, _NEWER):
                raise ConfigError(
                    f"{source}: {folder} is of a newer dlt than this one: {first_line(cause)}",
                    subject=source,
                    hint="start the version that wrote it, or put back the copy of before the "
                    "upgrade: docs/deploy.md, Upgrade and rollback",
                ) from e
            if isinstance(cause, CannotRestorePipelineException):
                raise ConfigError(
                    f"{source}: {dataset_name(source)} holds the state of another pipeline: "
                    f"{first_line(cause)}",
                    subject=source,
                    hint="give the state the source's name, as docs/adopt.md does, or begin anew: "
                    f"drop the schema {dataset_name(source)}",
                ) from e
            if isinstance(cause, JSONDecodeError | UnicodeDecodeError):
                raise ConfigError(
                    f"{source}: a file in {folder} is damaged: {first_line(cause)}",
                    subject=source,
                    hint=f"remove {folder}: the next run goes on from what the warehouse holds; "
                    "load packages that wait in there (`etl status`) are lost with it",
                ) from e
        raise


def _refuse_own_settings(source: str) -> None:
    """Refuse what dlt's own configuration says of a source's pipeline.

    It would drop raw's tables, or move them.
    """
    sections = (known_sections.PIPELINES, source)
    found = resolve_configuration(PipelineConfiguration(pipeline_name=source), sections=sections)
    said = {"dev_mode": found.dev_mode, "full_refresh": found.full_refresh,
            "refresh": found.refresh, "dataset_name_layout": found.dataset_name_layout,
            "use_single_dataset": not found.use_single_dataset,
            "restore_from_destination": not found.restore_from_destination}  # fmt: skip
    if names := [name for name, is_other in said.items() if is_other]:
        raise ConfigError(
            f"{source}: dlt's own configuration says {', '.join(names)}, and the job decides that",
            subject=source,
            hint=f"remove it: the variable {names[0].upper()} or PIPELINES__{names[0].upper()}, or "
            "a line in .dlt/config.toml",
        )


def _newest_commit(connection: duckdb.DuckDBPyConnection, dataset: str) -> str | None:
    """The load id of the package that was committed last; None before the first.

    Not by the ids: those of a clock that was ahead stay the highest.
    """
    if not exists(connection, dataset, "_dlt_loads"):
        return None
    row = connection.execute(
        f"SELECT load_id FROM {quoted(dataset, '_dlt_loads')} "  # noqa: S608 - quoted
        "WHERE status = 0 ORDER BY inserted_at DESC, load_id DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def _leave_newest_state(connection: duckdb.DuckDBPyConnection, dataset: str) -> None:
    """Leave only the newest committed state for dlt to find: it takes the one of the highest id."""
    if exists(connection, dataset, "_dlt_pipeline_state"):
        states, loads = quoted(dataset, "_dlt_pipeline_state"), quoted(dataset, "_dlt_loads")
        connection.execute(
            f"DELETE FROM {states} WHERE version < (SELECT max(version) FROM {states} "  # noqa: S608 - quoted
            f"JOIN {loads} ON load_id = _dlt_load_id WHERE status = 0)"
        )
