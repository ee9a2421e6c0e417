"""The only importer of dlt's pipeline: load packages from extraction to their commit in raw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
import duckdb
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.exceptions import DictValidationException, MissingDependencyException
from dlt.common.schema.exceptions import DataValidationError
from dlt.extract.exceptions import ResourceExtractionError
from requests import HTTPError
from requests.exceptions import InvalidURL, MissingSchema, RequestException

from etl.errors import (
    AuthError,
    ConfigError,
    ConnectionFailed,
    EtlError,
    ExtractError,
    LoadError,
    SchemaError,
    Stopped,
    causes,
    classify_os_error,
)
from etl.runs import write_atomically
from etl.secrets import safe_url
from etl.settings import Settings, dataset_name
from etl.sources.http import UNREACHABLE, is_busy, place_of
from etl.warehouse import classify_duckdb, exists, quoted

if TYPE_CHECKING:
    from dlt.extract import DltSource

# Old packages are of no use once committed; a few are kept to look at.
KEPT_PACKAGES = 10


@dataclass(frozen=True)
class Committed:
    """Load packages that stand in raw now, and what they changed in its schema."""

    load_ids: tuple[str, ...]
    schema_changes: tuple[str, ...]

    def __add__(self, other: Committed) -> Committed:
        return Committed(
            self.load_ids + other.load_ids, self.schema_changes + other.schema_changes
        )


NOTHING = Committed((), ())


class Raw:
    """One source's raw tables and its dlt pipeline.

    Order of a run: `finish_pending`, `extract`, `accept` or `reject`, `commit`. A package that was
    extracted but not accepted when the process died was never checked by the guards: it is dropped,
    its rows come again with the next extraction. An accepted one is finished first.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        self.source = source
        self.dataset = dataset_name(source)
        self.warehouse = settings.warehouse
        self._accepted = settings.dlt_dir / source / "accepted"
        self._last = settings.dlt_dir / source / "last.json"
        self._quarantine = settings.data / "quarantine" / source
        settings.dlt_dir.mkdir(parents=True, exist_ok=True)
        settings.warehouse.parent.mkdir(parents=True, exist_ok=True)
        fresh = not (settings.dlt_dir / source).exists()
        self.pipeline = dlt.pipeline(
            pipeline_name=source,
            pipelines_dir=str(settings.dlt_dir),
            destination=dlt.destinations.duckdb(str(settings.warehouse)),
            dataset_name=self.dataset,
        )
        self.pipeline.activate()
        if fresh and settings.warehouse.exists():
            # The working directory was lost, the warehouse was not: schema and cursors come back.
            self.pipeline.sync_destination()

    # -- what the last committed extraction looked like -----------------------------------

    def last_extraction(self) -> dict[str, Any]:
        """`{"rows": int, "pages": {resource: int}}` of the last committed one, or empty."""
        try:
            found = json.loads(self._last.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def remember_extraction(self, rows: int, pages: dict[str, int]) -> None:
        """Keep the counts for the guards of the next run."""
        write_atomically(self._last, json.dumps({"rows": rows, "pages": pages}))

    # -- packages ------------------------------------------------------------------------

    def pending(self) -> list[str]:
        """Load ids of packages that wait for their commit, oldest first."""
        return sorted(
            {
                *self.pipeline.list_extracted_load_packages(),
                *self.pipeline.list_normalized_load_packages(),
            }
        )

    def finish_pending(self) -> Committed:
        """Commit what a crashed run had accepted; drop what it had not."""
        extracted = list(self.pipeline.list_extracted_load_packages())
        for load_id in extracted:
            if not (self._accepted / load_id).exists():
                self.reject(load_id)
                break  # later packages went with it
        if not self.pending():
            return NOTHING
        return self.commit()

    def extract(self, source: DltSource, *, workers: int, refresh: bool) -> list[str]:
        """Read the source into a package on disk; nothing reaches the warehouse.

        Returns:
            Load ids of the new package; empty when the source gave nothing at all.
        """
        with self._translated("extract"):
            info = self.pipeline.extract(
                source,
                workers=workers,
                max_parallel_items=max(20, workers * 2),
                loader_file_format="parquet",
                refresh="drop_data" if refresh else None,
            )
            return list(info.loads_ids)

    def accept(self, load_ids: Iterable[str]) -> None:
        """Note that the guards passed: from here on a crash loses nothing."""
        for load_id in load_ids:
            write_atomically(self._accepted / load_id, "")

    def reject(self, load_id: str) -> None:
        """Drop a package that must not reach raw, with the cursors that it had moved on."""
        self.pipeline.abort_packages(load_id)

    def commit(self) -> Committed:
        """Normalise and load every pending package.

        A package that can never be loaded (it breaks the contract, or the warehouse refuses it) is
        moved to quarantine, so that the next run is not poisoned by it.

        Raises:
            SchemaError, LoadError, ConnectionFailed, ResourcesError
        """
        load_ids = self.pending()
        try:
            with self._translated("normalize"):
                self.pipeline.normalize()
        except (SchemaError, LoadError):
            self._put_in_quarantine(self.pipeline.list_extracted_load_packages())
            raise
        self._repair()
        try:
            with self._translated("load"):
                info = self.pipeline.load()
        except LoadError:
            self._put_in_quarantine(self.pipeline.list_normalized_load_packages())
            raise
        changes: list[str] = []
        loaded = set(load_ids)
        if info is not None:
            loaded |= set(info.loads_ids)
            for package in info.load_packages:
                changes += _changes(package.schema_update)
        for marker in self._accepted.glob("*"):
            marker.unlink(missing_ok=True)
        self._drop_old_packages()
        return Committed(tuple(sorted(loaded)), tuple(changes))

    def _put_in_quarantine(self, load_ids: Iterable[str]) -> None:
        ids = sorted(load_ids)
        if not ids:
            return
        for load_id in ids:
            for storage in (
                self.pipeline._get_normalize_storage().extracted_packages,
                self.pipeline._get_load_storage().normalized_packages,
            ):
                folder = Path(storage.storage.make_full_path(storage.get_package_path(load_id)))
                if folder.is_dir():
                    shutil.copytree(folder, self._quarantine / load_id, dirs_exist_ok=True)
        self.pipeline.abort_packages(ids[0])

    def _repair(self) -> None:
        """Make a half-loaded package loadable again without a row twice.

        dlt loads file by file and notes each file after the database committed it: killed in
        between, it would load that file again. So the rows of an unfinished package go first, and
        all of its files are loaded anew. A package whose commit stands in `_dlt_loads` is complete:
        only dlt's own note of it was lost.
        """
        storage = self.pipeline._get_load_storage()
        packages = storage.normalized_packages
        for load_id in self.pipeline.list_normalized_load_packages():
            jobs = [
                (state, Path(name).name)
                for state in ("started_jobs", "completed_jobs")
                for name in packages.storage.list_folder_files(
                    packages.get_job_state_folder_path(load_id, state)  # type: ignore[arg-type]
                )
            ]
            if self._is_committed(load_id):
                storage.complete_load_package(load_id, False)
                continue
            if not jobs:
                continue
            schema = packages.load_schema(load_id)
            again = {
                name
                for name, table in schema.tables.items()
                if _root(schema.tables, name).get("write_disposition") in ("append", "replace")
            }
            self._delete_rows(load_id, schema.tables, again)
            for state, name in jobs:
                table = name.split(".", 1)[0]
                if table in again:
                    source, target = (
                        Path(
                            packages.storage.make_full_path(
                                packages.get_job_file_path(load_id, folder, name)  # type: ignore[arg-type]
                            )
                        )
                        for folder in (state, "new_jobs")
                    )
                    source.rename(target)

    def _is_committed(self, load_id: str) -> bool:
        with self.connection() as connection:
            if not exists(connection, self.dataset, "_dlt_loads"):
                return False
            row = connection.execute(
                f"SELECT count(*) FROM {quoted(self.dataset, '_dlt_loads')} "  # noqa: S608
                "WHERE load_id = ? AND status = 0",
                [load_id],
            ).fetchone()
            return bool(row and row[0])

    def _delete_rows(self, load_id: str, tables: dict[str, Any], again: set[str]) -> None:
        with self.connection() as connection:
            connection.begin()
            # Parents first, then every child whose parent is gone: a child may have been loaded
            # before its parent was.
            for name in sorted(again, key=lambda n: len(_chain(tables, n))):
                if not exists(connection, self.dataset, name):
                    continue
                parent = tables[name].get("parent")
                table = quoted(self.dataset, name)
                if parent is None:
                    if "_dlt_load_id" in tables[name].get("columns", {}):
                        connection.execute(
                            f"DELETE FROM {table} WHERE _dlt_load_id = ?",  # noqa: S608
                            [load_id],
                        )
                elif exists(connection, self.dataset, parent):
                    connection.execute(
                        f"DELETE FROM {table} WHERE _dlt_parent_id NOT IN "  # noqa: S608
                        f"(SELECT _dlt_id FROM {quoted(self.dataset, parent)})"
                    )
                else:
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608
            connection.commit()

    def _drop_old_packages(self) -> None:
        storage = self.pipeline._get_load_storage().loaded_packages
        for load_id in sorted(storage.list_packages())[:-KEPT_PACKAGES]:
            storage.delete_package(load_id, not_exists_ok=True)

    # -- counting ------------------------------------------------------------------------

    def count_rows(self, table: str, load_ids: Iterable[str]) -> dict[str, int]:
        """Rows of a root table in raw by load id; 0 for an id without rows."""
        counts = dict.fromkeys(load_ids, 0)
        name = self.normalized(table)
        with self.connection() as connection:
            if exists(connection, self.dataset, name):
                rows = connection.execute(
                    f"SELECT _dlt_load_id, count(*) FROM {quoted(self.dataset, name)} "  # noqa: S608
                    "WHERE _dlt_load_id IN (SELECT unnest(?)) GROUP BY 1",
                    [list(counts)],
                ).fetchall()
                counts.update({str(k): int(v) for k, v in rows})
        return counts

    def normalized(self, table: str) -> str:
        """The table's name as dlt writes it."""
        return str(self.pipeline.default_schema.naming.normalize_tables_path(table))

    def countable(self, table: str) -> bool:
        """True when every row of the API must stand in raw: append or replace, nothing discarded."""
        schema = self.pipeline.default_schema
        known = schema.tables.get(self.normalized(table))
        if known is None or known.get("write_disposition") not in ("append", "replace"):
            return False
        contracts = {str(schema.settings.get("schema_contract")), str(known.get("schema_contract"))}
        return not any("discard_row" in c for c in contracts)

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the warehouse, in dlt's own pool of this process."""
        with self.pipeline.sql_client() as client:
            cursor = client.native_connection.cursor()
            try:
                yield cursor
            finally:
                cursor.close()

    # -- errors --------------------------------------------------------------------------

    @contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            stopped = next((c for c in causes(e) if isinstance(c, Stopped)), None)
            if stopped is not None:
                raise stopped from e
            raise classify(e, self.source, step) from e


def _root(tables: dict[str, Any], name: str) -> dict[str, Any]:
    table: dict[str, Any] = tables[_chain(tables, name)[-1]]
    return table


def _chain(tables: dict[str, Any], name: str) -> list[str]:
    """The table and its parents, up to the root."""
    chain = [name]
    while (parent := tables[chain[-1]].get("parent")) is not None:
        chain.append(parent)
    return chain


def _changes(update: dict[str, Any]) -> list[str]:
    """A package's schema update in words; dlt's own tables and columns are left out."""
    changes = []
    for name, table in sorted(update.items()):
        if name.startswith("_dlt"):
            continue
        columns = [c for c in table.get("columns", {}).values() if not c["name"].startswith("_dlt")]
        if "_dlt_id" in table.get("columns", {}):
            changes.append(f"new table {name} ({len(columns)} columns)")
        else:
            changes += [f"new column {name}.{c['name']} {c.get('data_type', '')}" for c in columns]
    return changes


def classify(error: BaseException, source: str, step: str) -> EtlError:
    """The class of a failure inside dlt, by the types in its chain of causes."""
    chain = causes(error)
    resource = next(
        (c.pipe_name for c in chain if isinstance(c, ResourceExtractionError)), None
    )
    subject = f"{source}.{resource}" if resource else source
    for cause in chain:
        if isinstance(cause, EtlError):
            if not cause.subject:
                cause.subject = subject
                if cause.message.startswith(f"{resource},"):
                    cause.message = f"{source}.{cause.message}"
            return cause
    for rule in (_schema, _http, _config, _machine):
        if (found := rule(chain, subject, step)) is not None:
            return found
    root = chain[-1]
    if step == "load":
        return LoadError(
            f"{subject}: the warehouse refused a load package: {_text(root)}",
            subject=subject,
            hint="the package is kept in data/quarantine",
        )
    return EtlError(
        f"{subject}: {step} failed: {type(root).__name__}: {_text(root)}",
        subject=subject,
        hint="this failure has no class yet: please report it with the run's log",
    )


def _text(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _schema(chain: list[BaseException], subject: str, step: str) -> EtlError | None:
    for cause in chain:
        if isinstance(cause, DataValidationError):
            column = f".{cause.column_name}" if cause.column_name else ""
            return SchemaError(
                f"{subject}: {cause.table_name}{column}: the contract on {cause.schema_entity} "
                f"({cause.contract_mode}) does not allow it",
                subject=subject,
                hint="mend the source or change sources.<name>.schema_contract; "
                "the package is kept in data/quarantine",
            )
    return None


def _http(chain: list[BaseException], subject: str, step: str) -> EtlError | None:
    for cause in chain:
        if isinstance(cause, MissingSchema | InvalidURL):
            return ConfigError(f"{subject}: the URL is not valid: {_text(cause)}", subject=subject)
        if isinstance(cause, HTTPError) and cause.response is not None:
            status, url = cause.response.status_code, safe_url(cause.response.url)
            page = place_of(cause.response.request).page
            subject_at = f"{subject}, page {page}" if page else subject
            if status in (401, 403):
                return AuthError(
                    f"{subject_at}: {status}, the credentials were rejected ({url})",
                    subject=subject,
                    hint="check the secret of this source and what it may read",
                )
            if is_busy(status):
                return ConnectionFailed(
                    f"{subject_at}: {status} until the retries ran out ({url})", subject=subject
                )
            return ExtractError(
                f"{subject_at}: {status} ({url})",
                subject=subject,
                hint="the API refuses this request: compare it with the API's documentation",
            )
        if isinstance(cause, UNREACHABLE):
            request = cause.request if isinstance(cause, RequestException) else None
            url = safe_url((request.url or "") if request is not None else "")
            return ConnectionFailed(
                f"{subject}: {url or 'the API'} cannot be reached ({type(cause).__name__})",
                subject=subject,
                hint="no network? `etl run --profile demo` runs the same job without one",
            )
    return None


def _config(chain: list[BaseException], subject: str, step: str) -> EtlError | None:
    for cause in chain:
        if isinstance(
            cause, ConfigurationException | DictValidationException | MissingDependencyException
        ):
            return ConfigError(f"{subject}: {_text(cause)}", subject=subject)
    return None


def _machine(chain: list[BaseException], subject: str, step: str) -> EtlError | None:
    for cause in chain:
        if isinstance(cause, duckdb.Error) and (found := classify_duckdb(cause)) is not None:
            return found
    return classify_os_error(chain[0])
