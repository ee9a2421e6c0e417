"""The SQLMesh project of a job beside one environment: what stands there, the plan in between."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlmesh.core.audit import Audit, ModelAudit
from sqlmesh.core.environment import Environment
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot, SnapshotChangeCategory
from sqlmesh.utils.errors import SQLMeshError

from etl.errors import ConfigError, EtlError
from etl.fingerprint import digest_files, fingerprint_project
from etl.names import nearest
from etl.project.changes import find_misjudged
from etl.project.engine import open_context
from etl.project.failures import classify
from etl.project.graph import Graph
from etl.project.listener import Listener, bare_name
from etl.project.partial import Part, note_built, open_part
from etl.settings import Settings
from etl.warehouse import connect, end_query, exists


class Project:
    """The SQLMesh project of one job, for one environment.

    `graph` are the models that this run works on: the project's, or, when the policy holds the
    project's changes back, those of the environment as it stands. `also` are models beside the
    selected ones that this run evaluates, because a change of those builds them anew. `fingerprint`
    is of the files before they were read: what is edited meanwhile is new to the next run.
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
        self._digests = digest_files(settings)
        self.fingerprint = fingerprint_project(settings, self._digests)
        narrowed = open_part(settings, environment, part) if part is not None else None
        self.context = narrowed or open_context(settings, on_model, environment=environment)
        self.graph = Graph(self.context.models.values())
        self.local_names = self.graph.names
        self.also: frozenset[str] = frozenset()

    @property
    def listener(self) -> Listener:
        """What SQLMesh has told so far."""
        return self.context.listener

    @property
    def broken(self) -> tuple[EtlError, ...]:
        """Files of models that do not load, an error for each."""
        return self.context.broken

    @property
    def kept(self) -> set[str]:
        """Models that stay as they stand, because no file that loads has them."""
        return self.context.kept & self.graph.names

    @property
    def orphans(self) -> dict[str, list[str]]:
        """Models that read what is nowhere, each with that: a file that does not load may have it.

        None when all files load.
        """
        if not self.broken:
            return {}
        with connect(self.settings.warehouse) as connection:
            lacking = {
                name: [
                    t
                    for t in sorted(self.graph.unmade(name))
                    if not exists(connection, *t.split(".", 1))
                ]
                for name in self.graph.names
            }
        return {name: tables for name, tables in lacking.items() if tables}

    def interrupt(self) -> None:
        """End the query that is under way, if there is one.

        Said before the exception of a signal: DuckDB would go on with the query, and SQLMesh's
        ROLLBACK would wait for its end.
        """
        for cursor in self.context.open_cursors:
            cursor.interrupt()

    def close(self) -> None:
        """Free the warehouse and the state."""
        for cursor in self.context.open_cursors:
            end_query(cursor)
        self.context.close()

    def select(self, selectors: Collection[str]) -> set[str]:
        """Names of the models that SQLMesh's selector language picks.

        Raises:
            ConfigError: a selector picks nothing.
            TransformError: it may mean a model of a file that does not load.
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
                for error in self.broken:
                    raise error
                raise ConfigError(
                    f"--select {text}: picks no model",
                    hint=nearest(text.strip("+*"), self.local_names) or "the project has none",
                )
            picked |= found & self.graph.names
        return picked

    def _environment(self) -> Environment | None:
        return self.context.state_reader.get_environment(self.environment)

    def built(self) -> dict[str, Snapshot] | None:
        """The environment's snapshots by name; None when it was never built."""
        environment = self._environment()
        if environment is None:
            return None
        found = self.context.state_reader.get_snapshots(environment.snapshots)
        return {s.name: s for s in found.values()}

    def deployable(self, snapshots: Collection[Snapshot]) -> DeployabilityIndex:
        """Which of the snapshots have a table that prod may show: all that prod has."""
        if self.environment == "prod":
            return DeployabilityIndex.all_deployable()
        return DeployabilityIndex.create(snapshots)

    def built_names(self) -> set[str]:
        """Models that the environment was built from."""
        return {bare_name(name) for name, s in (self.built() or {}).items() if s.is_model}

    def promoted_names(self) -> set[str]:
        """Models that have a view in the environment."""
        environment = self._environment()
        return {bare_name(s.name) for s in environment.promoted_snapshots} if environment else set()

    def gone_names(self) -> set[str]:
        """Models of the environment that the project has no more."""
        environment = self._environment()
        standing = environment.snapshots if environment else []
        names = {bare_name(s.name) for s in standing if s.is_model and not s.is_external}
        return names - self.local_names

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

    def standing_names(self) -> set[str]:
        """Models that the project has as the environment has them: a plan shows none of them anew.

        It shows all of them anew where the last one did not end.
        """
        environment = self._environment()
        here = self.context.snapshots
        return {
            bare_name(s.name)
            for s in (environment.snapshots if environment and environment.finalized_ts else [])
            if s.name in here and s.fingerprint == here[s.name].fingerprint
        }

    def foreign(self, datasets: set[str]) -> set[str]:
        """What models and audits read that is no model and no raw table of ours."""
        alone = self.context.standalone_audits.values()
        names = {bare_name(d) for a in alone for d in a.depends_on}
        for audit in self._audits_of_models():
            # Without a schema it is a CTE, or a file.
            read = [t for t in audit.query.find_all(exp.Table) if t.db or "." in t.name]
            names |= {f"{t.db}.{t.name}" for t in read}
        outside = {n for n in names - self.graph.names if n.partition(".")[0] not in datasets}
        return outside | self.graph.foreign(datasets)

    def reads_elsewhere(self, functions: re.Pattern[str]) -> bool:
        """True when an audit has what the pattern names, or a model reads elsewhere."""
        alone = self.context.standalone_audits.values()
        audits: list[Audit] = [*alone, *self._audits_of_models()]
        return self.graph.reads_elsewhere(functions) or any(
            functions.search(a.query.sql("duckdb")) for a in audits
        )

    def _audits_of_models(self) -> Iterator[ModelAudit]:
        for model in self.context.models.values():
            yield from model.audit_definitions.values()

    def note_built(self) -> None:
        """Note that the environment was built from the files that were read."""
        if self.graph.has_seeds_outside(self.settings.sqlmesh_dir):
            return  # nobody compares them
        models = self.context.models.values()
        places = {m.fqn: m._path for m in models if m._path and not m.kind.is_external}
        note_built(self.settings, self.environment, self.plan_id(), self._digests, places)

    def due_at(self, since: datetime) -> datetime:
        """When the cron of some model asks for an evaluation although no data came."""
        return min((m.cron_next(since) for m in self.graph.models.values()), default=since)

    def fall_back(self) -> bool:
        """Work on the environment's models in place of the project's; False when it has none."""
        built = self.built()
        if built is None:
            return False
        self.graph = Graph(s.model for s in built.values() if s.is_model)
        return True

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
            TransformError: the project cannot be planned; `subject` is the model whose change is
                refused, if there is one.
        """
        self.listener.refused = ""
        try:
            self._forget_unfinished()
            builder = self.context.plan_builder(
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
            )
            for snapshot in find_misjudged(builder.build()):
                builder.set_choice(snapshot, SnapshotChangeCategory.BREAKING)
            plan: Plan = builder.build()
            return plan
        except Exception as e:
            refused = self.listener.refused
            error = classify(e, self.settings, "the plan cannot be made", refused)
            if refused:
                error.hint = (
                    "`on_destructive_change ALLOW` or `on_additive_change ALLOW` in its kind lets "
                    "it; left out of one run, the model is made anew by the next, without its rows"
                )
            raise error from e

    def tidy(self) -> None:
        """Drop expired environments and versions of models, and join what is noted of intervals.

        A version expires a week after the last environment left it, unless its model sets another
        `ttl`. Each evaluation of a model is noted as a row, and every run would read all of them.
        Killed in between, the next call goes on.

        Raises:
            EtlError: something could not be dropped; it is tried again the next time.
        """
        try:
            self.context.run_janitor(ignore_ttl=False)
        except Exception as e:
            what = "expired versions of models cannot be dropped"
            raise classify(e, self.settings, what) from e

    def _forget_unfinished(self) -> None:
        """Begin anew with an environment that no plan has ever finished; later ones fall back.

        SQLMesh notes models with `forward_only`, as histories have, as the environment's before it
        evaluates them. When that fails, it would take them for models that stand.
        """
        environment = self._environment()
        if environment is None or environment.finalized_ts:
            return
        if not environment.previous_finalized_snapshots:
            self.context.state_sync.invalidate_environment(self.environment, protect_prod=False)
            self.context.state_sync.delete_expired_environments(name=self.environment)
