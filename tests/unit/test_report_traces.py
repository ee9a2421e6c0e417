"""The spans of a run: what hangs on what, when it was, how it went, and what it is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from etl.errors import DataQualityError, LockedError
from etl.records import RunRecord
from etl.report.traces import as_otlp
from tests.run_records import NOW, record, times


def part(stage: str, status: str, first: float, last: float) -> dict[str, Any]:
    return {
        "name": stage, "status": status, "attempts": 1, "seconds": last - first,
        **times(first, last),
    }  # fmt: skip


SOURCE = {"source": "api", "resource": "orders", "rows": 7, "pages": 1, "requests": 1, "retries": 0}
MODEL = {"kind": "FULL", "intervals": 1, "rows": 7, "seconds": 1.5, "status": "ok"}
LOAD = {"model": "marts.a", "target": "pg", "table": "a", "strategy": "replace"}
GOOD = record(
    versions={"etl-job": "1.2"},
    started_at=NOW,
    finished_at=NOW + timedelta(seconds=9, microseconds=1),
    stages=[
        part("extract", "ok", 0, 2),
        part("transform", "ok", 2, 5),
        {"name": "audit", "status": "skipped", "attempts": 0, "seconds": 0},
        part("load", "ok", 5, 9),
    ],
    sources=[SOURCE | times(0.5, 2) | {"load_ids": ("1.2", "1.3")}],
    models=[
        MODEL | {"name": "marts.a"} | times(2, 3.5),
        MODEL | {"name": "marts.b", "status": "held_back"},
    ],
    loads=[LOAD | times(5, 9) | {"status": "published", "inserted": 7}],
)


def spans(told: RunRecord) -> dict[str, Span]:
    """The spans of a run by name, as a collector reads them."""
    (resource,) = ExportTraceServiceRequest.FromString(as_otlp(told, str)).resource_spans
    (scope,) = resource.scope_spans
    assert len({s.name for s in scope.spans}) == len(scope.spans)
    return {s.name: s for s in scope.spans}


def attributes(holder: Any) -> dict[str, Any]:
    """Plain values by key."""
    found = {}
    for a in holder.attributes:
        kind = a.value.WhichOneof("value")
        plain = getattr(a.value, kind)
        found[a.key] = [v.string_value for v in plain.values] if kind == "array_value" else plain
    return found


def test_what_has_times_hangs_on_its_stage_and_stages_on_the_run() -> None:
    found = spans(GOOD)
    names = {s.span_id: n for n, s in found.items()}
    assert {n: names.get(s.parent_span_id) for n, s in found.items()} == {
        "etl run": None,
        "extract": "etl run",
        "transform": "etl run",
        "load": "etl run",
        "extract api.orders": "extract",
        "transform marts.a": "transform",
        "load marts.a → pg": "load",
    }
    assert {len(s.trace_id) for s in found.values()} == {16}
    assert len({s.trace_id for s in found.values()}) == 1
    assert {len(s.span_id) for s in found.values()} == {8}
    assert all(s.status.code == Status.STATUS_CODE_UNSET for s in found.values())


def test_times_are_exact() -> None:
    found = spans(GOOD)
    start = int(NOW.timestamp()) * 10**9
    root, model = found["etl run"], found["transform marts.a"]
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (start, start + 9_000_001_000)
    assert model.start_time_unix_nano - start == 2 * 10**9
    assert model.end_time_unix_nano - start == 3_500_000_000


def test_attributes_are_the_records_own_names_and_types() -> None:
    found = spans(GOOD)
    assert attributes(found["extract api.orders"]) == {
        "etl.source": "api", "etl.resource": "orders", "etl.rows": 7, "etl.pages": 1,
        "etl.requests": 1, "etl.retries": 0, "etl.load_ids": ["1.2", "1.3"],
    }  # fmt: skip
    root = attributes(found["etl run"])
    assert root["etl.exit_code"] == 0
    assert root["etl.partial"] is False
    assert root["etl.run_id"] == GOOD.run_id
    assert "etl.started_at" not in root
    assert attributes(found["transform marts.a"])["etl.seconds"] == 1.5
    (resource,) = ExportTraceServiceRequest.FromString(as_otlp(GOOD, str)).resource_spans
    assert attributes(resource.resource) == {"service.name": "shop", "service.version": "1.2"}


def test_a_failure_is_an_event_of_its_stage_and_the_status_of_all_above() -> None:
    error = DataQualityError("3 rows", subject="api", hint="look")
    told = record(
        error, versions={"etl-job": "1"}, stages=[part("extract", "failed", 0, 2)],
        models=[MODEL | {"name": "marts.a", "status": "failed"} | times(0, 1)],
    )  # fmt: skip
    found = spans(told)
    (event,) = found["extract"].events
    assert event.name == "failure"
    said = attributes(event)
    assert (said["etl.exit_code"], said["etl.exit_name"]) == (3, "DATA_QUALITY")
    assert (said["etl.subject"], said["etl.message"], said["etl.hint"]) == ("api", "3 rows", "look")
    assert found["extract"].status.message == "3 rows"
    codes = {n: s.status.code for n, s in found.items()}
    assert set(codes.values()) == {Status.STATUS_CODE_ERROR}
    # Its stage has no record: a signal cut it off.
    assert found["transform marts.a"].parent_span_id == found["etl run"].span_id


def test_a_failure_of_no_stage_that_is_told_belongs_to_the_run() -> None:
    cut_off = record(LockedError("held"), versions={"etl-job": "1"})
    (failure,) = cut_off.failures
    none = cut_off.model_copy(update={"failures": (failure.model_copy(update={"stage": ""}),)})
    for told in (cut_off, none):
        (span,) = spans(told).values()
        assert [attributes(e)["etl.message"] for e in span.events] == ["held"]
        assert span.status.message == "held"


def test_told_twice_it_is_one_trace_and_a_retry_is_another() -> None:
    again = GOOD.model_copy(update={"attempt": 2})
    assert as_otlp(GOOD, str) == as_otlp(GOOD, str)
    assert spans(GOOD)["etl run"].trace_id != spans(again)["etl run"].trace_id


def test_a_record_of_an_earlier_version_is_its_run_alone() -> None:
    old = {"name": "extract", "status": "ok", "attempts": 1, "seconds": 2.0}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    told = record(versions={}, stages=[old], started_at=at, finished_at=None)
    (span,) = spans(told).values()
    assert span.start_time_unix_nano == span.end_time_unix_nano
