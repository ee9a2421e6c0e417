"""Evaluates a model by SQLMesh, refuses rows that its table does not take, tells of every audit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from traceback import walk_tb
from typing import Any

import pandas
from sqlglot import exp
from sqlmesh.core.dialect import JinjaQuery
from sqlmesh.core.model import PythonModel
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.core.snapshot.evaluator import SnapshotEvaluator
from sqlmesh.utils.errors import PythonModelEvalError

from etl.causes import causes
from etl.errors import DataQualityError, TransformError
from etl.project.failures import BrokenAuditError, BrokenCodeError
from etl.project.listener import Listener, bare_name
from etl.project.misfits import (
    Misfits,
    find_fractions,
    find_misfits,
    find_stale_cast,
    find_strays,
)
from etl.project.seeds import find_nulled

_INTERVAL = re.compile(r"(@|{{\s*)(start|end)_")
_RENDERING = ("start", "end", "execution_time", "snapshots", "deployability_index")


class Evaluator(SnapshotEvaluator):
    """One for a run, with the listener of its context."""

    def __init__(self, *args: Any, listener: Listener, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listener = listener

    def set_correlation_id(self, correlation_id: Any) -> Evaluator:
        """The same evaluator with a mark in its queries."""
        return Evaluator(
            {
                gateway: adapter.with_settings(correlation_id=correlation_id)
                for gateway, adapter in self.adapters.items()
            },
            self.ddl_concurrent_tasks,
            self.selected_gateway,
            listener=self._listener,
        )

    def evaluate(self, snapshot: Snapshot, **kwargs: Any) -> str | None:
        """Evaluate a snapshot, unless its table does not take what its query returns.

        Raises:
            TransformError: columns of another type, in its table or in raw's; the interval counts
                as not evaluated.
            DataQualityError: rows without a key, or too many of one.
        """
        adapter, name = self.get_adapter(snapshot.model_gateway), bare_name(snapshot.name)
        rendering = {k: kwargs[k] for k in _RENDERING if k in kwargs}
        if stale := find_stale_cast(adapter, snapshot, kwargs.get("snapshots") or {}):
            raise TransformError(
                f"{name}: raw has other types than those it was generated for: {stale}",
                hint="`etl generate`, then `etl retry`; if that brings nothing new, "
                "`etl run --full-refresh` of the source",
            )
        _refuse_strays(name, find_strays(adapter, snapshot, **rendering))
        is_first = not snapshot.intervals
        result: str | None = super().evaluate(snapshot, **kwargs)
        misfits = find_misfits(adapter, snapshot, is_first=is_first, **rendering)
        if misfits.retyped:
            raise TransformError(
                f"{name}: its table keeps the types it began with: {', '.join(misfits.retyped)}",
                hint="name the columns in the model and cast them: what is changed has a new table",
            )
        _refuse_strays(name, misfits)
        if misfits.new:
            self._listener.narrow[name] = misfits.new
        if snapshot.is_seed and (nulled := find_nulled(snapshot.model)):
            self._listener.nulled[name] = nulled
        return result

    def audit(self, snapshot: Snapshot, **kwargs: Any) -> list[Any]:
        """Audit a snapshot and report each result.

        SQLMesh would run a standalone audit once per full day, in the middle of a run; the audit
        stage runs them all, after every model (`etl.project.audits`).
        """
        if not snapshot.is_model:
            return []
        results: list[Any] = super().audit(snapshot, **kwargs)
        self._listener.audited(snapshot, results, self.get_adapter(snapshot.model_gateway))
        return results

    def _audit(self, *given: Any, **named: Any) -> Any:
        snapshot, query = named["snapshot"], named["audit"].query
        if snapshot.is_model and snapshot.model.time_column and _compares_rows(query):
            # SQLMesh would show it the interval alone, and a key of last week may be there again.
            named |= {"start": None, "end": named["execution_time"]}
        try:
            return super()._audit(*given, **named)
        except Exception as e:
            raise BrokenAuditError(named["audit"].name) from e

    def _render_snapshot_for_evaluation(self, snapshot: Snapshot, *given: Any) -> Iterator[Any]:
        rendered: Iterator[Any] = super()._render_snapshot_for_evaluation(snapshot, *given)
        model = snapshot.model
        if isinstance(model, PythonModel):
            return _frames(model, _located(model, rendered))
        return rendered


def _located(model: PythonModel, yielded: Iterator[Any]) -> Iterator[Any]:
    """The same; where it fails, the line of the project is told.

    SQLMesh runs code that it has as text, so that a traceback knows neither file nor line.
    """
    try:
        yield from yielded
    except PythonModelEvalError as e:
        found = ""
        for frame, line in chain.from_iterable(walk_tb(c.__traceback__) for c in causes(e)):
            name = frame.f_code.co_name
            # Of a class, or within a function, there may be another function of the same name.
            if getattr(frame.f_globals.get(name), "__code__", None) is not frame.f_code:
                continue
            if (code := model.python_env.get(name)) is not None:
                text = code.payload.splitlines()[line - 1].strip()
                found = f"`{text}` of {name} in {code.path}"
        raise BrokenCodeError(found or model.entrypoint) from e


def _frames(model: PythonModel, yielded: Iterator[Any]) -> Iterator[Any]:
    """What a model in Python yields; a query without rows when that is nothing.

    SQLMesh would leave the rows of the evaluation before, and refuses an empty frame.

    Raises:
        TransformError: no frame, columns that it lacks, numbers that their column would round.
    """
    types, name, is_empty = model.columns_to_types_or_raise, bare_name(model.fqn), True
    for frame in yielded:
        if getattr(frame, "empty", False):
            continue
        _refuse_no_frame(name, frame, types)
        if fractions := find_fractions(frame, types):
            raise TransformError(
                f"{name}: columns that are declared whole have fractions, which would be rounded: "
                f"{fractions}",
                hint="declare them DOUBLE or DECIMAL, or round in the model",
            )
        is_empty = False
        yield frame
    if is_empty:
        nothing = (exp.cast(exp.null(), t).as_(c, quoted=True) for c, t in types.items())
        yield exp.select(*nothing).where(exp.false())


def _refuse_no_frame(name: str, frame: Any, types: Mapping[str, Any]) -> None:
    """DuckDB's words for it name variables of SQLMesh's, or speak of aliases."""
    if type(frame).__module__ == "builtins":
        raise TransformError(
            f"{name}: it returns {type(frame).__name__}, which is no data frame",
            hint="return a pandas.DataFrame, or yield some; where nothing is found, an empty one",
        )
    if isinstance(frame, pandas.DataFrame):
        here = {str(column).lower() for column in frame.columns}
        if lacking := [column for column in types if column.lower() not in here]:
            raise TransformError(
                f"{name}: its data frame has no {', '.join(lacking)}, which its `columns` names",
                hint=f"it has: {', '.join(map(str, frame.columns))}",
            )


def _compares_rows(query: exp.Expr) -> bool:
    """True for an audit that a row alone does not fail, unless it speaks of the interval itself."""
    if _INTERVAL.search(query.sql()):
        return False
    found = query.find(exp.AggFunc, exp.Window, exp.Group, exp.Distinct, exp.Join, JinjaQuery)
    return found is not None or len(list(query.find_all(exp.Select))) > 1


def _refuse_strays(name: str, misfits: Misfits) -> None:
    if misfits.keyless:
        raise DataQualityError(
            f"{name}: its key ({misfits.key}) is NULL, and such rows are added again in each "
            f"run: {misfits.keyless}",
            hint="leave such rows out in the model, or give them a value (COALESCE)",
        )
    if misfits.doubled:
        raise DataQualityError(
            f"{name}: its key ({misfits.key}) stands in several rows, of which any one would be "
            f"taken: {misfits.doubled} too many",
            hint="let the model return one row for each key: QUALIFY ROW_NUMBER() OVER (…) = 1",
        )
