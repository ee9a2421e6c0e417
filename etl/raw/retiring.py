"""Retires the last rows of a table of versions (`scd2`): dlt does so only where other rows came."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dlt.extract.extract import Extract
from dlt.extract.extractors import Extractor
from dlt.extract.source import DltSource

from etl.raw.hints import incremental_of


def retire_last_rows() -> None:
    """Let dlt, for the whole process, believe a resource that has no row any more.

    A table that is replaced is emptied then. One of versions was left as it stood, and what had
    gone seemed to hold still: it gets a file without rows too. dlt has no hook for it.
    """
    # `dlt.pipeline` is a function too.
    vars(import_module("dlt.pipeline.pipeline"))["Extract"] = _Extract


class _Extract(Extract):
    def _handle_empty_tables(self, source: DltSource, extractors: dict[Any, Extractor]) -> None:
        super()._handle_empty_tables(source, extractors)
        filled = {table for e in extractors.values() for table in e.tables_with_items}
        known = {t["name"]: t for t in source.schema.data_tables(seen_data_only=True)}
        for resource in source.resources.selected.values():
            # With a cursor only a part of the rows is read. With a `merge_key` too, but there dlt
            # retires rows that share the key of one that came, and none came.
            if callable(resource.table_name) or incremental_of(resource) is not None:
                continue
            name = source.schema.naming.normalize_tables_path(resource.table_name)
            table = known.get(name)
            if table is not None and table.get("x-merge-strategy") == "scd2" and name not in filled:
                extractors["object"].write_empty_items_file(name)
