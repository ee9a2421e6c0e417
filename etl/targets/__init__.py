"""Publishes marts from the warehouse to the places where people read: one module per kind."""

from __future__ import annotations

from etl.targets import duckdb_file, parquet_files
from etl.targets.publication import Publication, Publish

TARGETS: dict[str, Publish] = {
    "duckdb": duckdb_file.publish,
    "parquet": parquet_files.publish,
}

__all__ = ["TARGETS", "Publication", "Publish"]
