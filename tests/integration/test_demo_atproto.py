"""The replay's pages pass the models of a public client of the network."""

from __future__ import annotations

from datetime import date

import requests

from etl.demo import ACTORS, Replay
from tests.followers import KINDS, listed

DAY = date(2026, 1, 1)
BULK = "bulk-250.test"


def test_atproto_client_accepts_every_page() -> None:
    from atproto import Client, models  # type: ignore[import-untyped]
    from atproto_client.models.utils import get_or_create  # type: ignore[import-untyped]

    with Replay(DAY) as replay:
        client = Client(base_url=replay.base_url.rstrip("/"))
        calls = {
            "followers": client.app.bsky.graph.get_followers,
            "follows": client.app.bsky.graph.get_follows,
        }
        expected = {
            (actor, kind): [row["did"] for row in listed(actor, kind, DAY)]
            for actor in ACTORS
            for kind in KINDS
        }
        for actor in (*ACTORS, BULK):
            for kind in KINDS:
                dids: list[str] = []
                query: dict[str, object] = {"actor": actor, "limit": 100}
                while True:
                    page = calls[kind](query)
                    dids += [row.did for row in getattr(page, kind)]
                    if page.cursor is None:
                        break
                    query["cursor"] = page.cursor
                assert len(set(dids)) == len(dids) > 200
                assert dids == expected.get((actor, kind), dids)
        sent = [
            requests.get(replay.base_url + request.method, params=dict(request.query), timeout=10)
            for request in replay.requests
        ]

    # The client checks types; the formats (DID, handle, CID, AT URI, instant) only when asked.
    responses = {
        "followers": models.AppBskyGraphGetFollowers.Response,
        "follows": models.AppBskyGraphGetFollows.Response,
    }
    for answer in sent:
        page = answer.json()
        model = responses["followers" if "followers" in page else "follows"]
        assert isinstance(get_or_create(page, model, strict_string_format=True), model)
