"""A real run leaves metrics in a textfile and at a Pushgateway, sends spans, tells its end."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from etl.errors import ExitCode
from etl.report.metrics import METRICS
from tests.contract.process import Job, new_job

GOLDEN = Path(__file__).with_name("metrics.golden.prom")
PASSWORD = "canary-password-0123"
# What differs from run to run.
MOMENT = re.compile(r"^(etl_\w+_seconds(?:{.*})?) [\d.e+-]+$", re.MULTILINE)


class Received:
    """A loopback receiver that plays Pushgateway, collector and webhook."""

    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.notices: list[dict[str, object]] = []
        self.traces: list[ExportTraceServiceRequest] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                received.pushed.append(self._body().decode())

            def do_POST(self) -> None:
                body = self._body()
                if self.path == "/v1/traces":
                    assert self.headers["api-key"] == PASSWORD
                    received.traces.append(ExportTraceServiceRequest.FromString(body))
                else:
                    received.notices.append(json.loads(body))

            def _body(self) -> bytes:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return body

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def received() -> Iterator[Received]:
    receiver = Received()
    with receiver.server as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


@pytest.fixture
def job(tmp_path: Path, received: Received) -> Iterator[Job]:
    with new_job(tmp_path) as job:
        job.variables |= {
            "ETL_METRICS__TEXTFILE": "etl.prom",
            "ETL_METRICS__PUSHGATEWAY": received.url,
            "ETL_METRICS__USERNAME": "etl",
            "ETL_METRICS__PASSWORD": PASSWORD,
            "ETL_TRACES__ENDPOINT": f"{received.url}/v1/traces",
            "ETL_TRACES__HEADERS": json.dumps({"api-key": PASSWORD}),
            "ETL_NOTIFY__WEBHOOK": f"{received.url}/services/canary-path-0123",
            "ETL_LOG__LEVEL": "DEBUG",
        }
        yield job


def value(text: str, series: str) -> float:
    """The value of one series."""
    (found,) = re.findall(rf"^{re.escape(series)} (.+)$", text, re.MULTILINE)
    return float(found)


def check_spans(job: Job, sent: ExportTraceServiceRequest) -> None:
    """The run's stages, resources, models and loads are there, each inside of what it hangs on."""
    (resource,) = sent.resource_spans
    spans = {s.name: s for scope in resource.scope_spans for s in scope.spans}
    record = job.record()
    assert spans.keys() == {
        "etl run",
        *(s["name"] for s in record["stages"]),
        *(f"extract {s['source']}.{s['resource']}" for s in record["sources"]),
        *(f"transform {m['name']}" for m in record["models"]),
        *(f"load {x['model']} → {x['target']}" for x in record["loads"]),
    }
    by_id = {s.span_id: s for s in spans.values()}
    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            above = by_id[span.parent_span_id]
            assert above.start_time_unix_nano <= span.start_time_unix_nano, span.name
            assert span.end_time_unix_nano <= above.end_time_unix_nano, span.name


def test_a_good_and_a_failed_run_tell_their_metrics_and_the_failure(
    job: Job, received: Received
) -> None:
    assert job.run().code == 0
    textfile = job.data / "etl.prom"
    text = textfile.read_text(encoding="utf-8")
    assert received.pushed == [text]
    assert received.notices == []
    # Compared with what stands in the repository: a metric is an interface, its name never moves.
    shown = re.sub(r'version="[^"]*"', 'version="…"', MOMENT.sub(r"\1 …", text))
    if os.environ.get("UPDATE_DOCS"):
        GOLDEN.write_text(shown, encoding="utf-8")
    assert shown == GOLDEN.read_text(encoding="utf-8")
    success = value(text, 'etl_last_success_timestamp_seconds{etl_job="bluesky"}')
    assert success == value(text, 'etl_run_finished_timestamp_seconds{etl_job="bluesky"}')

    check_spans(job, received.traces[0])

    dead = "http://127.0.0.1:9/xrpc/"
    failed = job.run(
        "--stage",
        "extract",
        ETL_LOG__QUIET="true",
        ETL_SOURCES__BLUESKY__CLIENT__BASE_URL=dead,
        ETL_LABELS__TEAM="data",
    )
    assert failed.code == 4
    # Quiet: cron mails what is printed, so only what is wrong is; the file has all.
    printed = {json.loads(line)["level"] for line in failed.err.splitlines()}
    assert "ERROR" in printed
    assert printed <= {"WARNING", "ERROR"}
    log = (job.data / "runs/latest/log.jsonl").read_text(encoding="utf-8")
    assert '"level": "INFO"' in log
    text = textfile.read_text(encoding="utf-8")
    assert received.pushed[1:] == [text]
    mine = 'etl_job="bluesky",team="data"'
    assert value(text, f"etl_run_exit_code{{{mine}}}") == 4
    assert value(text, f"etl_last_success_timestamp_seconds{{{mine}}}") == success
    assert set(re.findall(r'team="\w+"', text)) == {'team="data"'}
    assert text.count('team="data"') == sum(line[0] != "#" for line in text.splitlines())
    _, second = received.traces
    about = {a.key: a.value.string_value for a in second.resource_spans[0].resource.attributes}
    assert (about["team"], about["service.name"]) == ("data", "bluesky")
    (notice,) = received.notices
    record = job.record()
    assert notice["labels"] == record["labels"] == {"team": "data"}
    assert (notice["status"], notice["run_id"]) == ("failure", record["run_id"])
    assert (notice["code"], notice["class"]) == (4, "CONNECTION")
    assert (notice["message"], notice["hint"]) == tuple(
        record["failures"][0][k] for k in ("message", "hint")
    )
    # DEBUG, and nothing of how to reach the two is anywhere.
    left = [p for p in job.data.rglob("*") if p.is_file() and b"canary" in p.read_bytes()]
    assert left == []
    told = f"{failed.err}{received.notices}{received.pushed}{received.traces}"
    assert "canary" not in told

    # One at a time is true, and there is one for each class.
    classes = re.findall(r'^etl_run_class{class="(\w+)",.*} ([01]).0$', text, re.MULTILINE)
    assert [name for name, _ in classes] == [c.name for c in ExitCode]
    assert [name for name, on in classes if on == "1"] == ["CONNECTION"]
    # In the exposition, every metric of the table.
    assert re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE) == [m.name for m in METRICS]
