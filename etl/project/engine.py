"""SQLMesh's configuration and Context, built from our settings."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from duckdb import DuckDBPyConnection
from sqlmesh import Context
from sqlmesh.core import analytics
from sqlmesh.core.config import (
    AutoCategorizationMode,
    CategorizerConfig,
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    ModelDefaultsConfig,
    PlanConfig,
)
from sqlmesh.core.console import set_console
from sqlmesh.core.model import Model
from sqlmesh.core.snapshot.evaluator import SnapshotEvaluator
from sqlmesh.utils.errors import ConfigError as SQLMeshConfigError
from sqlmesh.utils.errors import SQLMeshError

from etl.configuration import load_settings
from etl.errors import ANY_FAILURE, ConfigError, EtlError, TransformError
from etl.libraries import prepare_libraries
from etl.project.evaluator import Evaluator
from etl.project.failures import classify, closed_state
from etl.project.listener import Listener, bare_name
from etl.project.loader import ContentLoader, RunLoader
from etl.settings import Settings

_LOADER = {"loader": RunLoader}


class _Config(Config):
    """SQLMesh's configuration, whose fingerprint says what decides how models are parsed.

    By it SQLMesh finds what it has parsed. Where warehouse and state stand decides nothing: a plan
    on a copy of the state uses what a run has parsed, and the other way round.
    """

    @property
    def fingerprint(self) -> str:
        """The same for all places of the data."""
        plain = self.model_dump(mode="json", exclude={"gateways", "cache_dir", "loader"})
        return str(zlib.crc32(json.dumps(plain, sort_keys=True, default=str).encode()))


def build_config(settings: Settings) -> Config:
    """SQLMesh's configuration: the warehouse, its state, and how models are categorised."""
    settings.data.mkdir(parents=True, exist_ok=True)
    gateway = GatewayConfig(
        # By a cast a model means the same instant and the same day wherever the process runs.
        connection=DuckDBConnectionConfig(
            database=str(settings.warehouse), connector_config={"TimeZone": "UTC"}
        ),
        state_connection=DuckDBConnectionConfig(database=str(settings.state)),
    )
    return _configure(settings, gateway, _cache(settings))


def _cache(settings: Settings) -> Path:
    return settings.data / "cache" / "sqlmesh"


def _configure(settings: Settings, gateway: GatewayConfig, cache: Path) -> Config:
    return _Config(
        gateways={"warehouse": gateway},
        default_gateway="warehouse",
        model_defaults=ModelDefaultsConfig(
            dialect=settings.transform.dialect,
            start=settings.transform.start.isoformat(),
            cron="@daily",
            # SQLMesh's own default is to wait for the end of the day: what came today would be in
            # raw and in no mart.
            allow_partials=True,
        ),
        variables=settings.transform.variables,
        plan=PlanConfig(
            # Whatever it cannot prove harmless counts as breaking, so that every plan can be made
            # without a question.
            auto_categorize_changes=CategorizerConfig(
                external=AutoCategorizationMode.FULL,
                python=AutoCategorizationMode.FULL,
                sql=AutoCategorizationMode.FULL,
                seed=AutoCategorizationMode.FULL,
            ),
            # Of a plan that failed half-way nothing counts: see Project.plan.
            use_finalized_state=True,
        ),
        cache_dir=str(cache),
        disable_anonymized_analytics=True,
        # It would read the metadata of every installed package in every plan, to note versions in
        # the environment that nothing here asks for: the lock files say them.
        infer_python_dependencies=False,
    )


def project_config(sqlmesh_dir: Path) -> Config:
    """What `sqlmesh/config.py` hands to the plain `sqlmesh` commands, from the same files.

    The profile comes from ETL_PROFILE, as for `etl`.

    Raises:
        ConfigError: with every problem in its text, for SQLMesh shows nothing else.
    """
    prepare_libraries()
    profile = os.environ.get("ETL_PROFILE", "default")
    try:
        settings = load_settings(sqlmesh_dir.resolve().parent, profile)
    except ConfigError as e:
        problems = "; ".join(map(str, e.problems))
        raise ConfigError(f"{e}: {problems}" if problems else str(e)) from e
    # Read otherwise, models of the run would look changed.
    return build_config(settings).copy(update={"loader": ContentLoader})


