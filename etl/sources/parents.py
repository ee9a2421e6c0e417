"""What a resource asks by a value of its parent's row or of `for_each`: by the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dlt.common import jsonpath
from dlt.extract import DltResource
from dlt.extract.items_transform import ItemTransform
from dlt.sources.rest_api import config_setup
from dlt.sources.rest_api.config_setup import (
    ProcessedParentData,
    collect_resolved_values,
    expand_placeholders,
    make_parent_key_name,
)

from etl.errors import ExtractError
from etl.sources.monitor import Monitor

_process = config_setup.process_parent_data_item


def ask_by_whole_values() -> None:
    """Let dlt, for the whole process, put values into paths so that they are read as they are.

    Of `a?b` or `a#b` in a path the API would see `a`, of `..` another path, of NULL and true the
    words None and True: it would answer for something else, and nobody would know. dlt has no hook
    for it.
    """
    vars(config_setup)["process_parent_data_item"] = _ask


def _ask(
    path: str,
    item: Any,
    resolved_params: list[Any],
    headers: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    **more: Any,
) -> ProcessedParentData:
    """As dlt's function of this name.

    Raises:
        ExtractError: the row has no value that could be asked by.
    """
    if not isinstance(item, dict):
        parent = resolved_params[0].resolve_config["resource"]
        raise ExtractError(
            f"what comes from {parent} are no rows ({type(item).__name__}) to ask by",
            hint=f"a `map` of the `processing_steps` of {parent} has to give rows",
        )
    for one in resolved_params:
        if not jsonpath.find_values(one.field_path, item):
            raise _unaskable(one, "no value")
    if absent := [name for name in more.get("include_from_parent") or () if name not in item]:
        parent = resolved_params[0].resolve_config["resource"]
        raise ExtractError(
            f"a row of {parent} has no field `{absent[0]}`, which `include_from_parent` names",
            hint=f"is it spelled as there, and not inside of another one? where {parent} leaves it "
            "out at times, a `map` of its `processing_steps` can add it",
        )
    values = collect_resolved_values(
        item, resolved_params, more.get("incremental"), more.get("incremental_value_convert")
    )
    in_path = {}
    asked = list(_texts((path, headers, params, more.get("request_data"))))
    for one in resolved_params:
        name, value = one.param_name, values[one.param_name]
        mark = "{" + name + "}"
        if not any(mark in text for text in asked):
            continue
        if value is None or value == "":
            raise _unaskable(one, "no value")
        if len(jsonpath.find_values(one.field_path, item)) > 1:
            raise _unaskable(one, "several values")
        if isinstance(value, list | dict):
            raise _unaskable(one, "a list or an object")
        values[name] = as_text(value)
        if mark in path:
            try:
                in_path[name] = whole_in(path, mark, str(values[name]))
            except ValueError as e:
                raise _unaskable(one, f"`{value}`") from e
    found = _process(path, item, resolved_params, headers, params, **more)
    return found._replace(
        path=expand_placeholders(path, values | in_path),
        headers=expand_placeholders(headers, values),
        params=expand_placeholders(params or {}, values),
        data=expand_placeholders(more.get("request_data"), values),
    )


def ask_once(resource: DltResource, monitor: Monitor) -> None:
    """Let a resource that is read for the rows of a parent ask once for a row that comes twice.

    Pages of the parent overlap where rows come and go meanwhile. One that has changed is asked for
    again: its rows may have changed with it.
    """
    if resource.explicit_args.get("resolved_params"):
        resource._pipe.insert_step(_Once(resource, monitor), 0)


class _Once(ItemTransform[Any, Any]):
    """Drops rows of a parent that came before, and counts those that ask by the same once more."""

    def __init__(self, resource: DltResource, monitor: Monitor) -> None:
        super().__init__(lambda item: item)
        given, table = resource.explicit_args, resource.compute_table_schema()
        keys = {n for n, c in table.get("columns", {}).items() if c.get("primary_key")}
        self._is_merged = bool(keys) and table.get("write_disposition") == "merge"
        self._parent = given["resolved_params"][0].resolve_config["resource"]
        # What tells apart the rows that two of the parent's bring.
        self._paths = [one.field_path for one in given["resolved_params"]]
        self._fields = [
            field
            for field in given.get("include_from_parent") or ()
            if not self._is_merged or make_parent_key_name(self._parent, field) in keys
        ]
        self._name = resource.name
        self._monitor = monitor
        self._seen: set[int] = set()
        self._newest: dict[int, int] = {}

    def __call__(self, item: Any, meta: Any = None) -> Any:
        """A page of the parent's rows, or one row."""
        page = _Page()
        for row in item if isinstance(item, list) else [item]:
            whole, by = hash(repr(row)), self._asks_by(row)
            if whole in self._seen:
                self._monitor.repeated[self._name, self._parent] += 1
                continue
            if by in self._newest and not self._is_merged:
                self._monitor.doubled[self._name, self._parent] += 1
            self._seen.add(whole)
            self._newest[by] = whole
            page.append(row)
            page.is_due.append(partial(self._is_due, by, whole))
        return page

    def _asks_by(self, row: Any) -> int:
        fields = [row.get(name) for name in self._fields] if isinstance(row, dict) else []
        return hash(repr(([jsonpath.find_values(path, row) for path in self._paths], fields)))

    def _is_due(self, by: int, whole: int) -> bool:
        """Whether a row is still to be asked for: none that is merged over its own has come."""
        return not self._is_merged or self._newest[by] == whole


class _Page(list[Any]):
    """Rows of a parent. dlt asks for them one by one, and before those of earlier pages."""

    def __init__(self) -> None:
        super().__init__()
        self.is_due: list[Callable[[], bool]] = []

    def __iter__(self) -> Iterator[Any]:
        for row, is_due in zip(super().__iter__(), self.is_due, strict=True):
            if is_due():
                yield row


def as_text(value: Any) -> Any:
    """A value for a URL: of true and false what JSON writes, not Python; others as they are."""
    return str(value).lower() if isinstance(value, bool) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts((*value, *value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def whole_in(path: str, mark: str, text: str) -> str:
    """A value as it stands in a path in place of a mark; an address, or the whole path, as it is.

    Raises:
        ValueError: it would lead to another path.
    """
    if path == mark or "://" in text:
        return text
    if not text or {".", ".."} & set(text.split("/")):
        raise ValueError(f"`{text}` in place of {mark} in `{path}` leads elsewhere")
    return text.replace("?", "%3F").replace("#", "%23")


def _unaskable(param: Any, what: str) -> ExtractError:
    parent, field = param.resolve_config["resource"], param.resolve_config["field"]
    return ExtractError(
        f"a row of {parent} has {what} in `{field}`, by which rows of its own are asked for",
        hint="the parent can be a second resource of the same endpoint that is not loaded "
        "(`selected: false`) and leaves such rows out (`processing_steps` with a `filter`)",
    )
