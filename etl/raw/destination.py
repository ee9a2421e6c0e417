"""The warehouse as dlt's destination: configured once, and merges that keep the newest rows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import dlt
from dlt.common.normalizers.json import relational
from dlt.common.schema.typing import C_DLT_ID
from dlt.common.typing import TSortOrder
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.sql_jobs import SqlMergeFollowupJob

# What a text says, as `etl.sources.cursors` reads it; NULL where it says neither.
_NUMBER = r"""CASE WHEN typeof({0}) = 'VARCHAR'
    AND regexp_full_match({0}::VARCHAR, '[+-]?\d+(\.\d+)?')
    THEN TRY_CAST({0}::VARCHAR AS DECIMAL(38, 9)) END"""
_TIME = r"""CASE WHEN typeof({0}) <> 'VARCHAR' THEN NULL
    WHEN regexp_full_match({0}::VARCHAR, '\d{{4}}-\d\d-\d\d[T ].*(Z|[+-]\d\d:?\d\d)')
    THEN TRY_CAST({0}::VARCHAR AS TIMESTAMPTZ)
    ELSE try_strptime(regexp_replace(regexp_replace({0}::VARCHAR, ' (GMT|UTC)$', ' +0000'),
        '([+-]\d\d)(\d\d)$', '\1:\2'), '%a, %d %b %Y %H:%M:%S %z') END"""


def let_row_ids_rise() -> None:
    """Let dlt, for the whole process, give rows ids that rise as they come, from now on."""
    # Not made with the module: what this process was forked of would give the same.
    rising, ending = count(time.time_ns()), secrets.token_hex(4)
    vars(relational)["generate_dlt_id"] = lambda: f"{next(rising):x}{ending}"


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
    """dlt 1.31 upserts a row that is marked as deleted and does not stand there: it would stay.

    Of a key's rows it keeps any, or the last by the letters of a text.
    """

    @classmethod
    def gen_select_from_dedup_sql(
        cls,
        table_name: str,
        primary_keys: Sequence[str],
        columns: Sequence[str],
        dedup_sort: tuple[str, TSortOrder] | None = None,
        *args: Any,
        **options: Any,
    ) -> str:
        """As dlt's, the newest row of each key by `dedup_sort`, else the one that was read last."""
        order = []
        if dedup_sort is not None:
            column, way = dedup_sort
            order = [f"{key.format(column)} {way}" for key in (_NUMBER, _TIME, "{0}")]
        # Of nested rows it is the key here.
        row_id = f'"{C_DLT_ID}"'
        if row_id in columns and row_id not in primary_keys:
            order.append(f"{row_id} desc")
        if order:
            dedup_sort = (", ".join([*order, "1"]), "asc")
        return super().gen_select_from_dedup_sql(
            table_name,
            primary_keys,
            columns,
            dedup_sort,  # type: ignore[arg-type] # dlt takes None, and does not say so
            *args,
            **options,
        )

    @classmethod
    def gen_upsert_merge_sql(cls, *args: Any, **options: Any) -> list[str]:
        # After the tables, the keys, the columns and the one that marks.
        deleted: str | None = args[5]
        if deleted is not None and not options["insert_only"]:
            options["insert_cond"] = f"(s.{deleted}) IS NOT TRUE"
        return super().gen_upsert_merge_sql(*args, **options)