class ProjectContext(Context):
    """SQLMesh's Context with our listener in place."""

    # It would make a plain configuration of ours.
    CONFIG_TYPE = _Config
    # Around these stands SQLMesh's telemetry, and even when it is off it imports IPython and reads
    # the source of every frame on the stack.
    run = inspect.unwrap(Context.run)
    plan_builder = inspect.unwrap(Context.plan_builder)

    listener: Listener
    broken: tuple[EtlError, ...] = ()

    @property
    def _loader(self) -> ContentLoader:
        (loader,) = self._loaders  # one for each folder
        return cast("ContentLoader", loader)

    @property
    def kept(self) -> set[str]:
        """Models that are in no file that loads: they stay as they are in the environment."""
        return {bare_name(fqn) for fqn in self._loader.kept}

    def load_contained(self, settings: Settings, models: set[str], environment: str) -> None:
        """Load the project without the files of models that cannot be: `broken` says why.

        Raises:
            SQLMeshError: something cannot be loaded that many models are made of.
        """
        self._loader.environment = environment
        while True:
            try:
                self.load(model_fqns=models, use_project_index=True)
            except SQLMeshConfigError as e:
                error = classify(e, settings, "a file of models does not load")
                files = self._loader.leave_out(e) if isinstance(error, TransformError) else []
                if not files:
                    raise
                error.subject = " ".join(str(f.relative_to(settings.sqlmesh_dir)) for f in files)
                self.broken += (error,)
                models = set()
                _open_state(self)
            else:
                return

    @property
    def open_cursors(self) -> list[DuckDBPyConnection]:
        """The warehouse's that there are; SQLMesh itself would open one for who asks."""
        pools = [adapter._connection_pool for adapter in self.engine_adapters.values()]
        return [cursor for pool in pools if (cursor := getattr(pool, "_cursor", None))]

    def leave_out_tables(self, kept: frozenset[str]) -> None:
        """Load no external model that no model reads, but these."""
        read = {parent for model in self._models.values() for parent in model.depends_on}
        for name, model in list(self._models.items()):
            if model.kind.is_external and name not in read | kept:
                del self._models[name]

    def leave_out_standalone_audits(self) -> None:
        """Load none of them."""
        self._standalone_audits.clear()

    @property
    def snapshot_evaluator(self) -> SnapshotEvaluator:
        """The evaluator that reports its audits."""
        if self._snapshot_evaluator is None:
            plain = super().snapshot_evaluator
            self._snapshot_evaluator = Evaluator(
                plain.adapters,
                plain.ddl_concurrent_tasks,
                plain.selected_gateway,
                listener=self.listener,
            )
        return self._snapshot_evaluator


def open_context(
    settings: Settings,
    on_model: Callable[[str], None] = lambda name: None,
    models: frozenset[str] = frozenset(),
    environment: str = "prod",
) -> ProjectContext:
    """The project, parsed.

    Args:
        models: fully qualified names; only these and what they read. None: every model.
        environment: where models stay as they are whose file does not load.

    Raises:
        TransformError: a model, audit or macro does not parse, or the state is of another version.
        ConfigError: SQLMesh is configured by a file that the job does not read.
        UnreachableError, ResourcesError: warehouse or state cannot be opened.
    """
    _refuse_other_config(settings)
    listener = Listener(on_model, settings.transform.pii)
    set_console(listener)
    try:
        config = build_config(settings).copy(update=_LOADER)
        # SQLMesh finds snapshots there by name and fingerprint. In a state that was restored or
        # made anew, the same model may stand in another table.
        shutil.rmtree(_cache(settings) / "snapshot", ignore_errors=True)
        context = ProjectContext(paths=[str(settings.sqlmesh_dir)], config=config, load=False)
        context.listener = listener
        _leave_home_alone(_cache(settings))
        context.load_contained(settings, set(models), environment)
        _open_state(context)
    except ANY_FAILURE as e:
        raise closed_state(settings) or classify(e, settings, "the project does not load") from e
    return context


def _refuse_other_config(settings: Settings) -> None:
    """Refuse what SQLMesh would read: models would go on with defaults for what stands there."""
    for name in ("config.yaml", "config.yml", "config.py"):
        file = settings.sqlmesh_dir / name
        if file.is_file() and "project_config" not in file.read_text("utf-8", "replace"):
            raise ConfigError(
                f"{file} is not read: the job's settings say how SQLMesh works",
                hint="bring its variables to `transform.variables`, its model_defaults to "
                "`transform`, and remove it: docs/adopt.md has the rest",
            )


def _leave_home_alone(folder: Path) -> None:
    """Let SQLMesh note the user's id for its telemetry here, which it does also when that is off.

    Not every user has a home directory, or may write to it.
    """
    analytics.collector._sqlmesh_path = folder


def _open_state(context: ProjectContext) -> None:
    """Open it now; SQLMesh would when it must. The only error of its own there is the version's."""
    try:
        _ = context.state_reader
    except SQLMeshError as e:
        raise TransformError(
            f"SQLMesh's state is of another version: {e}",
            hint="an older one: copy the data directory, then `sqlmesh -p sqlmesh migrate`; a "
            "newer one: start the version that wrote it, or put back the copy of before the "
            "upgrade (docs/deploy.md, Upgrade and rollback)",
        ) from e


@contextmanager
def read_models(settings: Settings) -> Iterator[list[Model]]:
    """The project's models, without its warehouse and state: a run may be at work on them.

    Nothing is written but SQLMesh's cache, and that only where a run has made one.

    Raises:
        TransformError: a model, audit or macro does not parse.
    """
    # Named like the warehouse's file, so that models have the names that they have in a run.
    memory = DuckDBConnectionConfig(catalogs={settings.warehouse.stem: ":memory:"})
    gateway = GatewayConfig(connection=memory, state_connection=DuckDBConnectionConfig())
    set_console(Listener())
    with TemporaryDirectory(prefix="etl-") as elsewhere:
        cache = _cache(settings)
        usable = cache.is_dir() and os.access(cache, os.W_OK)
        try:
            folder = cache if usable else Path(elsewhere)
            config = _configure(settings, gateway, folder).copy(update=_LOADER)
            context = ProjectContext(paths=[str(settings.sqlmesh_dir)], config=config, load=False)
            _leave_home_alone(folder)
            context.load()
        except ANY_FAILURE as e:
            raise classify(e, settings, "the project does not load") from e
        try:
            yield list(context.models.values())
        finally:
            context.close()
