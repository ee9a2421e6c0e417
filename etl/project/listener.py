"""A SQLMesh console without a screen: it collects models, audits and the true cause of failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from sqlglot import exp
from sqlmesh.core.console import NoopConsole
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.utils.errors import NodeAuditsErrors

from etl.records import AuditRun
from etl.secrets import MASK

SAMPLE_ROWS = 5


@dataclass
class Evaluated:
    """What happened to one model: batches of intervals, rows where the engine tells, seconds."""

    name: str
    kind: str
    intervals: int = 0
    rows: int | None = None
    seconds: float = 0.0


@dataclass
class Listener(NoopConsole):
    """Installed as SQLMesh's console for one run."""

    on_model: Callable[[str], None] = lambda name: None
    pii: tuple[str, ...] = ()
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    audits: list[AuditRun] = field(default_factory=list)
    errors: dict[str, BaseException] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

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
        name = model_name(snapshot)
        if not snapshot.is_model:
            return
        model = self.evaluated.setdefault(name, Evaluated(name, snapshot.model_kind_name or ""))
        model.intervals += 1
        model.seconds += (duration_ms or 0) / 1000
        rows = getattr(execution_stats, "total_rows_processed", None)
        if rows is not None:
            model.rows = (model.rows or 0) + int(rows)
        if duration_ms is not None:
            logger.bind(
                model=name, rows=rows, seconds=duration_ms / 1000, audits_passed=num_audits_passed
            ).info("model evaluated")
        self.on_model(name)

    def audited(self, snapshot: Snapshot, results: Sequence[Any], adapter: Any) -> None:
        """Results of a snapshot's audits, with a sample of the rows that failed."""
        name = model_name(snapshot)
        for result in results:
            if result.skipped:
                continue
            failing = int(result.count or 0)
            sql = result.query.sql(dialect=adapter.dialect, pretty=True) if result.query else ""
            self.audits.append(
                AuditRun(
                    model=name,
                    name=result.audit.name,
                    blocking=bool(result.blocking),
                    status="failed" if failing else "passed",
                    failing_rows=failing,
                    sql=sql if failing else "",
                    sample=self._sample(snapshot, result.query, adapter) if failing else (),
                )
            )
            if failing:
                logger.bind(
                    model=name, audit=result.audit.name, rows=failing, blocking=result.blocking
                ).warning("audit failed")

    def _sample(self, snapshot: Snapshot, query: Any, adapter: Any) -> tuple[dict[str, Any], ...]:
        limited = exp.select("*").from_(query.subquery("audit")).limit(SAMPLE_ROWS)
        adapter.execute(limited, quote_identifiers=True)
        names = [d[0] for d in adapter.cursor.description]
        hidden = self._hidden(snapshot)
        return tuple(
            {
                n: MASK if n.lower() in hidden and v is not None else plain(v)
                for n, v in zip(names, row, strict=True)
            }
            for row in adapter.cursor.fetchall()
        )

    def _hidden(self, snapshot: Snapshot) -> set[str]:
        """Columns with personal data: tags `pii:<column>` and the setting transform.pii."""
        tags = snapshot.model.tags if snapshot.is_model else []
        hidden = {t.removeprefix("pii:").lower() for t in tags if t.startswith("pii:")}
        name = model_name(snapshot)
        for column in self.pii:
            model, _, bare = column.rpartition(".")
            if not model or model == name:
                hidden.add(bare.lower())
        return hidden

    def log_failed_models(self, errors: list[Any]) -> None:
        """Every model that failed, with what really happened."""
        for error in errors:
            node = error.node
            key = getattr(node, "snapshot_name", None) or str(node)
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


def failed_audits(error: BaseException) -> list[Any]:
    """The blocking audits behind a model's failure; empty when it failed for another reason."""
    return list(error.errors) if isinstance(error, NodeAuditsErrors) else []
