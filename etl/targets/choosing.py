"""The columns of a mart that are published, and its key as the mart itself spells it."""

from __future__ import annotations

import dataclasses

import duckdb

from etl.errors import ConfigError
from etl.targets.publication import Publication
from etl.targets.relation import Relation, describe
from etl.warehouse import quoted


def choose(
    cursor: duckdb.DuckDBPyConnection, mart: Relation, publication: Publication, target: str
) -> tuple[Publication, Relation]:
    """What is published of a mart; key and indexes spelt as the mart spells them.

    Raises ConfigError for a column that the mart does not have, and for a strategy without a key.
    """
    spelt = {c.name.casefold(): c.name for c in mart.columns}

    def spell(names: tuple[str, ...], among: dict[str, str], what: str) -> tuple[str, ...]:
        for name in names:
            if name.casefold() not in among:
                raise ConfigError(
                    f"{what} `{name}` is not a published column of {publication.model}",
                    subject=target,
                    hint="columns: " + ", ".join(among.values()),
                )
        return tuple(among[n.casefold()] for n in names)

    relation = mart
    if publication.columns:
        chosen = spell(publication.columns, spelt, "column")
        listed = ", ".join(map(quoted, chosen))
        relation = describe(cursor, f"(SELECT {listed} FROM {mart.sql})")  # noqa: S608
        spelt = {c.casefold(): c for c in chosen}
    key = spell(publication.key, spelt, "key")
    if publication.strategy != "replace" and not key:
        raise ConfigError(
            f"{publication.model} has no key, which strategy {publication.strategy} needs",
            subject=target,
            hint="name a `key` in the load, or a grain in the model",
        )
    indexes = tuple(spell(i, spelt, "index column") for i in publication.indexes)
    return dataclasses.replace(publication, key=key, indexes=indexes), relation
