"""The report of a run: its record as one HTML page that needs nothing else, beside `run.json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etl.past_runs import past_runs
from etl.records import LoadRun, RunRecord, SourceRun, Timed
from etl.runs import write_atomically
from etl.settings import Settings

# Enough to see what is usual, and quick to read.
EARLIER = 14
_TEMPLATE = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html")


@dataclass(frozen=True)
class Bar:
    """One thing on the time line: when it began and how long it took, in percent of the whole."""

    kind: str
    name: str
    status: str
    seconds: float
    start: float
    width: float


def write_page(settings: Settings, record: RunRecord) -> Path:
    """Write a run's report beside its record; returns its path.

    Raises:
        ResourcesError: the disk is full or the folder is not writable.
    """
    path = settings.runs / record.run_id / "report.html"
    write_atomically(path, make_page(settings, record))
    return path


def make_page(settings: Settings, record: RunRecord) -> str:
    """The page. Whatever stands in the record is escaped, and its policy forbids to load anything.

    Secrets are masked in records, and so on the page.
    """
    before = (
        r
        for r in past_runs(settings)
        if r.started_at < record.started_at and r.environment == record.environment
    )
    earlier = list(islice(before, EARLIER))
    return _TEMPLATE.render(
        run=record,
        bars=make_bars(record),
        before=find_before(record.sources, earlier),
        runs=[(r, sum(s.rows for s in r.sources)) for r in [record, *earlier]],
    )


def find_before(
    sources: Iterable[SourceRun], earlier: Sequence[RunRecord]
) -> dict[tuple[str, str], int]:
    """Rows that each resource brought the last time before, where the earlier runs tell."""
    before = {(s.source, s.resource): s.rows for r in reversed(earlier) for s in r.sources}
    return {k: before[k] for s in sources if (k := (s.source, s.resource)) in before}


def make_bars(record: RunRecord) -> list[Bar]:
    """What the run did, in the order in which it began; without what tells no time."""
    parts = [
        (start, end, kind, name, status)
        for kind, name, status, part in _parts(record)
        if (start := part.started_at) is not None and (end := part.finished_at) is not None
    ]
    if not parts:
        return []
    begun, over = min(p[0] for p in parts), max(p[1] for p in parts)
    whole = max((over - begun).total_seconds(), 0.001)
    return [
        Bar(
            kind,
            name,
            status,
            seconds=(end - start).total_seconds(),
            start=round(100 * (start - begun).total_seconds() / whole, 2),
            width=round(100 * (end - start).total_seconds() / whole, 2),
        )
        # A stage stands before what is in it.
        for start, end, kind, name, status in sorted(parts, key=lambda p: (p[0], p[2] != "stage"))
    ]


def _parts(record: RunRecord) -> Iterator[tuple[str, str, str, Timed]]:
    """Kind, name, status and times; what is done together is one part."""
    for stage in record.stages:
        yield "stage", stage.name, stage.status, stage
    sources: dict[str, SourceRun] = {s.source: s for s in record.sources}
    for name, source in sources.items():
        yield "source", name, "ok", source
    for model in record.models:
        if model.intervals:
            yield "model", model.name, model.status, model
    loads: dict[str, LoadRun] = {}
    for load in record.loads:
        if load.target not in loads or load.status == "failed":
            loads[load.target] = load
    for name, load in loads.items():
        yield "target", name, load.status, load
