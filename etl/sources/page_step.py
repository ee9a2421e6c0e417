"""The last step of every resource: its rows are stamped, counted and checked as they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from dlt.common.libs import is_pandas_frame
from dlt.common.schema.typing import C_DLT_ID
from dlt.extract.extractors import ImportFileMeta, _to_arrow_table
from dlt.extract.hints import HintsMeta
from dlt.extract.items import TableNameMeta
from dlt.extract.items_transform import ItemTransform
from dlt.extract.utils import get_data_item_format

from etl.api_fields import FieldPaths
from etl.errors import ExtractError, SchemaError
from etl.raw.coercions import find_unkept
from etl.raw.column_types import find_cast
from etl.sources.keys import MergeKeys
from etl.sources.monitor import Monitor


class PageStep(ItemTransform[Any, Any]):
    """The last step of every resource: stamps each row and counts what goes to raw.

    A stamp that would overwrite what the API says is a SchemaError. Works on a whole page at a
    time. Rows of Arrow tables get an id, as dlt gives it to those of dicts, unless `has_ids`;
    `typed` are the columns whose type is declared. `table_of` says to which table a row goes where
    the rows decide; dlt takes no Arrow tables there.
    """

    placement_affinity = 2.0  # after dlt's incremental and validation steps

    def __init__(
        self,
        monitor: Monitor,
        table: str,
        stamp: Mapping[str, Any],
        fields: FieldPaths | None = None,
        keys: MergeKeys | None = None,
        table_of: Callable[[Any], str] | None = None,
        *,
        has_ids: bool = False,
        typed: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(lambda item: item)
        self._fields = fields or FieldPaths(table, "")
        self._keys = keys
        self._monitor = monitor
        self._table = self._keyed = table
        self._table_of = table_of
        self._stamp = dict(stamp)
        self._has_ids = has_ids
        self._typed = typed or {}

    def __call__(self, item: Any, meta: Any = None) -> Any:
        """A page: a list of rows, one row, an Arrow table or a frame, or a list of those."""
        if isinstance(meta, ImportFileMeta):
            raise self._unread()
        if item is None:
            return None
        table = self._table_named(meta)
        keys = self._keys if table == self._keyed else None
        if get_data_item_format(item) == "arrow":
            if isinstance(item, list):
                return [self._add_table(table, one, keys) for one in item]
            return self._add_table(table, item, keys)
        rows = item if isinstance(item, list) else [item]
        # To look at each value costs much: an API's are JSON, and few of its pages have such texts.
        if self._monitor.settings.factory or self._monitor.has_marks:
            self._check_kept(rows)
        self._fields.note(rows)
        if self._stamp:
            self._stamp_rows(rows)
        if keys is not None:
            keys.add_rows(rows)
        named = Counter(map(self._table_of, rows)) if self._table_of else {table: len(rows)}
        for name, count in named.items():
            self._monitor.count_rows(name, count)
        return item

    def _table_named(self, meta: Any) -> str:
        """The table of rows that may name it (`dlt.mark`), alone or for all that come after."""
        if isinstance(meta, TableNameMeta):
            return str(meta.table_name)
        name = (meta.hints or {}).get("table_name") if isinstance(meta, HintsMeta) else None
        if not isinstance(name, str):
            return self._table
        if not meta.create_table_variant:
            self._table = name
        return name

    def _add_table(self, name: str, item: Any, keys: MergeKeys | None) -> Any:
        if is_pandas_frame(item):
            self._check_index(item)
        table = _to_arrow_table(item)  # as dlt itself does after this step
        if self._table_of is not None or not hasattr(table, "num_rows"):
            raise self._misplaced(table)
        self._monitor.count_rows(name, table.num_rows)
        self._fields.note_names(table.schema.names)
        if column := find_cast(table, self._typed):
            raise self._refused(
                f"Arrow tables of {self._table} have values in {column} that the type that the "
                "resource's `columns` say would round or cut",
                "say the type that comes, or cast the column in the factory",
            )
        if self._stamp:
            table = self._stamp_table(table)
        if keys is not None:
            keys.add_table(table)
        return self._identify(table)

    def _identify(self, table: Any) -> Any:
        if self._has_ids or C_DLT_ID in table.schema.names:
            return table
        return table.append_column(C_DLT_ID, self._monitor.take_ids(table.num_rows))

    def _stamp_table(self, table: Any) -> Any:
        import pyarrow as pa

        if taken := sorted(self._stamp.keys() & set(table.schema.names)):
            raise self._overwritten(taken[0])
        for name, value in self._stamp.items():
            table = table.append_column(name, pa.array([value] * table.num_rows))
        return table

    def _stamp_rows(self, rows: list[Any]) -> None:
        for row in rows:
            if not isinstance(row, dict):
                raise self._refused(
                    f"rows of {self._table} are no objects ({type(row).__name__}): `for_each` and "
                    "`stamp` have no place in them",
                    "name a `data_selector` that finds objects, or make them in the factory",
                )
            if not self._stamp.keys().isdisjoint(row):
                self._check_stamped(row)
            row.update(self._stamp)

    def _check_stamped(self, row: Mapping[str, Any]) -> None:
        """A row may have a stamped field already, if its value says the same."""
        for name, value in self._stamp.items():
            if str(row.get(name, value)) != str(value):
                raise self._overwritten(name)

    def _check_kept(self, rows: list[Any]) -> None:
        path, what = find_unkept(rows)
        if what:
            raise self._refused(
                f"rows of {self._table} have {what} at {path}, which raw would hold as another "
                "value: packages of dicts are JSON",
                "turn it into a text or NULL in the factory; numbers, bytes and texts are kept by "
                'Arrow tables and frames (of dlt\'s `sql_table`: `backend="pyarrow"`)'
                if self._monitor.settings.factory
                else "a `map` of the resource's `processing_steps` can write it otherwise",
            )

    def _check_index(self, frame: Any) -> None:
        """The index of a pandas frame, which dlt leaves out, holds no more than numbers of rows."""
        index = frame.index
        named = [n for n in index.names if n is not None and n not in frame.columns]
        if named or (len(index) and (index.nlevels > 1 or index.dtype.kind not in "iu")):
            said = ", ".join(map(str, named)) or "without a name"
            raise self._refused(
                f"frames of {self._table} have an index ({said}), which dlt leaves out",
                "make it a column (`reset_index()`), or drop it (`reset_index(drop=True)`)",
            )

    def _unread(self) -> ExtractError:
        return ExtractError(
            f"{self._monitor.source}.{self._table}: hands over a file (`with_file_import`), whose "
            "rows nobody reads on their way: they could not be counted, nor say their load package",
            subject=self._monitor.source,
            hint="yield its rows, or its Arrow tables: `pyarrow.parquet`, `pyarrow.csv`",
        )

    def _misplaced(self, item: Any) -> ExtractError:
        where = "where `table_name` is a function of a row" if self._table_of else "among tables"
        return ExtractError(
            f"{self._monitor.source}.{self._table}: dlt takes no {type(item).__name__} {where}",
            subject=self._monitor.source,
            hint="name each table's by `dlt.mark.with_table_name`, or yield rows as dicts"
            if self._table_of
            else "a page is rows, or Arrow tables and frames: yield them one after the other",
        )

    def _overwritten(self, name: str) -> SchemaError:
        return self._refused(
            f"rows of {self._table} have a field `{name}` of their own, which `for_each` or "
            "`stamp` would overwrite",
            f"give the placeholder or the stamped column another name than {name}",
        )

    def _refused(self, what: str, hint: str) -> SchemaError:
        source = self._monitor.source
        return SchemaError(f"{source}: {what}", subject=source, hint=hint)
