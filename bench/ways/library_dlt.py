"""A plain dlt script for the library's API: its declarative source, into DuckDB.

Arguments: the source as JSON, folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dlt
from dlt.sources.rest_api import rest_api_source

config, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
pipeline = dlt.pipeline(
    "library",
    pipelines_dir=str(folder / "dlt"),
    destination=dlt.destinations.duckdb(str(folder / "library.duckdb")),
    dataset_name="library_raw",
)
pipeline.run(rest_api_source(config, name="library"))
