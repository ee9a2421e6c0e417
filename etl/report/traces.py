"""A finished run as OpenTelemetry spans: the run, its stages, and what each of them did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from etl.records import Failure, Record, RunRecord, Timed

Redact = Callable[[str], str]
CONTENT_TYPE = "application/x-protobuf"
ROOT = "etl run"
# Of records and their parts; the times are the span's own.
TIMES = {"started_at", "finished_at"}


@dataclass(frozen=True)
class Step:
    """What becomes a span: a part of the record, where it belongs, and the failures in it."""

    name: str
    parent: str
    part: Record
    started_at: datetime
    finished_at: datetime
    is_failed: bool = False
    failures: tuple[Failure, ...] = ()


def as_otlp(record: RunRecord, redact: Redact) -> bytes:
    """The trace of a finished run as the body of an OTLP request; texts are freed of secrets.

    All ids are made of the run's: told twice, it is one trace.
    """
    trace = _digest(record.job, record.run_id, str(record.attempt))[:16]
    spans = [_span(step, trace, redact) for step in read_steps(record)]
    version = record.versions.get("etl-job", "")
    about = {**record.labels, "service.name": record.job, "service.version": version}
    scope = ScopeSpans(scope=InstrumentationScope(name="etl", version=version), spans=spans)
    resource = Resource(attributes=_key_values(about, redact))
    whole = ResourceSpans(resource=resource, scope_spans=[scope])
    body: bytes = ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()
    return body


def count_refused(answer: bytes) -> int:
    """How many spans the other side says that it did not take, in an answer that is a success."""
    refused: int = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    return refused


def read_steps(record: RunRecord) -> Iterator[Step]:
    """The run and everything in its record that has times; a parent comes before its parts."""
    end = record.finished_at or record.started_at
    # A stage that a signal cut off has no record of its own: what is in it belongs to the run.
    stages = {s.name for s in record.stages if s.started_at and s.finished_at}
    others = tuple(f for f in record.failures if f.stage not in stages)
    yield Step(ROOT, "", record, record.started_at, end, bool(record.exit_code), others)
    for stage in record.stages:
        if stage.started_at and stage.finished_at:
            inside = tuple(f for f in record.failures if f.stage == stage.name)
            failed = stage.status in {"failed", "partial", "stopped"}
            yield Step(stage.name, ROOT, stage, stage.started_at, stage.finished_at, failed, inside)
    parts: list[tuple[str, str, Timed, bool]] = [
        *(("extract", f"{s.source}.{s.resource}", s, False) for s in record.sources),
        *(("transform", m.name, m, m.status == "failed") for m in record.models),
        *(("load", f"{x.model} → {x.target}", x, x.status == "failed") for x in record.loads),
    ]
    for name, what, part, failed in parts:
        if part.started_at and part.finished_at:
            parent = name if name in stages else ROOT
            yield Step(f"{name} {what}", parent, part, part.started_at, part.finished_at, failed)


def _span(step: Step, trace: bytes, redact: Redact) -> Span:
    status = None
    if step.is_failed:
        said = step.failures[0].message if step.failures else ""
        status = Status(code=Status.STATUS_CODE_ERROR, message=redact(said))
    return Span(
        trace_id=trace,
        span_id=_digest(trace.hex(), step.name)[:8],
        parent_span_id=_digest(trace.hex(), step.parent)[:8] if step.parent else b"",
        name=redact(step.name),
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_nanoseconds(step.started_at),
        end_time_unix_nano=_nanoseconds(step.finished_at),
        attributes=_attributes(step.part, redact),
        # When it happened nobody noted: at the latest, at the end of its stage.
        events=[
            Span.Event(
                time_unix_nano=_nanoseconds(step.finished_at),
                name="failure",
                attributes=_attributes(failure, redact),
            )
            for failure in step.failures
        ],
        status=status,
    )


def _attributes(part: Record, redact: Redact) -> list[KeyValue]:
    """The plain values of a part of the record, by the names that they have in run.json."""
    values = {f"etl.{k}": getattr(part, k) for k in type(part).model_fields if k not in TIMES}
    return _key_values(values, redact)


def _key_values(values: dict[str, Any], redact: Redact) -> list[KeyValue]:
    found = ((key, _value(value, redact)) for key, value in values.items())
    return [KeyValue(key=key, value=value) for key, value in found if value is not None]


def _value(value: Any, redact: Redact) -> AnyValue | None:
    """None for what has no value, and for what is no plain one."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=redact(value)) if value else None
    if isinstance(value, tuple) and value and all(isinstance(v, str) for v in value):
        texts = [AnyValue(string_value=redact(v)) for v in value]
        return AnyValue(array_value=ArrayValue(values=texts))
    return None


def _nanoseconds(at: datetime) -> int:
    """Exact: a float of seconds has not the digits."""
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()
