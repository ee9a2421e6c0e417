"""Models by name: what they read, what reads them, what identifies their rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlglot import exp
from sqlmesh.core.model import Model, ModelKindName, SeedModel, SqlModel
from sqlmesh.utils.dag import DAG
from sqlmesh.utils.date import to_datetime

from etl.project.listener import bare_name
from etl.settings import dataset_name

# A staging model with this tag may leave rows out: it is not counted against raw.
FILTERED_TAG = "filtered"
COUNTED = {
    ModelKindName.INCREMENTAL_BY_TIME_RANGE,
    ModelKindName.INCREMENTAL_BY_UNIQUE_KEY,
    ModelKindName.FULL,
}


class Pair(NamedTuple):
    """A raw table and the staging model that holds each row that it has of committed packages."""

    dataset: str
    table: str
    model: str


class Graph:
    """The models of the project, or those that an environment was built from.

    `models` are those that SQLMesh builds, by name.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_fqn = {m.fqn: m for m in models}
        self._dag: DAG[str] = DAG()
        for fqn, model in self._by_fqn.items():
            self._dag.add(fqn, model.depends_on)
        self.models = {
            bare_name(fqn): m for fqn, m in self._by_fqn.items() if not m.kind.is_external
        }

    @property
    def names(self) -> set[str]:
        """Every model that SQLMesh builds."""
        return set(self.models)

    def kind(self, name: str) -> str:
        """The kind of a model; empty for one that is not here."""
        model = self.models.get(name)
        return model.kind.name.value if model is not None else ""

    def grain(self, name: str) -> tuple[str, ...]:
        """The columns that identify a row of the model; empty when it declares none."""
        model = self.models.get(name)
        if model is None or not model.grains:
            return ()
        first = model.grains[0]
        expressions = first.expressions if isinstance(first, exp.Tuple | exp.Array) else [first]
        return tuple(e.name or e.sql() for e in expressions)

    def readers(self, dataset: str) -> set[str]:
        """Models that read a raw table of the dataset themselves."""
        return {
            name
            for name, model in self.models.items()
            if any(bare_name(d).partition(".")[0] == dataset for d in model.depends_on)
        }

    def below(self, names: Iterable[str]) -> set[str]:
        """Models that read these, at any distance; without the names themselves."""
        return self._below(self.models[n].fqn for n in names if n in self.models)

    def below_sources(self, sources: Iterable[str]) -> set[str]:
        """Models that read, at any distance, a raw table of these sources."""
        datasets = {dataset_name(s) for s in sources}
        return self._below(n for n in self._dag.graph if bare_name(n).partition(".")[0] in datasets)

    def _below(self, fqns: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for fqn in fqns:
            found |= {bare_name(d) for d in self._dag.downstream(fqn)}
        return found & self.names

    def with_upstream(self, names: Iterable[str]) -> set[str]:
        """The models and all that they read."""
        result = set(names)
        for name in names:
            result |= {bare_name(u) for u in self._dag.upstream(self.models[name].fqn)}
        return result & self.names

    def read_by(self, fqns: Iterable[str]) -> set[str]:
        """The models among these fully qualified names."""
        return {bare_name(f) for f in fqns} & self.names

    def live(self) -> dict[str, set[str]]:
        """Each view with the tables that it shows as they are now, through other views or none."""
        found: dict[str, set[str]] = {}
        for fqn in self._dag.sorted:
            model = self._by_fqn.get(fqn)
            if model is not None and (model.kind.is_view or model.kind.is_embedded):
                found[fqn] = {t for d in model.depends_on for t in found.get(d, {d})}
        return {
            bare_name(fqn): {bare_name(t) for t in read}
            for fqn, read in found.items()
            if self._by_fqn[fqn].kind.is_view
        }

    def foreign(self, datasets: set[str]) -> set[str]:
        """What is read that is no model and no raw table of ours: its changes are not seen."""
        outside = {
            bare_name(node)
            for node in self._dag.graph
            if node not in self._by_fqn or self._by_fqn[node].kind.is_external
        }
        return {node for node in outside if node.partition(".")[0] not in datasets}

    def unmade(self, name: str) -> set[str]:
        """What the model reads of the warehouse that no model makes and no file describes."""
        model = self.models.get(name)
        if model is None:
            return set()
        warehouse = model.fqn.partition(".")[0] + "."
        read = (fqn for fqn in model.depends_on if fqn.startswith(warehouse))
        return {bare_name(fqn) for fqn in read if fqn not in self._by_fqn}

    def has_seeds_outside(self, folder: Path) -> bool:
        """True when a seed is no file of this folder."""
        return any(
            isinstance(m, SeedModel) and not m.seed_path.resolve().is_relative_to(folder.resolve())
            for m in self.models.values()
        )

    def reads_elsewhere(self, functions: re.Pattern[str]) -> bool:
        """True when a model is Python, waits for a signal, or has what the pattern names."""
        return any(
            m.is_python
            or m.signals
            or (isinstance(m, SqlModel) and functions.search(m.query.sql("duckdb")))
            for m in self.models.values()
        )

    def waiting(self, names: Iterable[str], now: datetime) -> dict[str, str]:
        """Those of these models that leave themselves as they are, each with its reason."""
        found = {}
        for name in sorted(self.names.intersection(names)):
            model = self.models[name]
            if model.end and to_datetime(model.end) < now:
                found[name] = f"its `end` {model.end} has passed"
            elif model.signals:
                found[name] = "it waits for its signals"
        return found

    def unrepeatable(self, names: Iterable[str]) -> set[str]:
        """Those of these models that SQLMesh never builds anew where they stand."""
        return {n for n in self.names.intersection(names) if self.models[n].disable_restatement}

    def pairs(self, tables: Mapping[str, Collection[str]]) -> list[Pair]:
        """Raw tables (by dataset) with their staging models: those that bear the table's name.

        `staging.stg_shop__orders` and `staging.orders` hold `shop_raw.orders` row for row, if
        they hold rows of their own, as `COUNTED` kinds do, and keep `_dlt_load_id`. The
        tag `filtered` says that one does not.
        """
        found = []
        for name, model in sorted(self.models.items()):
            if (
                model.kind.name not in COUNTED
                or "_dlt_load_id" not in (model.columns_to_types or {})
                or FILTERED_TAG in model.tags
            ):
                continue
            bare = name.rpartition(".")[2]
            read = [bare_name(d).partition(".") for d in model.depends_on]
            named = [
                (dataset, table)
                for dataset, _, table in read
                if table in tables.get(dataset, ())
                and (bare == table or bare.endswith(f"__{table}"))
            ]
            if named:
                # orders__items reads orders as well: the longest name is its own.
                dataset, table = max(named, key=lambda n: len(n[1]))
                found.append(Pair(dataset, table, name))
        return found
