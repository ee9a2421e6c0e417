"""Plan and run: brings an environment up to date and says what happened to each model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlmesh.core.environment import Environment
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot
from sqlmesh.utils.errors import PlanError, SQLMeshError

from etl.errors import ApprovalError, ConfigError, EtlError
from etl.project.audits import audit_failure
from etl.project.changes import Change, find_refused, list_changes
from etl.project.engine import ProjectContext, classify, open_context
from etl.project.graph import Graph
from etl.project.listener import Listener, bare_name, failed_audits
from etl.project.partial import Part, note_built, open_part
from etl.project.selection import PlannedPart, plan_part
from etl.records import AuditRun, ModelRun
from etl.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What a transformation did: models evaluated, audits run, failures by model."""

    models: tuple[ModelRun, ...]
    audits: tuple[AuditRun, ...]
    failures: tuple[EtlError, ...]
    failed: frozenset[str]


@dataclass(frozen=True)
class Proposal:
    """A plan that is needed, its changes, and the refusal of a policy that holds it back."""

    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    refusal: ApprovalError | None = None


class Project:
    """The SQLMesh project of one job, for one environment.

    `graph` are the models that this run works on: the project's, or, when the policy holds the
    project's changes back, those of the environment as it stands. `also` are models beside the
    selected ones that this run evaluates, because a change of those builds them anew. `waiting`
    are (changed model, what it would build anew and is held back) pairs: the model keeps its
    earlier version.
    """

    def __init__(
        self,
        settings: Settings,
        environment: str = "prod",
        on_model: Callable[[str], None] = lambda name: None,
        part: Part | None = None,
    ) -> None:
        self.settings = settings
        self.environment = environment
        self.context: ProjectContext
        if part is None or (context := open_part(settings, environment, part)) is None:
            context = open_context(settings, on_model)
        self.context = context
        self.graph = Graph(self.context.models.values())
        self.local_names = self.graph.names
        self.also: frozenset[str] = frozenset()
        self.waiting: set[tuple[str, str]] = set()

    @property
    def listener(self) -> Listener:
        """What SQLMesh has told so far."""
        return self.context.listener

    def close(self) -> None:
        """Free the warehouse and the state."""
        self.context.close()

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
            # SQLMesh passes on what git says of `git:BRANCH` as a RuntimeError.
            except (SqlglotError, SQLMeshError, RuntimeError) as e:
                raise ConfigError(
                    f"--select {text}: is no selector: {e}",
                    hint="a model's name, with + before or after it, tag:NAME or git:BRANCH",
                ) from e
            if not found & self.local_names:
                raise ConfigError(
                    f"--select {text}: picks no model",
                    hint=f"models: {', '.join(sorted(self.local_names))}",
                )
            picked |= found & self.graph.names
        return picked

    # -- the environment as it stands ------------------------------------------------------

    def _environment(self) -> Environment | None:
        return self.context.state_reader.get_environment(self.environment)

    def built(self) -> dict[str, Snapshot] | None:
        """The environment's snapshots by name; None when it was never built."""
        environment = self._environment()
        if environment is None:
            return None
        found = self.context.state_reader.get_snapshots(environment.snapshots)
        return {s.name: s for s in found.values()}

    def built_names(self) -> set[str]:
        """Models that have a view in the environment."""
        return {bare_name(name) for name, s in (self.built() or {}).items() if s.is_model}

    def plan_id(self) -> str:
        """What identifies the last plan that was applied; empty when there was none."""
        environment = self._environment()
        return environment.plan_id if environment is not None else ""

    def differs(self) -> bool:
        """True when the project is not what the environment was built from."""
        environment = self._environment()
        if environment is None or not environment.finalized_ts or environment.expiration_ts:
            return True
        built = {s.name: s.fingerprint for s in environment.snapshots}
        here = {name: s.fingerprint for name, s in self.context.snapshots.items()}
        return built != here

    def note_built(self) -> None:
        """Note that the environment was built from the files that were read."""
        built = {n: m._path for n, m in self.context.models.items() if not m.kind.is_external}
        places = {name: path for name, path in built.items() if path is not None}
        note_built(self.settings, self.environment, self.plan_id(), places)

    def due_at(self) -> datetime:
        """When the cron of some model asks for an evaluation although no data came."""
        now = datetime.now(UTC)
        models = (self.graph.model(name) for name in self.graph.names)
        return min((m.cron_next(now) for m in models if m is not None), default=now)

    # -- plan and run ----------------------------------------------------------------------

    def propose(
        self, approve: str, select: Collection[str] | None, held_back: Collection[str] = ()
    ) -> Proposal:
        """What the project changes in the environment, and whether the policy lets it.

        When it does not, the environment's own models take the place of the project's: they go on.

        Args:
            select: only the changes of these, and what they build anew; None: all.
            held_back: models that keep their version, and with them what would change it.

        Raises:
            ApprovalError: held back, and there is no environment that could go on.
            TransformError: the project cannot be planned.
        """
        if not self.differs() or (select is not None and not select):
            return Proposal()
        part = PlannedPart(self.plan()) if select is None else self.plan_part(select, held_back)
        plan = part.plan
        if plan is None:
            return Proposal()
        changes = tuple(list_changes(plan))
        refusal = find_refused(changes, approve) if self.environment == "prod" else None
        if refusal is None:
            self.also = part.also
            return Proposal(plan, changes)
        built = self.built()
        if built is None:
            raise refusal
        self.graph = Graph(s.model for s in built.values() if s.is_model)
        return Proposal(None, changes, refusal)

    def plan_part(
        self,
        select: Collection[str],
        held_back: Collection[str] = (),
        evaluate: Collection[str] | None = None,
    ) -> PlannedPart:
        """The plan of the changes of these models, and of what they build anew.

        Args:
            held_back: models that keep their version, and with them what would change it.
            evaluate: models to bring up to now; default: the selected ones.

        Raises:
            TransformError: the models cannot be planned.
        """
        environment = self._environment()
        promoted = environment.promoted_snapshots if environment is not None else []
        part = plan_part(
            lambda changed, evaluated: self.plan(select=changed, evaluate=evaluated),
            select,
            evaluate if evaluate is not None else select,
            held=held_back,
            standing={bare_name(s.name) for s in promoted},
            here=self.local_names,
        )
        self.waiting |= part.waiting
        return part

    def plan(
        self,
        *,
        select: Collection[str] | None = None,
        evaluate: Collection[str] | None = None,
        restate: Collection[str] | None = None,
        start: str | None = None,
        end: str | None = None,
    ) -> Plan:
        """The plan that brings the environment up to the project and to now.

        Args:
            select: only the changes of these; None: all.
            evaluate: bring only these, and what they read, up to now; default: the selected ones.
            restate: no changes; build these anew, from `start` to `end`.

        Raises:
            TransformError: the project cannot be planned.
        """
        try:
            plan: Plan = self.context.plan_builder(
                self.environment,
                select_models=sorted(select) if select is not None and restate is None else None,
                backfill_models=sorted(evaluate) if evaluate is not None else None,
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
            return plan
        except Exception as e:
            raise classify(e, "the plan cannot be made") from e

    def transform(
        self,
        plan: Plan | None,
        wanted: Collection[str],
        *,
        held_back: Collection[str] = (),
        restate: Collection[str] = (),
        start: str | None = None,
        end: str | None = None,
    ) -> Outcome:
        """Apply the plan, if there is one, then evaluate every interval that is missing up to now.

        `held_back`: keep their version, and with them what would change it.
        `restate`: build these anew first, all of them or from `start` to `end`, and what is below.

        Raises:
            TransformError: the plan cannot be applied to any model.
        """
        wanted = set(wanted)
        if wanted and plan is not None:
            self._apply_contained(plan, wanted, set(held_back))
            wanted |= self.also
        if restate:
            self._restate(set(restate), start, end)
            # What is below was built anew with them: it has to keep step with the run as well.
            wanted |= self.graph.below(restate) - set(held_back)
        if wanted and (plan is None or restate):
            partly = wanted != self.graph.names or self._failed()
            self._run(wanted - self._failed() if partly else None)
        return self._outcome(held_back)

    def _failed(self) -> set[str]:
        return (set(self.listener.errors) | self.listener.skipped) & self.graph.names

    def _apply_contained(self, plan: Plan, changes: set[str], held_back: set[str]) -> None:
        """Apply a plan; when models fail, apply it again without them and what is below them.

        SQLMesh promotes all of a plan or nothing: one broken model would hold back every other.
        What failed keeps its earlier version in the environment, and so does what broke it.
        """
        evaluated = changes | self.also
        while not self._apply(plan):
            broken = self._failed()
            broken |= self.graph.below(broken)
            self.listener.skipped |= broken - set(self.listener.errors)
            rest = evaluated - broken
            if not rest or rest == evaluated:
                return
            evaluated = rest
            self.listener.next_pass()
            part = self.plan_part(changes - broken, broken | held_back, evaluated)
            if part.plan is None:
                self._run(evaluated)
                return
            plan = part.plan

    def _apply(self, plan: Plan) -> bool:
        """False when models failed; each failure is in the listener."""
        before = set(self.listener.errors)
        try:
            self.context.apply(plan)
        except PlanError as e:
            if set(self.listener.errors) <= before:
                raise classify(e, "the plan cannot be applied") from e
            return False
        except Exception as e:
            raise classify(e, "the plan cannot be applied") from e
        return True

    def _restate(self, models: set[str], start: str | None, end: str | None) -> None:
        again = (models & self.built_names()) - self._failed()
        if again:
            self.listener.next_pass()
            self._apply(self.plan(restate=again, start=start, end=end))
            self.listener.next_pass()

    def _run(self, select: Collection[str] | None) -> None:
        if select is not None and not select:
            return
        try:
            self.context.run(
                self.environment,
                ignore_cron=True,
                skip_janitor=True,
                select_models=sorted(select) if select is not None else None,
                no_auto_upstream=select is not None,
            )
        except Exception as e:
            raise classify(e, "the run cannot be made") from e

    # -- what happened ---------------------------------------------------------------------

    def _outcome(self, held_back: Collection[str]) -> Outcome:
        heard, graph = self.listener, self.graph
        failures, failed = self._failures()
        rows = self._count(heard.evaluated.keys() - failed)
        models = [
            ModelRun(
                name=m.name,
                kind=m.kind,
                intervals=m.intervals,
                rows=rows.get(m.name),
                seconds=round(m.seconds, 3),
                started_at=m.started_at,
                finished_at=m.finished_at,
                status="failed" if m.name in failed else "ok",
            )
            for m in heard.evaluated.values()
        ]
        reported = {m.name for m in models}
        stopped = heard.skipped | set(held_back) - failed
        models += [
            ModelRun(
                name=name,
                kind=graph.kind(name),
                intervals=0,
                rows=None,
                seconds=0,
                status="failed" if name in failed else "held_back",
            )
            for name in sorted((failed | stopped) & graph.names - reported)
        ]
        return Outcome(tuple(models), tuple(heard.audits), tuple(failures), frozenset(failed))

    def _count(self, names: Collection[str]) -> dict[str, int]:
        """Rows of models as they stand; views are not read. SQLMesh does not count on DuckDB."""
        built = self.built() or {}
        index = (
            DeployabilityIndex.all_deployable()
            if self.environment == "prod"
            else DeployabilityIndex.create(built.values())
        )
        rows: dict[str, int] = {}
        for snapshot in built.values():
            name = bare_name(snapshot.name)
            if not snapshot.is_model or name not in names or not snapshot.is_materialized:
                continue
            table = exp.to_table(snapshot.table_name(is_deployable=index.is_deployable(snapshot)))
            row = self.context.engine_adapter.fetchone(
                exp.select("COUNT(*)").from_(table), quote_identifiers=True
            )
            if row:
                rows[name] = int(row[0])
        return rows

    def _failures(self) -> tuple[list[EtlError], set[str]]:
        failures: list[EtlError] = []
        for name, error in sorted(self.listener.errors.items()):
            audits = failed_audits(error)
            if audits:
                failures += [audit_failure(name, a.audit_name, int(a.count)) for a in audits]
            else:
                found = classify(error, "failed", name)
                found.subject = found.subject or name
                found.__cause__ = error
                failures.append(found)
        return failures, set(self.listener.errors)
