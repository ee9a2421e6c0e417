"""Runs the extract stage alone, and a small API on loopback that tests describe in Python."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from etl.errors import EtlError, StageError
from etl.libraries import prepare_libraries
from etl.progress import Progress
from etl.records import Options
from etl.runs import Run
from etl.settings import Settings
from etl.stages.context import RunContext
from etl.stop import Stop
from etl.warehouse import KeptOpen
from tests.duckdb_files import opened

prepare_libraries()
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Killed(BaseException):
    """Nothing is tidied up, as after a SIGKILL."""


def settings_of(folder: Path, sources: dict[str, Any]) -> Settings:
    return Settings.model_validate({"data_dir": folder / "data", "sources": sources})


def reading(folder: Path, url: str, *resources: Any, **more: Any) -> Settings:
    """Resources of one API, `api`; each is one page, unless `client` names a paginator."""
    client = {"base_url": url, "paginator": "single_page"} | more.pop("client", {})
    return settings_of(folder, {"api": {"client": client, "resources": resources} | more})


def bluesky(
    url: str, *actors: str, resources: tuple[str, ...] = ("followers",), **more: Any
) -> Any:
    """The source that ships, read from `url` (the replay's)."""
    methods = {"followers": "getFollowers", "follows": "getFollows"}
    return {
        "for_each": {"actor": list(actors)},
        "client": {
            "base_url": url,
            "paginator": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "cursor"},
        },
        "resource_defaults": {"write_disposition": more.pop("write_disposition", "append")},
        "resources": [
            {
                "name": name,
                "endpoint": {
                    "path": f"app.bsky.graph.{methods[name]}",
                    "params": {"actor": "{actor}", "limit": 100},
                    "data_selector": name,
                },
            }
            for name in resources
        ],
    } | more


def context(settings: Settings, **options: Any) -> RunContext:
    chosen = Options(stages=("extract",), **options)
    run = Run(settings, chosen, "20260102T120000Z-abcdef", NOW)
    return RunContext(settings, chosen, run, Stop(), Progress(), KeptOpen(settings.warehouse))


def extract_once(settings: Settings, ctx: RunContext | None = None) -> RunContext:
    """The extract stage once, as a run has it, in a context of its own unless one is given."""
    from etl.stages.extract import extract

    ctx = ctx or context(settings)
    if ctx.options.dry_run:
        extract(ctx)
        return ctx
    settings.data.mkdir(parents=True, exist_ok=True)
    with closing(ctx.warehouse):
        ctx.warehouse.open()
        extract(ctx)
    return ctx


def failures_of(settings: Settings, ctx: RunContext | None = None) -> tuple[EtlError, ...]:
    """What the extract stage fails with; it must fail."""
    try:
        extract_once(settings, ctx)
    except StageError as e:
        return e.failures
    raise AssertionError("the extraction did not fail")


def failure_of(settings: Settings, kind: type[EtlError], ctx: RunContext | None = None) -> EtlError:
    """The one failure that the extract stage ends with; it must be of just this class."""
    [failure] = failures_of(settings, ctx)
    assert type(failure) is kind
    return failure


def query(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with opened(settings.warehouse) as connection:
        return connection.execute(sql).fetchall()


def count(settings: Settings, table: str) -> int:
    """Rows of a table; 0 when the warehouse or the table does not exist."""
    if not settings.warehouse.exists():
        return 0
    schema, _, name = table.partition(".")
    found = query(
        settings,
        "SELECT count(*) FROM information_schema.tables "
        f"WHERE table_schema = '{schema}' AND table_name = '{name}'",
    )
    return int(query(settings, f"SELECT count(*) FROM {table}")[0][0]) if found[0][0] else 0


def pending(settings: Settings, source: str) -> list[str]:
    from etl.raw.pipeline import Raw

    return Raw(settings, source).packages.pending()


Answer = tuple[int, Any, dict[str, str]]
Asked = tuple[str, dict[str, str], dict[str, str]]


class Api:
    """A loopback server; `answer(path, query, headers)` gives status, JSON or bytes, headers.

    What is posted is part of the query.
    """

    def __init__(self, answer: Callable[[str, dict[str, str], dict[str, str]], Any]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                api.connections += 1
                try:
                    super().handle()
                finally:
                    api.connections -= 1

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {k.lower(): v for k, v in self.headers.items()}
                posted = self.rfile.read(int(headers.get("content-length", 0)))
                is_form = "form" in headers.get("content-type", "")
                body = dict(parse_qsl(posted.decode())) if is_form else json.loads(posted or b"{}")
                query = dict(parse_qsl(parts.query)) | body
                asked = (parts.path, query, headers)
                api.asked.append(asked)
                found = api.answer(*asked)
                status, body, more = found if isinstance(found, tuple) else (200, found, {})
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                with suppress(OSError):  # who asked was killed, or had no more patience
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **more}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - the server's own spelling

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            request_queue_size = 100  # a job asks many at once

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def is_let_go(self, seconds: float = 5) -> bool:
        """Whether nobody keeps a connection open; one that is closed may be noticed late."""
        deadline = time.monotonic() + seconds
        while self.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.connections == 0


@contextmanager
def serving(answer: Callable[[str, dict[str, str], dict[str, str]], Any]) -> Iterator[Api]:
    api = Api(answer)
    thread = threading.Thread(target=api.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
