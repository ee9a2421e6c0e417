"""The plain dlt script that this project grew from: a resource that yields pages, default load.

Arguments: base URL, actor, folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

base_url, actor, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
client = RESTClient(
    base_url=base_url,
    paginator=JSONResponseCursorPaginator(cursor_path="cursor", cursor_param="cursor"),
    data_selector="followers",
)


@dlt.resource
def followers() -> Iterator[Any]:
    yield from client.paginate("app.bsky.graph.getFollowers", params={"actor": actor, "limit": 100})


pipeline = dlt.pipeline(
    "seed",
    pipelines_dir=str(folder / "dlt"),
    destination=dlt.destinations.duckdb(str(folder / "seed.duckdb")),
    dataset_name="raw",
)
pipeline.run(followers(), table_name="followers", write_disposition="append")
