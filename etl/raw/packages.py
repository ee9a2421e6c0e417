"""One source's load packages: what dlt has of them on disk, and which of them the guards accepted.

dlt keeps a package where its next step is to be: extracted, normalised, loaded. Its own functions
move one forward; back, aside and away is done here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dlt.common.storages.load_package import ParsedLoadJobFileName
from dlt.pipeline.abort import TAbortPlan

from etl.arrival import Arrival, forget_arrival, read_arrival
from etl.raw.repair import is_committed, take_back
from etl.records import Discarded

if TYPE_CHECKING:
    import dlt
    import duckdb

# Old packages are of no use once committed; a few are kept to look at.
KEPT_PACKAGES = 10
# Rows that DuckDB handles at once: its STANDARD_VECTOR_SIZE.
_VECTOR = 2048


class Packages:
    """The load packages of one pipeline; `quarantine` gets those that can never be loaded."""

    def __init__(self, pipeline: dlt.Pipeline, quarantine: Path) -> None:
        self._pipeline, self._quarantine = pipeline, quarantine
        self._folder = Path(pipeline.working_dir)

    @property
    def extracted(self) -> list[str]:
        """Load ids of those that wait for their normalisation, oldest first."""
        return sorted(self._pipeline.list_extracted_load_packages())

    @property
    def normalized(self) -> list[str]:
        """Load ids of those that wait to be loaded, or are half loaded, oldest first."""
        return sorted(self._pipeline.list_normalized_load_packages())

    def pending(self) -> list[str]:
        """Load ids of all that wait for their commit, oldest first."""
        return sorted({*self.extracted, *self.normalized})

    @property
    def loaded(self) -> list[str]:
        """Load ids of the last few that were committed, oldest first."""
        return sorted(self._pipeline.list_completed_load_packages())

    def _files(self) -> Iterator[tuple[str, str, Path]]:
        """Load id, table and place of each file that waits to be loaded."""
        normalized = self._pipeline._get_load_storage().normalized_packages
        for load_id in self.normalized:
            for path in normalized.list_new_jobs(load_id):
                table = ParsedLoadJobFileName.parse(path).table_name
                yield load_id, table, Path(normalized.storage.make_full_path(path))

    def tables(self) -> set[str]:
        """The tables that normalised packages will be loaded into."""
        return {table for _, table, _ in self._files()}

    def files_of_standing_tables(self) -> dict[str, list[Path]]:
        """Parquet files by table, without those of tables that a full refresh makes anew."""
        normalized = self._pipeline._get_load_storage().normalized_packages
        anew = {
            (load_id, table["name"])
            for load_id in self.normalized
            for table in normalized.get_load_package_state(load_id).get("dropped_tables", ())
        }
        found: dict[str, list[Path]] = {}
        for load_id, table, file in self._files():
            if (load_id, table) not in anew and file.suffix == ".parquet":
                found.setdefault(table, []).append(file)
        return found

    def largest_vector(self) -> int:
        """Bytes, uncompressed, of the longest 2,048 rows in these files.

        DuckDB takes that many at once from a table to its log, and holds them in memory.
        """
        from pyarrow.parquet import read_metadata

        longest = 0
        for _, _, file in self._files():
            if file.suffix == ".parquet":
                data = read_metadata(file)
                groups = [data.row_group(i) for i in range(data.num_row_groups)]
                of_a_row = max((g.total_byte_size // max(1, g.num_rows) for g in groups), default=0)
                longest = max(longest, of_a_row * min(data.num_rows, _VECTOR))
        return longest

    def accept(self, arrival: Arrival) -> None:
        """Note that the guards passed, and what raw is to hold: now a crash loses nothing."""
        arrival.write(self._folder)

    @property
    def accepted(self) -> Arrival | None:
        """The last accepted extraction, until raw was seen to hold it."""
        return read_arrival(self._folder)

    def forget_accepted(self) -> None:
        """Raw holds it."""
        forget_arrival(self._folder)

    def reject_unaccepted(self) -> None:
        """Drop what a crashed run had extracted and the guards had not seen."""
        accepted = self.accepted
        for load_id in self.extracted:
            if accepted is None or load_id not in accepted.load_ids:
                self.reject(load_id)
                return  # later packages went with it

    def note_discards(self, waited: Iterable[str], discarded: tuple[Discarded, ...]) -> None:
        """Note what the contract left out of the accepted packages when they were normalised.

        Args:
            waited: the packages that were not normalised before.
            discarded: what was left out of those.
        """
        accepted = self.accepted
        if accepted is None or accepted.is_normalized:
            return
        told = accepted.discarded if set(accepted.load_ids) <= set(waited) else None
        noted = None if told is None else told + discarded
        self.accept(accepted.model_copy(update={"discarded": noted, "is_normalized": True}))

    def reject(self, load_id: str) -> None:
        """Drop a package and all later ones, with the cursors and schemas that they moved on.

        Not by dlt's `abort_packages`: it finds no package that is only extracted, and leaves
        a record of one that is half loaded.
        """
        self._pipeline._apply_abort_plan(
            TAbortPlan(
                package_to_abort=None,
                packages_to_delete=[i for i in self.normalized if i >= load_id],
                extracted_packages_to_delete=[i for i in self.extracted if i >= load_id],
                restore_from_load_id=load_id,
            )
        )
        accepted = self.accepted
        if accepted is not None and max(accepted.load_ids) >= load_id:
            self.forget_accepted()

    def put_in_quarantine(self, load_ids: Iterable[str]) -> None:
        """Keep a copy of what can never be loaded, and drop it and all later ones."""
        ids = sorted(load_ids)
        if not ids:
            return
        for load_id in ids:
            for storage in (
                self._pipeline._get_normalize_storage().extracted_packages,
                self._pipeline._get_load_storage().normalized_packages,
            ):
                folder = Path(storage.storage.make_full_path(storage.get_package_path(load_id)))
                if folder.is_dir():
                    shutil.copytree(folder, self._quarantine / load_id, dirs_exist_ok=True)
        self.reject(ids[0])

    def drop_normalized_twice(self) -> None:
        """dlt hands a normalised package on and then deletes the extracted one: killed between the
        two, it would fail for ever on finding the package already there."""
        extracted = self._pipeline._get_normalize_storage().extracted_packages
        for load_id in set(self.normalized) & set(self.extracted):
            extracted.delete_package(load_id)

    def take_back(
        self, connection: duckdb.DuckDBPyConnection, dataset: str, staging_dataset: str
    ) -> list[str]:
        """Make half-loaded packages loadable again; returns those that proved to be complete.

        A package whose commit stands in `_dlt_loads` is complete: only dlt's own note was lost.
        """
        complete = []
        storage = self._pipeline._get_load_storage()
        for load_id in self.normalized:
            if is_committed(connection, dataset, load_id):
                storage.complete_load_package(load_id, False)
                complete.append(load_id)
            else:
                take_back(
                    connection, storage.normalized_packages, load_id, dataset, staging_dataset
                )
        return complete

    def drop_old(self, new: set[str]) -> None:
        """Of those that were loaded keep the last few, and the new ones whatever the clock says."""
        storage = self._pipeline._get_load_storage().loaded_packages
        for load_id in sorted({*storage.list_packages()} - new)[:-KEPT_PACKAGES]:
            storage.delete_package(load_id, not_exists_ok=True)
