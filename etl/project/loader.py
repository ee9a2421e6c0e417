"""SQLMesh's loader of models, which knows what it has parsed by the contents of the files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sqlglot import exp
from sqlmesh.core.loader import CacheBase, SqlMeshLoader
from sqlmesh.core.model import Model, SCDType2ByColumnKind, SCDType2ByTimeKind

from etl.project.files import FileLoader


class ContentLoader(FileLoader):
    """SQLMesh's loader, which does not go by the times of files, of which SQLMesh takes the latest.

    A model that was brought with an older time than an audit's, or the time that an image gives all
    files, would stay as it was.
    """

    def _load_models(self, *given: Any, **named: Any) -> Any:
        models, chosen = super()._load_models(*given, **named)
        for model in models.values():
            _spell_out_audits(model)
            if isinstance(model.kind, SCDType2ByColumnKind | SCDType2ByTimeKind):
                # SQLMesh reads it as of no dialect, and back from its state as of the model's:
                # each change of a history would be one of the types of its columns.
                kind = model.kind.time_data_type
                read = exp.DataType.build(kind.sql(model.dialect), dialect=model.dialect)
                kind.set("this", read.this)
        return models, chosen

    def _load_sql_models(
        self, macros: Any, jinja_macros: Any, audits: Any, signals: Any, cache: CacheBase,
        *more: Any, **named: Any,
    ) -> Any:  # fmt: skip
        # Macros, audits, signals and settings have been read by now, models have not.
        self._parsed = _Parsed(self, list(self._path_mtimes))
        return super()._load_sql_models(
            macros, jinja_macros, audits, signals, self._parsed, *more, **named
        )

    def _load_external_models(self, audits: Any, cache: CacheBase, *more: Any) -> Any:
        return super()._load_external_models(audits, self._parsed, *more)


class RunLoader(ContentLoader):
    """The loader without the tests of models: a run executes none of them."""

    def load_model_tests(self) -> list[Any]:
        """None."""
        return []


def _spell_out_audits(model: Model) -> None:
    """Write the defaults of audits where the model names them: SQLMesh notes no change of them.

    It would go on with those that it has in its state.
    """
    for name, arguments in model.audits:
        if (audit := model.audit_definitions.get(name)) is not None:
            arguments |= {k: v for k, v in audit.defaults.items() if k not in arguments}


class _Parsed(SqlMeshLoader._Cache):
    def __init__(self, loader: ContentLoader, shared: list[Path]) -> None:
        super().__init__(loader, loader.config_path)
        digest = hashlib.sha256()
        for path in sorted(shared):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        context, config = loader.context, loader.config
        gateway = context.gateway or config.default_gateway_name
        digest.update(repr((config.fingerprint, context.default_catalog, gateway)).encode())
        self._place, self._shared = loader.place, digest

    def get_or_load_models(self, target_path: Path, loader: Any) -> list[Model]:
        """The external models of a file."""
        found = super().get_or_load_models(target_path, loader)
        self._place(found, target_path)
        return found

    def get(self, path: Path) -> list[Model]:
        """What the file has; it is asked for each of them."""
        found = super().get(path)
        self._place(found, path)
        return found

    def _model_cache_entry_id(self, model_path: Path) -> str:
        digest = self._shared.copy()
        digest.update(model_path.read_bytes())
        return digest.hexdigest()
