"""The demo: the replay runs beside a run, and the sources of the APIs that it replays ask it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from etl.settings import Settings, Source

# A source that was pointed elsewhere is left as it is.
BLUESKY_HOST = "public.api.bsky.app"
SHOP_HOST = "api.shop.example"
MARKET_HOST = "query2.finance.yahoo.com"


@contextmanager
def served(settings: Settings) -> Iterator[Settings]:
    """The settings; in the demo with the replay running and the sources pointed at it."""
    if not settings.demo:
        yield settings
        return
    from etl.demo import Replay

    with Replay(date=settings.snapshot_date()) as replay:
        urls = {
            BLUESKY_HOST: replay.base_url,
            SHOP_HOST: replay.shop_url,
            MARKET_HOST: replay.market_url,
        }
        sources = {n: _replayed(s, urls) for n, s in settings.sources.items()}
        # Else a company's proxy is asked for the replay; of the two the lower case is read first.
        beside = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        os.environ["no_proxy"] = f"127.0.0.1,{beside}"
        yield settings.model_copy(update={"sources": sources})


def _replayed(source: Source, urls: Mapping[str, str]) -> Source:
    """The source, pointed at the replay's URL of its host when it has one."""
    place = "arguments" if source.client is None else "client"
    given: dict[str, Any] = getattr(source, place)
    url = urls.get(urlsplit(str(given.get("base_url"))).hostname or "")
    if url is None:
        return source
    return source.model_copy(update={place: given | {"base_url": url}})
