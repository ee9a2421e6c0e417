"""SQLMesh's loader of files: it says which one does not load, and loads the project without it.

What a file of models that does not load has, nobody knows: every model that no other file has stays
as it stands (docs/adr/0022).
"""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from io import StringIO
from pathlib import Path
from typing import Any

import pandas
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlmesh.core.constants import MODELS
from sqlmesh.core.loader import SqlMeshLoader
from sqlmesh.core.model import Model, SeedModel
from sqlmesh.core.model import model as model_registry
from sqlmesh.core.model.seed import CsvSeedReader, CsvSettings, Seed
from sqlmesh.utils import UniqueKeyDict
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from etl.causes import causes
from etl.errors import ANY_FAILURE, TransformError
from etl.fingerprint import is_leftover
from etl.project.listener import bare_name

# Each is found by another load; with more of them, it is something that they share.
MOST_LEFT_OUT = 25


class FilesError(ConfigError):
    """Files of models of which each would load without the others: nobody knows which is right."""

    def __init__(self, message: str, *files: Path) -> None:
        places = f": {', '.join(map(str, files))}" if files else ""
        super().__init__(f"{message}{places}", next(iter(files), None))
        self.files = files


class FileLoader(SqlMeshLoader):
    """SQLMesh's loader, which can leave out files of models.

    Models that are in none of the others, and stay as `environment` has them, are `kept`.
    """

    environment = "prod"

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._left_out: set[Path] = set()
        self._at: Path | None = None
        self.kept: set[str] = set()

    def load(self, *given: Any, **named: Any) -> Any:
        """The project's files.

        Raises:
            ConfigError: with the file in its text, if one is to blame.
        """
        self._places = dict[str, Path]()
        try:
            return super().load(*given, **named)
        except ANY_FAILURE as e:
            at = e.location if isinstance(e, ConfigError) and e.location else self._at
            if at is None or (isinstance(e, ConfigError) and str(at) in str(e)):
                raise
            kind = "" if isinstance(e, SQLMeshError | SqlglotError) else f"{type(e).__name__}: "
            raise ConfigError(f"{at}: {kind}{e}", at) from e

    def leave_out(self, error: ConfigError) -> list[Path]:
        """Leave out the files that the error is about; none when it is not of files of models."""
        files: tuple[Path, ...] = (error.location,) if error.location else ()
        for cause in causes(error):
            if isinstance(cause, FilesError):
                files = cause.files
        folder = self.config_path / MODELS
        found = [f for f in files if f.is_relative_to(folder) and f not in self._left_out]
        if len(self._left_out) + len(found) > MOST_LEFT_OUT:
            return []
        self._left_out.update(found)
        self._at = None
        return found

    def _failed_to_load_model_error(self, path: Path, error: str | Exception) -> str:
        if isinstance(error, str):
            # A name that it has seen before, and it does not say in which file.
            raise FilesError(f"{path}: {error}")
        if isinstance(error, ConfigError) and str(path) in str(error):
            return str(error)
        if isinstance(error, UnicodeDecodeError):
            seed = "" if error.object == path.read_bytes() else "the CSV of its seed: "
            return f"{path}: {seed}{error}: save it as UTF-8"
        return super()._failed_to_load_model_error(path, error)

    def _glob_paths(self, path: Path, *given: Any, **named: Any) -> Generator[Path, None, None]:
        for found in super()._glob_paths(path, *given, **named):
            if found in self._left_out or found.is_dir() or is_leftover(found):
                continue
            self._at = found
            if found.suffix == ".sql" and path.name == MODELS and not found.stat().st_size:
                # SQLMesh would take its models for removed.
                raise ConfigError(f"{found} is empty", found)
            if found.suffix == ".sql" and _begins_with_mark(found):
                raise ConfigError(
                    f"{found} begins with a byte order mark, which SQLMesh takes for a word: save "
                    "it as UTF-8 without one",
                    found,
                )
            yield found
        self._at = None

    def place(self, models: Iterable[Model], path: Path | None = None) -> None:
        """Note in which file models are.

        Raises:
            ConfigError: another file has one of them, too; it is not called as SQLMesh asks; its
                seed is no CSV.
            TransformError: another file declares the same raw table.
        """
        for model in models:
            file = path or model._path
            if not model.enabled or file is None or (model.kind.is_external and model.gateway):
                continue
            other = self._places.setdefault(model.fqn, file)
            if other != file:
                raise self._twice(model.name, file, other)
            catalog = f'"{self.context.default_catalog}"."'.lower()
            named = model.fqn.lower().startswith(catalog) and model.fqn.count('"."') == 2
            if not named and not model.kind.is_external:
                raise ConfigError(
                    f"{file}: {model.name}: a model is called schema.name, and has no gateway", file
                )
            if isinstance(model, SeedModel):
                try:  # pandas reads it, and may raise anything
                    _declare_types(model)
                    _ = model.column_hashes
                except Exception as e:
                    raise ConfigError(f"{model.seed_path}: {type(e).__name__}: {e}", file) from e

    def _twice(self, name: str, *files: Path) -> ConfigError | TransformError:
        if any(f.is_relative_to(self.config_path / MODELS) for f in files):
            return FilesError(f"{name} is in two files", *files)
        return TransformError(
            f"{name} is declared in two files: {', '.join(map(str, sorted(files)))}",
            hint="take it out of one of them: `etl generate` declares every raw table, in "
            "`external_models/<source>/`",
        )

    def _refuse_circles(self, models: Mapping[str, Model]) -> None:
        try:
            TopologicalSorter({name: m.depends_on for name, m in models.items()}).prepare()
        except CycleError as e:
            circle = [bare_name(fqn) for fqn in e.args[1]]
            files = sorted({self._places[fqn] for fqn in e.args[1] if fqn in self._places})
            raise FilesError(f"models that read each other, {' → '.join(circle)}", *files) from e

    def _stand_ins(self) -> dict[str, Model]:
        """Models as the environment has them, and those that it lacks as prod has them."""
        reader, found = self.context.state_reader, dict[str, Model]()
        for name in ("prod", self.environment):
            environment = reader.get_environment(name)
            if environment is None or environment.expired:
                continue
            if environment.finalized_ts or environment.previous_finalized_snapshots:
                standing = reader.get_snapshots(environment.finalized_or_current_snapshots)
                found |= {s.name: s.model for s in standing.values() if s.is_model}
        return found

    def _load_models(self, *given: Any, **named: Any) -> Any:
        models, chosen = super()._load_models(*given, **named)
        if self._left_out:
            stand_ins = self._stand_ins()
            self.kept = stand_ins.keys() - models.keys()
            for name in self.kept:
                # What it reads may have other columns now: SQLMesh notes them again.
                models[name] = stand_ins[name].copy(update={"mapping_schema": {}})
        self._refuse_circles(models)
        return models, chosen

    def _load_sql_models(self, *given: Any, **named: Any) -> Any:
        return self._placed(super()._load_sql_models(*given, **named))

    def _load_external_models(self, *given: Any, **named: Any) -> Any:
        return self._placed(super()._load_external_models(*given, **named))

    def _load_python_models(self, *given: Any, **named: Any) -> Any:
        model_registry.set_registry(_Registry(model_registry.registry_name))
        return self._placed(super()._load_python_models(*given, **named))

    def _placed(self, models: Any) -> Any:
        self.place(models.values())
        return models


