"""The limit: the same bytes through pyarrow's JSON reader into DuckDB, flattened by hand.

No dlt, no checks, no restart: what a machine could do at best. Arguments: base URL, actor, folder.
"""

from __future__ import annotations

import io
import sys
import urllib.parse
from http.client import HTTPConnection
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.json as pj

base_url, actor, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
address = urllib.parse.urlsplit(base_url)
connection = HTTPConnection(address.hostname or "", address.port)
BATCH = 50

warehouse = duckdb.connect(str(folder / "limit.duckdb"))


def load(pages: list[bytes], first: bool) -> None:
    table = pj.read_json(io.BytesIO(b"\n".join(pages)))
    rows = table.column("followers").combine_chunks().flatten()
    flat = pa.Table.from_struct_array(rows).flatten().flatten()
    labels = flat.column("labels").combine_chunks()
    parents = labels.value_parent_indices()
    child = pa.Table.from_struct_array(labels.flatten()).append_column("parent", parents)
    flat = flat.drop_columns(["labels"])
    for name, part in (("followers", flat), ("labels", child)):
        warehouse.register("part", part)
        verb = (
            f"CREATE TABLE {name} AS FROM part"
            if first
            else f"INSERT INTO {name} BY NAME FROM part"
        )
        warehouse.execute(verb)
        warehouse.unregister("part")


cursor, pages, first = None, [], True
while True:
    query = {"actor": actor, "limit": "100"} | ({"cursor": cursor} if cursor else {})
    connection.request(
        "GET", f"{address.path}app.bsky.graph.getFollowers?{urllib.parse.urlencode(query)}"
    )
    page = connection.getresponse().read()
    pages.append(page)
    cursor = orjson.loads(page).get("cursor")
    if len(pages) == BATCH or not cursor:
        load(pages, first)
        pages, first = [], False
    if not cursor:
        break
