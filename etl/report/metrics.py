"""The numbers of a run as Prometheus metrics: the table of all, and their text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, get_args

from etl.backlog import last_commit, pending_packages, quarantined_packages
from etl.errors import ExitCode
from etl.past_runs import past_runs
from etl.records import AuditStatus, ModelStatus, RunRecord
from etl.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily

# `job` belongs to Prometheus: a scrape would rename ours to `exported_job` (docs/adr/0017).
JOB = "etl_job"
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Measured:
    """What the metrics are read from: a finished run, its settings, the last good run's end."""

    settings: Settings
    record: RunRecord
    last_success: datetime | None


class Metric(NamedTuple):
    """A gauge: its name with the unit, its labels besides `etl_job`, its meaning, its values."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Measured], Iterable[Sample]]


def _one(value: Callable[[Measured], float | None]) -> Callable[[Measured], Iterable[Sample]]:
    def read(m: Measured) -> Iterator[Sample]:
        found = value(m)
        if found is not None:
            yield (), found

    return read


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _info(m: Measured) -> Iterator[Sample]:
    yield (m.record.profile, m.record.versions["etl-job"]), 1


def _class(m: Measured) -> Iterator[Sample]:
    yield from (((c.name,), c == m.record.code) for c in ExitCode)


def _failures(m: Measured) -> Iterator[Sample]:
    found = Counter(f.exit_name for f in m.record.failures)
    yield from (((c.name,), found[c.name]) for c in ExitCode if c)


def _source_rows(m: Measured) -> Iterator[Sample]:
    rows: Counter[tuple[str, ...]] = Counter()
    for s in m.record.sources:
        rows[s.source, s.resource] += s.rows
    yield from rows.items()


def _models(m: Measured) -> Iterator[Sample]:
    found = Counter(x.status for x in m.record.models)
    yield from (((s,), found[s]) for s in get_args(ModelStatus))


def _audits(m: Measured) -> Iterator[Sample]:
    found = Counter((a.status, a.blocking) for a in m.record.audits)
    for status in get_args(AuditStatus):
        for blocking in (True, False):
            yield (status, str(blocking).lower()), found[status, blocking]


def _load_rows(m: Measured) -> Iterator[Sample]:
    for x in m.record.loads:
        for change in ("inserted", "updated", "deleted"):
            yield (x.model, x.target, change), getattr(x, change)


def _target_rows(m: Measured) -> Iterator[Sample]:
    for x in m.record.loads:
        if x.status in {"published", "unchanged"}:
            yield (x.model, x.target), x.rows_at_target


def _of_sources(
    value: Callable[[Settings, str], float | None],
) -> Callable[[Measured], Iterable[Sample]]:
    def read(m: Measured) -> Iterator[Sample]:
        for name in m.settings.active_sources:
            found = value(m.settings, name)
            if found is not None:
                yield (name,), found

    return read


def _freshness_limit(settings: Settings, source: str) -> float | None:
    hours = settings.sources[source].freshness
    return None if hours is None else hours * 3600


METRICS = (
    Metric("etl_run_info", ("profile", "version"), "always 1; what ran", _info),
    Metric(
        "etl_run_exit_code", (), "exit code of the last run",
        _one(lambda m: m.record.exit_code),
    ),
    Metric(
        "etl_run_class", ("class",), "1 for the class that the last run ended with, else 0",
        _class,
    ),
    Metric("etl_run_failures", ("class",), "failures of the last run, by class", _failures),
    Metric(
        "etl_run_partial", (), "1: the last run failed and still published a part",
        _one(lambda m: m.record.partial),
    ),
    Metric(
        "etl_run_warnings", (), "warnings of the last run",
        _one(lambda m: len(m.record.warnings)),
    ),
    Metric(
        "etl_run_started_timestamp_seconds", (), "when the last run started, in Unix time",
        _one(lambda m: _seconds(m.record.started_at)),
    ),
    Metric(
        "etl_run_finished_timestamp_seconds", (), "when the last run ended, in Unix time",
        _one(lambda m: _seconds(m.record.finished_at)),
    ),
    Metric(
        "etl_last_success_timestamp_seconds", (),
        "end of the last run that ended with 0 and published all loads, in Unix time",
        _one(lambda m: _seconds(m.last_success)),
    ),
    Metric(
        "etl_run_stage_duration_seconds", ("stage",), "how long each stage took, with its retries",
        lambda m: (((s.name,), s.seconds) for s in m.record.stages),
    ),
    Metric(
        "etl_run_source_rows", ("source", "resource"), "rows that the API returned in the last run",
        _source_rows,
    ),
    Metric(
        "etl_run_models", ("status",), "models of the last run, by what became of them", _models
    ),
    Metric(
        "etl_run_audits", ("status", "blocking"), "audits of the last run, by result", _audits
    ),
    Metric(
        "etl_run_load_rows", ("model", "target", "change"),
        "rows that the last run inserted, updated and deleted at a target", _load_rows,
    ),
    Metric(
        "etl_target_rows", ("model", "target"), "rows of a mart at its target", _target_rows
    ),
    Metric(
        "etl_source_last_commit_timestamp_seconds", ("source",),
        "when the newest load package of a source was committed, in Unix time",
        _of_sources(lambda settings, source: _seconds(last_commit(settings, source))),
    ),
    Metric(
        "etl_source_freshness_limit_seconds", ("source",),
        "`freshness` of a source: the age from which its data is too old",
        _of_sources(_freshness_limit),
    ),
    Metric(
        "etl_source_pending_packages", ("source",), "load packages that wait for their commit",
        _of_sources(lambda settings, source: len(pending_packages(settings, source))),
    ),
    Metric(
        "etl_source_quarantined_packages", ("source",), "load packages in data/quarantine",
        _of_sources(lambda settings, source: len(quarantined_packages(settings, source))),
    ),
)  # fmt: skip


def measure(settings: Settings, record: RunRecord) -> Measured:
    """The run, and when all was well last, by the records on disk."""
    past = [record] if is_success(record) else past_runs(settings)
    # One of the future (the clock was ahead) would silence the alert until then.
    known = (r for r in past if is_success(r) and r.started_at <= record.started_at)
    last = next(known, None)
    return Measured(settings, record, last.finished_at if last else None)


def is_success(record: RunRecord) -> bool:
    """True when the run ended with 0 and brought every load to its target."""
    options = record.options
    whole = "load" in options.stages and not options.sources and not options.select
    return record.code is ExitCode.OK and record.environment == "prod" and whole


def as_text(measured: Measured, redact: Callable[[str], str]) -> str:
    """All metrics in Prometheus' text format; labels are names of things, freed of secrets."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(measured, redact))
    return generate_latest(registry).decode()


class _Collector:
    """Hands the table to the client library, which knows the format."""

    def __init__(self, measured: Measured, redact: Callable[[str], str]) -> None:
        self._measured, self._redact = measured, redact

    def collect(self) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        record = self._measured.record
        own = {JOB: record.job} | {k: self._redact(v) for k, v in record.labels.items()}
        for metric in METRICS:
            family = GaugeMetricFamily(metric.name, metric.meaning, labels=(*own, *metric.labels))
            for labels, value in metric.read(self._measured):
                family.add_metric([*own.values(), *map(self._redact, labels)], value)
            yield family


def metrics_table() -> str:
    """All metrics as a Markdown table."""
    lines = ["| metric | labels | meaning |", "|---|---|---|"]
    for m in METRICS:
        labels = ", ".join(f"`{x}`" for x in (JOB, *m.labels))
        lines.append(f"| `{m.name}` | {labels} | {m.meaning} |")
    return "\n".join(lines) + "\n"
