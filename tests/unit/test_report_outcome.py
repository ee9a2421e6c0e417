"""Metrics and notifications reach their places, and a place that fails is only a warning."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from pydantic import ValidationError

from etl.errors import ConfigError, LockedError
from etl.records import RunRecord
from etl.report import outcome
from etl.report.metrics import JOB, METRICS
from etl.report.outcome import tell_outcome, tell_refusal
from etl.settings import LABELS, Settings
from tests.run_records import record

HOOK = "https://chat.example/services/T0/B0/path-secret"
GATEWAY = "http://gateway.example:9091"
COLLECTOR = "http://collector.example:4318/v1/traces"
BAD = record(LockedError("held"), versions={"etl-job": "1"})


def settings(folder: Path, **parts: Any) -> Settings:
    """A job whose data is in the folder."""
    return Settings.model_validate({"job": "shop", "data_dir": folder, **parts})


def tell(given: Settings, told: RunRecord = BAD) -> list[str]:
    return tell_outcome(given, told, str)


@responses.activate
def test_metrics_replace_those_of_the_run_before_with_credentials(tmp_path: Path) -> None:
    put = responses.put(f"{GATEWAY}/metrics/job/shop", status=200)
    auth = {"pushgateway": GATEWAY + "/", "username": "u", "password": "pw"}
    assert tell(settings(tmp_path, metrics=auth)) == []
    sent = put.calls[0].request
    assert sent.headers["Authorization"] == "Basic dTpwdw=="
    assert b'etl_run_class{class="LOCKED",etl_job="shop"} 1.0' in sent.body


@responses.activate
def test_the_textfile_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "etl.prom").write_text("half of an old one")
    assert tell(settings(tmp_path, metrics={"textfile": "etl.prom"})) == []
    text = (tmp_path / "etl.prom").read_text()
    assert 'etl_run_exit_code{etl_job="shop"} 8.0\n' in text
    assert "half" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["etl.prom"]


def test_a_folder_that_node_exporter_does_not_read_is_not_made(tmp_path: Path) -> None:
    given = settings(tmp_path, metrics={"textfile": str(tmp_path / "typo" / "etl.prom")})
    assert tell(given) == [f"metrics: {tmp_path / 'typo'}: no such folder"]
    assert not (tmp_path / "typo").exists()


def test_no_label_of_ones_own_is_one_of_the_metrics() -> None:
    taken = {JOB, *(label for metric in METRICS for label in metric.labels)}
    assert taken | {"job", "instance"} == LABELS
    with pytest.raises(ValidationError, match="is a label of the metrics already"):
        Settings(labels={"status": "x"})


def test_labels_carry_no_secret(tmp_path: Path) -> None:
    source = {"source": "api", "resource": "orders-s3cret", "rows": 1, "pages": 1, "requests": 1}
    told = record(versions={"etl-job": "1"}, sources=[source | {"retries": 0}])
    given = settings(tmp_path, metrics={"textfile": "etl.prom"})
    assert tell_outcome(given, told, lambda text: text.replace("s3cret", "***")) == []
    assert 'resource="orders-***"' in (tmp_path / "etl.prom").read_text()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 401}, "answered 401"),
        ({"status": 302, "headers": {"Location": "https://elsewhere.example"}}, "answered 302"),
        ({"body": requests.ConnectionError(HOOK)}, "could not be reached (ConnectionError)"),
        ({"body": ValueError(HOOK)}, "could not be reached (ValueError)"),
    ],
)
@responses.activate
def test_what_cannot_be_told_is_a_warning_without_the_address(
    tmp_path: Path, answer: dict[str, Any], said: str
) -> None:
    responses.post(HOOK, **answer)
    responses.put(f"{GATEWAY}/metrics/job/shop", **answer)
    responses.post(COLLECTOR, **answer)
    metrics = {"pushgateway": GATEWAY, "textfile": "no/such/../folder/etl.prom"}
    (tmp_path / "no").write_text("a file where a folder should be")
    traces = {"endpoint": COLLECTOR}
    found = tell(settings(tmp_path, metrics=metrics, traces=traces, notify={"webhook": HOOK}))
    assert found[0].startswith("metrics: ")
    assert found[0].endswith("folder: no such folder")
    assert found[1:] == [
        f"metrics: the Pushgateway {said}",
        f"traces: the collector {said}",
        f"notification: the webhook {said}",
    ]


@responses.activate
def test_spans_go_out_with_their_headers_and_without_secrets(tmp_path: Path) -> None:
    post = responses.post(COLLECTOR, status=200)
    told = record(LockedError("token s3cret is held"), versions={"etl-job": "1"})
    given = settings(tmp_path, traces={"endpoint": COLLECTOR, "headers": {"api-key": "k3y"}})
    assert tell_outcome(given, told, lambda text: text.replace("s3cret", "***")) == []
    sent = post.calls[0].request
    assert sent.headers["Content-Type"] == "application/x-protobuf"
    assert sent.headers["api-key"] == "k3y"
    assert b"token *** is held" in sent.body
    assert b"s3cret" not in sent.body


@responses.activate
def test_spans_that_a_collector_does_not_take_are_a_warning(tmp_path: Path) -> None:
    some = ExportTracePartialSuccess(rejected_spans=3, error_message="full")
    answer = ExportTraceServiceResponse(partial_success=some).SerializeToString()
    responses.post(COLLECTOR, body=answer)
    said = tell(settings(tmp_path, traces={"endpoint": COLLECTOR}))
    assert said == ["traces: the collector answered 200 and refused 3 spans"]


@responses.activate
def test_without_the_extra_a_run_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "etl.report.traces", raising=False)
    missing = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    monkeypatch.setitem(sys.modules, missing, None)
    said = tell(settings(tmp_path, traces={"endpoint": COLLECTOR}))
    assert said == ["traces: the collector was not told: pip install 'etl-job[otel]'"]


def test_a_place_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr(requests, "request", lambda *a, **k: done.wait(60))
    notify = {"webhook": HOOK, "timeout_seconds": 0.01}
    try:
        said = tell(settings(tmp_path, notify=notify))
    finally:
        done.set()
    assert said == ["notification: the webhook gave no answer in 0.01 s"]


@pytest.mark.parametrize("options", [{"environment": "dev"}, {"options": {"dry_run": True}}])
def test_a_run_that_publishes_nothing_tells_nobody(tmp_path: Path, options: Any) -> None:
    given = settings(
        tmp_path,
        metrics={"textfile": "x.prom"},
        traces={"endpoint": COLLECTOR},
        notify={"webhook": HOOK},
    )
    assert tell(given, record(LockedError("x"), **options)) == []
    assert list(tmp_path.iterdir()) == []


@responses.activate
def test_a_run_that_could_not_begin_is_told_masked(tmp_path: Path) -> None:
    post = responses.post(HOOK, status=200)
    error = ConfigError("token s3cret is wrong")
    mask = lambda text: text.replace("s3cret", "***")  # noqa: E731
    assert tell_refusal(settings(tmp_path, notify={"webhook": HOOK}), error, mask) == []
    assert b"s3cret" not in post.calls[0].request.body
    assert json.loads(post.calls[0].request.body)["message"] == "token *** is wrong"
    assert tell_refusal(settings(tmp_path), error, str) == []
    assert len(post.calls) == 1


def test_the_run_before_is_the_last_one_that_published(tmp_path: Path) -> None:
    given = settings(tmp_path)
    for number, environment, code in ((1, "prod", 8), (2, "dev", 0), (3, "prod", 0)):
        run_id = f"2026010{number}T000000Z-000000"
        folder = given.runs / run_id
        folder.mkdir(parents=True)
        text = record(run_id=run_id, environment=environment, exit_code=code).model_dump_json()
        (folder / "run.json").write_text(text)
    newest = record(run_id="20260103T000000Z-000000")
    before = outcome._run_before(given, newest)
    assert before is not None
    assert before.run_id == "20260101T000000Z-000000"
