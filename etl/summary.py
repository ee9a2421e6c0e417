"""A run in a few lines for the person who started it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from etl.errors import ExitCode
from etl.records import RunRecord
from etl.settings import Settings


def summarize(record: RunRecord, settings: Settings) -> str:
    """Rows by stage, models, audits, loads, failures, and where to look next."""
    return "\n".join(_lines(record, settings)) + "\n"


def _lines(record: RunRecord, settings: Settings) -> Iterator[str]:
    yield ""
    if record.options.dry_run:
        yield f"dry run of {record.job}: nothing was changed"
        yield from (f"  {line}" for line in record.plan)
    else:
        took = record.seconds or 0
        yield f"run {record.run_id} of {record.job}, {record.environment}, {took:.1f} s"
    for part in (_sources, _models, _reconciliations, _audits, _loads, _failures):
        yield from part(record)
    code = ExitCode(record.exit_code or 0)
    meaning = "OK" if code is ExitCode.OK else f"{code.name}: {code.meaning}"
    yield f"exit code {int(code)}, {meaning}" + (
        " (the rest was published)" if record.partial else ""
    )
    if not record.options.dry_run:
        yield from _where_to_look(record, settings)


def _sources(record: RunRecord) -> Iterator[str]:
    for s in record.sources:
        yield (
            f"  extract    {s.source}.{s.resource}: {_count(s.rows, 'row')}"
            + ("" if s.pages is None else f", {_count(s.pages, 'page')}")
            + (f", retries: {s.retries}" if s.retries else "")
        )
        yield from (f"             schema: {change}" for change in s.schema_changes)


def _models(record: RunRecord) -> Iterator[str]:
    if not record.models:
        return
    by = {k: [m.name for m in record.models if m.status == k] for k in ("failed", "held_back")}
    ok = len(record.models) - len(by["failed"]) - len(by["held_back"])
    yield f"  transform  {_count(ok, 'model')} up to date" + "".join(
        f", {len(names)} {label}: {', '.join(names)}"
        for label, names in (("failed", by["failed"]), ("held back", by["held_back"]))
        if names
    )


def _reconciliations(record: RunRecord) -> Iterator[str]:
    if record.reconciliations:
        wrong = [r for r in record.reconciliations if not r.agrees]
        yield f"  reconcile  {_count(len(record.reconciliations), 'count')} compared, " + (
            f"{len(wrong)} {'differ' if len(wrong) > 1 else 'differs'}" if wrong else "all agree"
        )


def _audits(record: RunRecord) -> Iterator[str]:
    if record.audits:
        failed = [a for a in record.audits if a.status != "passed"]
        yield f"  audit      {len(record.audits) - len(failed)} passed, {len(failed)} failed"
        for a in failed:
            kind = "" if a.blocking else " (a warning: it does not block)"
            yield f"             {a.name} on {a.model}: {_count(a.failing_rows, 'row')}{kind}"


def _loads(record: RunRecord) -> Iterator[str]:
    if record.options.dry_run:
        return
    for x in record.loads:
        yield f"  load       {x.model} → {x.target}: {x.status.replace('_', ' ')}" + (
            f", {_count(x.rows_at_target, 'row')} (+{x.inserted} ~{x.updated} -{x.deleted})"
            if x.status != "failed"  # nobody has counted what stands there
            else ""
        )


def _failures(record: RunRecord) -> Iterator[str]:
    for w in record.warnings:
        yield f"  warning    {w}"
    for f in record.failures:
        yield f"  {f.exit_name} ({f.exit_code})  {f.message}"
        yield from (f"             row: {_short(row)}" for row in f.sample)
        if f.hint:
            yield f"             → {f.hint}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _short(row: dict[str, Any]) -> str:
    text = ", ".join(f"{k}: {v}" for k, v in row.items() if not k.startswith("_dlt"))
    return text if len(text) <= 300 else text[:300] + " …"


def _where_to_look(record: RunRecord, settings: Settings) -> Iterator[str]:
    folder = settings.runs / record.run_id
    yield f"record     {folder / 'run.json'}"
    yield f"report     {folder / 'report.html'}"
    yield f"log        {folder / 'log.jsonl'}"
    for name, target in settings.targets.items():
        if _tables_at(name, settings):
            yield f"target     {name}: {settings.target_path(target) or target.kind}"
    for name, target in settings.targets.items():
        path, tables = settings.target_path(target), _tables_at(name, settings)
        if record.loads:  # else nobody has looked what stands there
            tables = [x.table for x in record.loads if x.target == name and x.rows_at_target]
        if path and target.kind == "duckdb" and tables and path.exists():
            # Only to read: a hand that slips leaves what is published as it is.
            opened = f"duckdb.connect('{path}', read_only=True)"
            python = f"import duckdb; {opened}.table('{tables[0]}').show()"
            yield f'look       {sys.executable} -c "{python}"'
            break


def _tables_at(target: str, settings: Settings) -> list[str]:
    return [load.target_table for load in settings.loads if load.target == target]
