"""A SQLMesh console without a screen: it collects models, audits and the true cause of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loguru import logger
from sqlglot import exp
from sqlmesh.core.console import NoopConsole
from sqlmesh.core.snapshot import Snapshot

from etl.records import AuditRun
from etl.runs import utc_now
from etl.secrets import MASK

SAMPLE_ROWS = 5
# Stands for the model in the record of an audit that belongs to none.
STANDALONE = "standalone"


@dataclass
class Evaluated:
    """What happened to one model: batches of intervals, seconds, first start and last end."""

    kind: str
    intervals: int = 0
    seconds: float = 0.0
    started_at: datetime = field(default_factory=utc_now)
    finished_at: datetime | None = None


@dataclass
class Listener(NoopConsole):
    """Installed as SQLMesh's console for one run.

    `narrow` has by model the columns of its query that its table lacks, `nulled` by new seed and
    column the words that were read as NULL.
    """

    on_model: Callable[[str], None] = lambda name: None
    pii: tuple[str, ...] = ()
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    heard: dict[str, list[AuditRun]] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    refused: str = ""
    narrow: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nulled: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    _stale: set[str] = field(default_factory=set)

    @property
    def audits(self) -> list[AuditRun]:
        """Every audit of the last pass over its model."""
        return [a for name in sorted(self.heard) for a in self.heard[name]]

    def forget(self) -> None:
        """Start anew: another stage listens."""
        told = (self.evaluated, self.heard, self.errors, self.skipped, self.narrow, self.nulled)
        for part in (*told, self._stale):
            part.clear()
        self.refused = ""

    def next_pass(self) -> None:
        """Models may be evaluated again: what is heard of one from here on replaces the earlier."""
        self._stale |= {*self.evaluated, *self.heard, *self.errors, *self.skipped}

    def _refresh(self, name: str) -> None:
        if name in self._stale:
            self._stale.discard(name)
            for told in (self.evaluated, self.heard, self.errors):
                told.pop(name, None)
            self.skipped.discard(name)

    def start_snapshot_evaluation_progress(
        self, snapshot: Snapshot, audit_only: bool = False
    ) -> None:
        """A batch of a model begins."""
        name = model_name(snapshot)
        self._refresh(name)
        if snapshot.is_model:
            self.evaluated.setdefault(name, Evaluated(snapshot.model_kind_name or ""))

    def update_snapshot_evaluation_progress(
        self,
        snapshot: Snapshot,
        interval: Any,
        batch_idx: int,
        duration_ms: int | None,
        num_audits_passed: int,
        num_audits_failed: int,
        audit_only: bool = False,
        execution_stats: Any = None,
        auto_restatement_triggers: Any = None,
    ) -> None:
        """One batch of one model is done (or failed: then `duration_ms` is None)."""
        if not snapshot.is_model:
            return
        name = model_name(snapshot)
        model = self.evaluated.setdefault(name, Evaluated(snapshot.model_kind_name or ""))
        model.intervals += 1
        model.finished_at = utc_now()
        if duration_ms is None:
            model.seconds = (model.finished_at - model.started_at).total_seconds()
        else:
            model.seconds += duration_ms / 1000
            logger.bind(
                model=name, seconds=duration_ms / 1000, audits_passed=num_audits_passed
            ).info("model evaluated")
        self.on_model(name)

    def audited(
        self,
        snapshot: Snapshot,
        results: Sequence[Any],
        adapter: Any,
        *,
        read: Sequence[Snapshot] = (),
        blocking: bool | None = None,
    ) -> list[AuditRun]:
        """Results of a snapshot's audits, with a sample of the rows that failed.

        For a standalone audit `read` are the models that it reads, and `blocking` is ours to say.
        """
        name = model_name(snapshot)
        self._refresh(name)
        runs = []
        for result in results:
            if result.skipped:
                continue
            failing = int(result.count or 0)
            sql = result.query.sql(dialect=adapter.dialect, pretty=True) if result.query else ""
            hidden = self._hidden(read or (snapshot,)) if failing else set()
            runs.append(
                AuditRun(
                    model=name if snapshot.is_model else STANDALONE,
                    name=result.audit.name,
                    blocking=bool(result.blocking) if blocking is None else blocking,
                    status="failed" if failing else "passed",
                    failing_rows=failing,
                    sql=sql,
                    sample=self._sample(result.query, adapter, hidden) if failing else (),
                )
            )
            if failing:
                logger.bind(
                    model=name, audit=result.audit.name, rows=failing, blocking=runs[-1].blocking
                ).warning("audit failed")
        self.heard.setdefault(name, []).extend(runs)
        return runs

    def _sample(self, query: Any, adapter: Any, hidden: set[str]) -> tuple[dict[str, Any], ...]:
        limited = exp.select("*").from_(query.subquery("audit")).limit(SAMPLE_ROWS)
        adapter.execute(limited, quote_identifiers=True)
        names = [d[0] for d in adapter.cursor.description]
        return tuple(
            {
                n: MASK if n.lower() in hidden and v is not None else plain(v)
                for n, v in zip(names, row, strict=True)
            }
            for row in adapter.cursor.fetchall()
        )

    def _hidden(self, snapshots: Sequence[Snapshot]) -> set[str]:
        """Columns with personal data: tags `pii:<column>` and the setting transform.pii."""
        hidden: set[str] = set()
        names = {model_name(s) for s in snapshots}
        for snapshot in snapshots:
            tags = snapshot.model.tags if snapshot.is_model else []
            hidden |= {t.removeprefix("pii:").lower() for t in tags if t.startswith("pii:")}
        for column in self.pii:
            model, _, bare = column.rpartition(".")
            if not model or model in names:
                hidden.add(bare.lower())
        return hidden

    def log_destructive_change(
        self, snapshot_name: str, alter_operations: Any, dialect: str, error: bool = True
    ) -> None:
        """A model that keeps its table would lose columns; SQLMesh's error does not name it."""
        if error:
            self.refused = bare_name(snapshot_name)

    log_additive_change = log_destructive_change

    def log_failed_models(self, errors: list[Any]) -> None:
        """Every model that failed, with what really happened."""
        for error in errors:
            node = error.node
            key = getattr(node, "snapshot_name", None) or getattr(node, "name", None) or str(node)
            self.errors[bare_name(str(key))] = error.__cause__ or error

    def log_skipped_models(self, snapshot_names: set[str]) -> None:
        """Models that did not run because one above them failed."""
        self.skipped |= {bare_name(n) for n in snapshot_names}

    def log_warning(self, short_message: str, long_message: str | None = None) -> None:
        """SQLMesh's own warnings; failed audits are told by `audited`."""
        logger.bind(logger="sqlmesh").debug(short_message.strip())

    def log_error(self, message: str) -> None:
        """SQLMesh's own error lines; the exception itself is reported elsewhere."""
        logger.bind(logger="sqlmesh").debug(message.strip())


def plain(value: Any) -> Any:
    """A value as JSON knows it."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def bare_name(fqn: str) -> str:
    """`schema.model` of a fully qualified, quoted name."""
    return ".".join(part.strip('"') for part in fqn.replace('"."', '"\0"').split("\0")[-2:])


def model_name(snapshot: Snapshot) -> str:
    """The name that the project gives: `schema.model`, or the audit's name."""
    return bare_name(snapshot.name) if snapshot.is_model else str(snapshot.name)
