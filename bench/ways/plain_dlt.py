"""dlt's declarative REST source with Parquet load files, as its documentation shows it.

Arguments: base URL, actor, folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dlt
from dlt.sources.rest_api import rest_api_source

base_url, actor, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
source = rest_api_source(
    {
        "client": {
            "base_url": base_url,
            "paginator": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "cursor"},
        },
        "resources": [
            {
                "name": "followers",
                "write_disposition": "append",
                "endpoint": {
                    "path": "app.bsky.graph.getFollowers",
                    "params": {"actor": actor, "limit": 100},
                    "data_selector": "followers",
                },
            }
        ],
    }
)
pipeline = dlt.pipeline(
    "plain",
    pipelines_dir=str(folder / "dlt"),
    destination=dlt.destinations.duckdb(str(folder / "plain.duckdb")),
    dataset_name="raw",
)
pipeline.run(source, loader_file_format="parquet")
