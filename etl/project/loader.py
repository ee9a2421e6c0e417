"""SQLMesh's loader of models, which knows what it has parsed by the contents of the files."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from io import StringIO
from math import isnan
from pathlib import Path
from typing import Any

from sqlglot import exp
from sqlmesh.core.loader import CacheBase, SqlMeshLoader
from sqlmesh.core.model import Model, SCDType2ByColumnKind, SCDType2ByTimeKind, SeedModel
from sqlmesh.core.model.seed import CsvSettings
from sqlmesh.utils.errors import ConfigError

from etl.project.files import FileLoader

# What SQLMesh takes for true, and what else is not an accident.
_FLAGS = {"true", "1", "t", "y", "yes", "on", "false", "0", "f", "n", "no", "off", "1.0", "0.0"}


class ContentLoader(FileLoader):
    """SQLMesh's loader without the tests of models: a run executes none of them.

    Nor does it go by the times of files, of which SQLMesh takes the latest: a model that was
    brought with an older time than an audit's, or the time that an image gives all files, would
    stay as it was.
    """

    def load_model_tests(self) -> list[Any]:
        """None."""
        return []

    def _load_models(self, *given: Any, **named: Any) -> Any:
        models, chosen = super()._load_models(*given, **named)
        for model in models.values():
            _spell_out_audits(model)
            if isinstance(model, SeedModel) and model.is_hydrated:
                _refuse_misread(model)
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


def _spell_out_audits(model: Model) -> None:
    """Write the defaults of audits where the model names them: SQLMesh notes no change of them.

    It would go on with those that it has in its state.
    """
    for name, arguments in model.audits:
        if (audit := model.audit_definitions.get(name)) is not None:
            arguments |= {k: v for k, v in audit.defaults.items() if k not in arguments}


def _refuse_misread(model: SeedModel) -> None:
    """Refuse a CSV of whose values pandas makes others: 1234 of 01234, nothing of NA.

    Raises:
        ConfigError: with the columns.
    """
    import pandas as pd

    settings = model.kind.csv_settings or CsvSettings()
    given = {k: v for k, v in settings.dict().items() if v is not None}
    plain: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "dtype": str}
    written = pd.read_csv(StringIO(model.seed.content), index_col=False, **plain | given)
    read = pd.concat([*model.seed.reader(model.dialect, settings).read()] or [written])
    kinds = model.columns_to_types_ or {}
    pairs = zip(read.columns, written.columns, strict=True)
    lost = {c: _count_lost(written[w], read[c], kinds.get(c)) for c, w in pairs}
    if told := ", ".join(f"{c} ({n})" for c, n in lost.items() if n):
        raise ConfigError(
            f"{model.seed_path}: values would be read as others: {told}; declare their types in "
            "`columns`, say which words are none (`csv_settings (keep_default_na = FALSE, "
            "na_values = [''])`), or let a model of kind FULL read the file (READ_CSV)",
            model._path,
        )


def _count_lost(written: Any, read: Any, kind: exp.DataType | None) -> int:
    """How many texts of a column are not the values that pandas, and then DuckDB, takes them for.

    Args:
        kind: as declared; None: pandas finds it.
    """
    is_text = kind.is_type(*exp.DataType.TEXT_TYPES) if kind else read.dtype == object
    is_whole = kind is not None and kind.is_type(*exp.DataType.INTEGER_TYPES)
    is_exact = is_whole or (kind is not None and kind.is_type(exp.DataType.Type.DECIMAL))

    def is_lost(text: Any, value: Any) -> bool:
        if not isinstance(text, str) or text == "":
            return False
        if isinstance(value, float) and isnan(value):
            return is_text
        if kind is not None and kind.is_type("boolean"):
            return str(value).lower() not in _FLAGS
        if is_text:
            return str(value) != text
        if not isinstance(value, float) or not (is_exact or text.strip("+-").isdigit()):
            return False
        return Decimal(text) != Decimal(repr(value)) or (is_whole and not value.is_integer())

    return sum(map(is_lost, written, read))


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

    def get(self, path: Path) -> list[Model]:
        """What the file has; it is asked for each of them."""
        found = super().get(path)
        self._place(found, path)
        return found

    def _model_cache_entry_id(self, model_path: Path) -> str:
        digest = self._shared.copy()
        digest.update(model_path.read_bytes())
        return digest.hexdigest()
