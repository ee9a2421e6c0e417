"""What one extraction of one source brings, counted where it passes; guards on the whole of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlt.common.libs import is_pandas_frame
from dlt.common.schema.typing import C_DLT_ID
from dlt.extract.extractors import ImportFileMeta, _to_arrow_table
from dlt.extract.hints import HintsMeta
from dlt.extract.items import TableNameMeta
from dlt.extract.items_transform import ItemTransform
from dlt.extract.utils import get_data_item_format

from etl.api_fields import FieldPaths
from etl.arrival import Arrival, TableArrival
from etl.errors import DataQualityError, EtlError, ExtractError, SchemaError
from etl.raw.coercions import find_cast, find_unkept
from etl.records import Discarded
from etl.settings import Source
from etl.sources.keys import MergeKeys


@dataclass
class Monitor:
    """Counters of one extraction, shared by the threads of a source.

    `rows` by table (after dlt's own steps: what goes to raw), `pages` by resource, `longest` the
    pages of a resource's longest chain, `incremental` the resources that read only what is new
    (all of it when `is_refresh`), `cursors` the fields by which they tell, as far as declared,
    `fields` the key paths in the rows of each resource, `bases` where its rows are in an answer,
    `keys` by table what is merged, `contained` the parts of the source that failed by themselves,
    `unpaged` the resources of which one page was read because nobody said how to get others,
    `appended` those that are added whole in each run because nobody said otherwise, `limited` those
    that a factory reads only the beginning of.
    """

    source: str
    settings: Source
    earlier_pages: Mapping[str, int] = field(default_factory=dict)
    earlier_rows: int | None = None
    is_refresh: bool = False
    earlier_bases: Mapping[str, str] = field(default_factory=dict)
    on_page: Callable[[str, int], None] = lambda resource, rows: None
    check_stop: Callable[[], None] = lambda: None
    rows: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    longest: Counter[str] = field(default_factory=Counter)
    tables: dict[str, str] = field(default_factory=dict)
    incremental: set[str] = field(default_factory=set)
    cursors: dict[str, str] = field(default_factory=dict)
    keys: dict[str, MergeKeys | None] = field(default_factory=dict)
    fields: dict[str, FieldPaths] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    contained: list[EtlError] = field(default_factory=list)
    unpaged: set[str] = field(default_factory=set)
    appended: set[str] = field(default_factory=set)
    limited: set[str] = field(default_factory=set)
    _urls: dict[str, str] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _next_id: int = field(default_factory=time.time_ns)
    _id_ending: str = field(default_factory=lambda: secrets.token_hex(4))

    def count_page(self, resource: str, rows: int, *, chain: int = 0, url: str = "") -> int:
        """Note a page, the `chain`-th of its chain, as it comes; its number in the resource."""
        with self._counting:
            self.pages[resource] += 1
            number = self.pages[resource]
            self.longest[resource] = max(self.longest[resource], chain)
            self._urls[resource] = url
        self.on_page(resource, rows)
        return number

    def count_rows(self, table: str, rows: int) -> None:
        """Note rows on their way into raw."""
        with self._counting:
            self.rows[table] += rows

    def take_ids(self, rows: int) -> Any:
        """Ids for rows of an Arrow table, an array; they rise as the rows come.

        As dlt's for rows of dicts do here (`etl.raw.destination`): by them a merge keeps the last
        row of a key.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        with self._counting:
            first, self._next_id = self._next_id, self._next_id + rows
        numbers = pa.array(range(first, first + rows), pa.int64()).cast(pa.string())
        return pc.binary_join_element_wise(numbers, self._id_ending, "")

    def contain(self, error: EtlError, part: str) -> None:
        """Note the failure of a part of the source, such as a ticker; the rest goes on."""
        error.subject = f"{self.source}[{part}]"
        if not error.message.startswith(f"{self.source}."):
            error.message = f"{self.source}: {error.message}"
        self.contained.append(error)

    def watch_keys(self, table: str, keys: MergeKeys | None) -> MergeKeys | None:
        """The counter of keys that all resources of a table share; None when they do not agree."""
        first = self.keys.setdefault(table, keys)
        if first is not None and (keys is None or keys.columns != first.columns):
            first.give_up()
        return first

    def arrival(self, load_ids: Sequence[str], discarded: tuple[Discarded, ...]) -> Arrival:
        """What raw is to hold once these load packages were committed."""
        tables = {}
        for table, rows in self.rows.items():
            keys = self.keys.get(table)
            tables[table] = (
                TableArrival(rows=rows)
                if keys is None
                else TableArrival(
                    rows=rows, columns=keys.columns, kept=keys.kept, deleted=tuple(keys.deleted)
                )
            )
        return Arrival(load_ids=tuple(load_ids), tables=tables, discarded=discarded)

    def field_paths(self) -> list[FieldPaths]:
        """The key paths of every resource, each with the place of its rows in an answer."""
        for resource, base in self.bases.items():
            if resource in self.fields:
                self.fields[resource].base = base
        return list(self.fields.values())

    def whole_tables(self) -> set[str]:
        """Tables that the extraction reads from their first row to their last."""
        return set(self.tables.values()) - {
            t for r, t in self.tables.items() if r in self.incremental
        }

    def tell_shared_keys(self) -> Iterator[str]:
        """A line for each merged table of which rows came that share their key."""
        for table, keys in sorted(self.keys.items()):
            distinct = keys.distinct if keys is not None and not keys.is_versioned else None
            if distinct is not None and self.rows[table] > distinct:
                yield (
                    f"{self.source}: {self.rows[table]} rows of {table} came with {distinct} keys, "
                    "and of each key the last was kept: does its `primary_key` tell rows apart?"
                )

    def check_source(self) -> None:
        """The guards that need the whole source; called before anything is committed.

        Raises:
            DataQualityError: a required source is empty, the volume is out of bounds, or a
                resource ended after one page where the last run had many, or rows to be upserted
                share a key.
        """
        self._check_short()
        self._check_upserts()
        total = sum(self.rows.values())
        volume = self.settings.volume
        # Nothing new is no failure once there was something, unless it is to take its place.
        idle = (
            self.earlier_rows is not None
            and not self.is_refresh
            and self.tables.keys() <= self.incremental
        )
        if total == 0 and self.settings.required and not idle:
            raise DataQualityError(
                f"{self.source}: the source is required and returned no row "
                f"({sum(self.pages.values())} pages)",
                subject=self.source,
                hint="look at the API; `required: false` accepts an empty source",
            )
        if volume.min_rows is not None and total < volume.min_rows:
            raise DataQualityError(
                f"{self.source}: {total} rows, at least {volume.min_rows} are expected",
                subject=self.source,
                hint="look at the API, or lower volume.min_rows",
            )
        if volume.max_drop is not None and self.earlier_rows:
            floor = self.earlier_rows * (1 - volume.max_drop)
            if total < floor:
                raise DataQualityError(
                    f"{self.source}: {total} rows after {self.earlier_rows} in the last run: a "
                    f"fall of more than {volume.max_drop:.0%}",
                    subject=self.source,
                    hint="look at the API; when the fall is real, raise volume.max_drop once",
                )

    def _check_upserts(self) -> None:
        """An upsert takes all rows of a key: new, it would stand twice; deleted, once."""
        for table, keys in sorted(self.keys.items()):
            distinct = keys.distinct if keys is not None and keys.is_upsert else None
            if distinct is not None and self.rows[table] > distinct:
                raise DataQualityError(
                    f"{self.source}.{table}: {self.rows[table]} rows with {distinct} keys came, "
                    "and its merge strategy takes each key once",
                    subject=self.source,
                    hint="run again if rows moved between pages meanwhile; the strategy "
                    "delete-insert keeps one row of each key",
                )

    def _check_short(self) -> None:
        # By the longest chain: of a resource that is read per parent, single chains may well be
        # short. And what reads only news is expected to have less of them than its first run.
        for resource, before in sorted(self.earlier_pages.items()):
            if resource in self.incremental or before < self.settings.guards.short_after:
                continue
            if self.longest[resource] == 1:
                raise DataQualityError(
                    f"{self.source}.{resource}: ended after page 1, the last run had {before} "
                    f"pages ({self._urls[resource]})",
                    subject=f"{self.source}.{resource}",
                    hint="look at the API; when it really shrank, raise guards.short_after",
                )


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
        if self._monitor.settings.factory and (found := find_unkept(rows))[1]:
            raise self._unkept(*found)
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
            raise self._cast(column)
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
                raise self._unstampable(row)
            if not self._stamp.keys().isdisjoint(row):
                self._check_stamped(row)
            row.update(self._stamp)

    def _check_stamped(self, row: Mapping[str, Any]) -> None:
        """A row may have a stamped field already, if its value says the same."""
        for name, value in self._stamp.items():
            if str(row.get(name, value)) != str(value):
                raise self._overwritten(name)

    def _unkept(self, path: str, what: str) -> SchemaError:
        return SchemaError(
            f"{self._monitor.source}: rows of {self._table} have {what} at {path}, which raw would "
            "hold as another value: packages of dicts are JSON",
            subject=self._monitor.source,
            hint="turn it into a text or NULL in the factory; numbers, bytes and texts are kept by "
            'Arrow tables and frames (of dlt\'s `sql_table`: `backend="pyarrow"`)',
        )

    def _cast(self, column: str) -> SchemaError:
        return SchemaError(
            f"{self._monitor.source}: Arrow tables of {self._table} have values in {column} that "
            "the type that the resource's `columns` say would round or cut",
            subject=self._monitor.source,
            hint="say the type that comes, or cast the column in the factory",
        )

    def _check_index(self, frame: Any) -> None:
        """The index of a pandas frame, which dlt leaves out, holds no more than numbers of rows."""
        index = frame.index
        named = [n for n in index.names if n is not None and n not in frame.columns]
        if named or (len(index) and (index.nlevels > 1 or index.dtype.kind not in "iu")):
            said = ", ".join(map(str, named)) or "without a name"
            raise SchemaError(
                f"{self._monitor.source}: frames of {self._table} have an index ({said}), which "
                "dlt leaves out",
                subject=self._monitor.source,
                hint="make it a column (`reset_index()`), or drop it (`reset_index(drop=True)`)",
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

    def _unstampable(self, row: Any) -> SchemaError:
        return SchemaError(
            f"{self._monitor.source}: rows of {self._table} are no objects "
            f"({type(row).__name__}): `for_each` and `stamp` have no place in them",
            subject=self._monitor.source,
            hint="name a `data_selector` that finds objects, or make them in the factory",
        )

    def _overwritten(self, name: str) -> SchemaError:
        return SchemaError(
            f"{self._monitor.source}: rows of {self._table} have a field `{name}` of their own, "
            "which `for_each` or `stamp` would overwrite",
            subject=self._monitor.source,
            hint=f"give the placeholder or the stamped column another name than {name}",
        )