class _Registry(UniqueKeyDict[str, Any]):
    """Models in Python by name. SQLMesh takes two whose code is of one shape for the same."""

    def __setitem__(self, name: str, made: Any) -> None:
        if name in self:
            files = [Path(m.func.__code__.co_filename) for m in (made, self[name])]
            if files[0] != files[1]:  # one may import the other
                raise FilesError(f"{name} is in two files", *files)
        super().__setitem__(name, made)


class _TypedSettings(CsvSettings):
    """What pandas is told of a CSV, with types of its columns."""

    dtype: dict[str, str]


class _TypedSeed(Seed):
    """A CSV whose columns of text and of whole numbers are read as such: `kinds` by column."""

    kinds: dict[str, str]

    def reader(self, dialect: str = "", settings: CsvSettings | None = None) -> CsvSeedReader:
        """SQLMesh's reader; pandas would guess 1234 of 01234, and round ids beside an empty one."""
        given = {k: v for k, v in (settings or CsvSettings()).dict().items() if v is not None}
        header = pandas.read_csv(StringIO(self.content), nrows=0, **given).columns
        names = {c: normalize_identifiers(c, dialect=dialect).name for c in header}
        types = {c: self.kinds[n] for c, n in names.items() if n in self.kinds}
        return CsvSeedReader(self.content, dialect, _TypedSettings(**given, dtype=types))


def _declare_types(model: SeedModel) -> None:
    kinds = {
        name: "str" if kind.is_type(*exp.DataType.TEXT_TYPES) else "Int64"
        for name, kind in (model.columns_to_types_ or {}).items()
        if kind.is_type(*exp.DataType.TEXT_TYPES, "TINYINT", "SMALLINT", "INT", "BIGINT")
    }
    # The model is frozen; what it has read so far is forgotten.
    model.__dict__["seed"] = _TypedSeed(content=model.seed.content, kinds=kinds)
    model.__dict__.pop("_reader", None)


def _begins_with_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
