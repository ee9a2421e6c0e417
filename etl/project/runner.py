"""Plan, run and audit: brings an environment up to date and says what happened to each model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp
from sqlmesh.core.plan import Plan
from sqlmesh.utils.errors import PlanError

from etl.errors import ConfigError, DataQualityError, EtlError, TransformError
from etl.project.changes import Change, check_policy, list_changes
from etl.project.engine import ProjectContext, classify, open_context
from etl.project.listener import Listener, bare_name, failed_audits
from etl.records import AuditRun, ModelRun
from etl.settings import Settings, dataset_name


@dataclass(frozen=True)
class Outcome:
    """What a transformation did: models evaluated, audits run, failures by model."""

    models: tuple[ModelRun, ...]
    audits: tuple[AuditRun, ...]
    failures: tuple[EtlError, ...]
    changes: tuple[Change, ...] = ()


class Project:
    """The SQLMesh project of one job, for one environment."""

    def __init__(
        self,
        settings: Settings,
        environment: str = "prod",
        on_model: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.settings = settings
        self.environment = environment
        self.context: ProjectContext = open_context(settings, on_model)

    @property
    def listener(self) -> Listener:
        """What SQLMesh has told so far."""
        return self.context.listener

    def close(self) -> None:
        """Free the warehouse and the state."""
        self.context.close()

    # -- the graph -----------------------------------------------------------------------

    def models(self) -> dict[str, str]:
        """Every model of the project that SQLMesh builds: name to fully qualified name."""
        return {
            bare_name(fqn): fqn
            for fqn, model in self.context.models.items()
            if not model.kind.is_external
        }

    def grain(self, model: str) -> tuple[str, ...]:
        """The columns that identify a row of the model; empty when it declares none."""
        found = self.context.get_model(model)
        if found is None or not found.grains:
            return ()
        first = found.grains[0]
        expressions = first.expressions if isinstance(first, exp.Tuple) else [first]
        return tuple(e.name for e in expressions)

    def downstream_of_sources(self, sources: Iterable[str]) -> set[str]:
        """Models that read, at any distance, a raw table of these sources."""
        datasets = {dataset_name(s) for s in sources}
        roots = {
            node
            for node in self.context.dag.graph
            if bare_name(node).partition(".")[0] in datasets
        }
        return self.downstream_of_names(roots)

    def downstream_of_names(self, fqns: Iterable[str]) -> set[str]:
        """Models below these fully qualified names; without the names themselves."""
        below: set[str] = set()
        for fqn in fqns:
            below |= {bare_name(d) for d in self.context.dag.downstream(fqn)}
        return below & self.models().keys()

    def select(self, selectors: Collection[str]) -> set[str]:
        """Names of the models that SQLMesh's selector language picks.

        Raises:
            ConfigError: a selector picks nothing.
        """
        selector = self.context._new_selector()
        picked: set[str] = set()
        for text in selectors:
            try:
                found = {bare_name(f) for f in selector.expand_model_selections([text])}
            except Exception as e:
                raise ConfigError(f"--select {text}: is no selector: {e}") from e
            found &= self.models().keys()
            if not found:
                raise ConfigError(
                    f"--select {text}: picks no model",
                    hint=f"models: {', '.join(sorted(self.models()))}",
                )
            picked |= found
        return picked

    def with_upstream(self, names: Iterable[str]) -> set[str]:
        """The models and all that they read."""
        known = self.models()
        result = set(names)
        for name in names:
            result |= {bare_name(u) for u in self.context.dag.upstream(known[name])}
        return result & known.keys()

    def staging_of(self, raw_table: str) -> list[str]:
        """Models that read this raw table (`schema.table`) directly and keep `_dlt_load_id`."""
        return sorted(
            bare_name(fqn)
            for fqn, model in self.context.models.items()
            if any(bare_name(d) == raw_table for d in model.depends_on)
            and "_dlt_load_id" in (model.columns_to_types or {})
            and model.kind.is_incremental_by_time_range
        )

    # -- plan and run --------------------------------------------------------------------

    def differs(self) -> bool:
        """True when the project is not what the environment was built from."""
        environment = self.context.state_reader.get_environment(self.environment)
        if environment is None or not environment.finalized_ts or environment.expiration_ts:
            return True
        built = {s.name: s.fingerprint for s in environment.snapshots}
        here = {name: s.fingerprint for name, s in self.context.snapshots.items()}
        return built != here

    def plan(
        self,
        *,
        select: Collection[str] | None = None,
        restate: Collection[str] | None = None,
        start: str | None = None,
        end: str | None = None,
    ) -> Plan:
        """The plan that brings the environment up to the project and to now.

        Raises:
            TransformError: the project cannot be planned.
        """
        try:
            return self.context.plan_builder(
                self.environment,
                select_models=sorted(select) if select is not None and restate is None else None,
                restate_models=sorted(restate) if restate is not None else None,
                start=start,
                end=end,
                # SQLMesh's own default is floored to the minute: a package committed a second
                # ago would not be part of the plan.
                execution_time=datetime.now(UTC),
                skip_tests=True,
                skip_linter=True,
                include_unmodified=True,
                run=restate is None,
                ignore_cron=True if restate is None else None,
            ).build()
        except Exception as e:
            raise classify(e, "the plan cannot be made") from e

    def transform(
        self,
        *,
        approve: str,
        select: set[str] | None = None,
        hold_back: Collection[str] = (),
        restate: set[str] | None = None,
        start: str | None = None,
        end: str | None = None,
    ) -> Outcome:
        """Plan when the project changed, then evaluate every interval that is missing up to now.

        `select`: only these models; `hold_back`: not these (their source failed).
        `restate`: build these anew, all of them or from `start` to `end`.

        Raises:
            ApprovalError: the policy holds a change back; nothing was changed.
            TransformError: the project does not load or cannot be planned.
        """
        wanted = (select if select is not None else set(self.models())) - set(hold_back)
        partly = wanted != set(self.models())
        changes: list[Change] = []
        if not wanted:
            return self._outcome(hold_back, ())
        planned = False
        if self.differs():
            plan = self.plan(select=wanted if partly else None)
            changes = list_changes(plan)
            if self.environment == "prod":
                check_policy(changes, approve)
            planned = self._apply_contained(plan, wanted)
        if not planned:
            self._run(wanted if partly or self._failed() else None)
        if restate:
            again = restate & wanted - self._failed()
            if again:
                self._apply_contained(
                    self.plan(restate=again, start=start, end=end), wanted, retry=False
                )
        return self._outcome(hold_back, tuple(changes))

    def _failed(self) -> set[str]:
        return set(self.listener.errors) | self.listener.skipped

    def _apply_contained(self, plan: Plan, wanted: set[str], retry: bool = True) -> bool:
        """Apply a plan; when models fail, apply it again without them and what is below them.

        SQLMesh promotes all of a plan or nothing: one broken model would hold back every other.
        Returns False when the environment still needs a run.
        """
        try:
            self.context.apply(plan)
        except PlanError as e:
            if not self.listener.errors:
                raise classify(e, "the plan cannot be applied") from e
        except Exception as e:
            raise classify(e, "the plan cannot be applied") from e
        else:
            return True
        if not retry:
            return True
        known = self.models()
        broken = self._failed() & known.keys()
        broken |= self.downstream_of_names(known[b] for b in broken)
        self.listener.skipped |= broken - set(self.listener.errors)
        rest = wanted - broken
        if rest:
            try:
                self.context.apply(self.plan(select=rest))
            except Exception as e:
                raise classify(e, "the rest of the plan cannot be applied") from e
        # What failed keeps its earlier version in the environment: that one goes on.
        return True

    def _run(self, select: Collection[str] | None) -> None:
        try:
            self.context.run(
                self.environment,
                ignore_cron=True,
                skip_janitor=True,
                select_models=sorted(select) if select is not None else None,
                no_auto_upstream=True if select is not None else False,
            )
        except Exception as e:
            raise classify(e, "the run cannot be made") from e

    def _outcome(self, hold_back: Collection[str], changes: tuple[Change, ...]) -> Outcome:
        heard = self.listener
        models = [
            ModelRun(
                name=m.name,
                kind=m.kind,
                intervals=m.intervals,
                rows=m.rows,
                seconds=round(m.seconds, 3),
                status="failed" if m.name in heard.errors else "ok",
            )
            for m in heard.evaluated.values()
        ]
        reported = {m.name for m in models}
        known = self.models()
        models += [
            ModelRun(
                name=name, kind=self._kind(name), intervals=0, rows=None, seconds=0, status=status
            )
            for name, status in [
                *((n, "failed") for n in sorted(heard.errors)),
                *((n, "held_back") for n in sorted(heard.skipped | set(hold_back))),
            ]
            if name not in reported and name in known
        ]
        return Outcome(
            tuple(models), tuple(heard.audits), tuple(self._failures()), tuple(changes)
        )

    def _kind(self, name: str) -> str:
        model = self.context.get_model(name)
        return model.kind.name.value if model is not None else ""

    def _failures(self) -> list[EtlError]:
        failures: list[EtlError] = []
        for name, error in sorted(self.listener.errors.items()):
            audits = failed_audits(error)
            if audits:
                failures += [audit_failure(name, a.audit_name, int(a.count)) for a in audits]
            else:
                failures.append(classify(error, "failed", name))
        return failures

    # -- audits --------------------------------------------------------------------------

    def audit(self, select: set[str] | None = None) -> Outcome:
        """Run every audit over all data, and the standalone ones; nothing is evaluated.

        Raises:
            TransformError: an audit's query fails, or the environment was never built.
        """
        environment = self.context.state_reader.get_environment(self.environment)
        if environment is None:
            raise TransformError(
                f"environment `{self.environment}` was never built",
                hint="etl run --stage transform",
            )
        snapshots = self.context.state_reader.get_snapshots(environment.snapshots)
        by_name = {s.name: s for s in snapshots.values()}
        wanted = [
            s
            for s in snapshots.values()
            if (not s.is_model or not s.model.kind.is_external)
            and (select is None or not s.is_model or bare_name(s.name) in select)
        ]
        failures: list[EtlError] = []
        for snapshot in sorted(wanted, key=lambda s: s.name):
            name = bare_name(snapshot.name) if snapshot.is_model else snapshot.name
            try:
                self.context.snapshot_evaluator.audit(
                    snapshot=snapshot,
                    snapshots=by_name,
                    start=self.settings.transform.start.isoformat(),
                    end=datetime.now(UTC),
                    execution_time=datetime.now(UTC),
                )
            except Exception as e:
                failures.append(classify(e, "an audit cannot be run", name))
        failures += [
            audit_failure(a.model, a.name, a.failing_rows)
            for a in self.listener.audits
            if a.status == "failed" and a.blocking
        ]
        return Outcome((), tuple(self.listener.audits), tuple(failures))


def audit_failure(model: str, audit: str, rows: int) -> DataQualityError:
    """The error of a blocking audit."""
    return DataQualityError(
        f"audit {audit} failed on {model}: {rows} row{'s' if rows != 1 else ''}",
        subject=model,
        hint="see run.json → audits: the query that shows the rows, and a sample",
    )



def describe_plan(project: Project, select: Collection[str] | None) -> list[str]:
    """What a transformation would do, a line for each change and each model with new intervals."""
    plan = project.plan(select=select)
    lines = [f"transform: {change}" for change in list_changes(plan)]
    for missing in plan.missing_intervals:
        n = len(missing.intervals)
        lines.append(
            f"transform: evaluate {bare_name(missing.snapshot_id.name)} "
            f"({n} interval{'s' if n != 1 else ''})"
        )
    return lines
