"""The warehouse as dlt's destination: configured once, and upserts that insert no deleted row."""

from __future__ import annotations

from typing import Any

import dlt
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.sql_jobs import SqlMergeFollowupJob


class Warehouse(dlt.destinations.duckdb):
    """dlt's DuckDB. The configuration that stands for its capabilities is resolved once.

    dlt 1.31 asks for the capabilities a dozen times in an extraction, and each time resolves a
    configuration for them out of the environment: a sixth of the CPU time of a small one.
    """

    _for_capabilities: DuckDbClientConfiguration | None = None

    @property
    def destination_type(self) -> str:
        # The state of a pipeline holds it, and dlt derives it from the name of the class.
        return "dlt.destinations.duckdb"

    @property
    def client_class(self) -> type[DuckDbClient]:
        return _Client

    def configuration(
        self, initial_config: Any, accept_partial: bool = False
    ) -> DuckDbClientConfiguration:
        # Only capabilities take a partial configuration; those of DuckDB depend on none.
        if not accept_partial:
            return super().configuration(initial_config)
        if self._for_capabilities is None:
            self._for_capabilities = super().configuration(initial_config, accept_partial=True)
        return self._for_capabilities


class _Client(DuckDbClient):
    def _create_merge_followup_jobs(self, table_chain: Any) -> Any:
        return [_Merge.from_table_chain(table_chain, self.sql_client)]


class _Merge(SqlMergeFollowupJob):
    """dlt 1.31 upserts a row that is marked as deleted and does not stand there: it would stay."""

    @classmethod
    def gen_upsert_merge_sql(cls, *args: Any, **options: Any) -> list[str]:
        # After the tables, the keys, the columns and the one that marks.
        deleted: str | None = args[5]
        if deleted is not None and not options["insert_only"]:
            options["insert_cond"] = f"(s.{deleted}) IS NOT TRUE"
        return super().gen_upsert_merge_sql(*args, **options)
