"""Finds words in a seed's CSV that are read as NULL, such as Namibia's code, NA."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pandas
from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlmesh.core.model import Model, SeedModel


def find_nulled(model: Model) -> dict[str, Counter[str]]:
    """By column of texts the words that become NULL, and in how many cells; empty cells are none.

    Nothing is found where `csv_settings` say what is NULL.
    """
    if not isinstance(model, SeedModel) or not model.is_hydrated:
        return {}
    settings = model.kind.csv_settings
    given = {k: v for k, v in settings.dict().items() if v is not None} if settings else {}
    if given.keys() & {"keep_default_na", "na_values"}:
        return {}
    words, read = (
        pandas.read_csv(
            StringIO(model.seed.content),
            dtype=str,
            index_col=False,
            keep_default_na=is_read,
            **given,
        )
        for is_read in (False, True)
    )
    kinds = model.columns_to_types_or_raise
    found = {}
    for column in words.columns:
        name = normalize_identifiers(column, dialect=model.dialect).name
        nulled = Counter[str](words[column][read[column].isna() & (words[column] != "")])
        if nulled and name in kinds and kinds[name].is_type(*exp.DataType.TEXT_TYPES):
            found[name] = nulled
    return found
