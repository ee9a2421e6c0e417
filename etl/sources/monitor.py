"""What one extraction of one source brings, counted where it passes; guards on the whole of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from etl.api_fields import FieldPaths
from etl.arrival import Arrival, TableArrival
from etl.errors import DataQualityError, EtlError
from etl.records import Discarded
from etl.settings import Source
from etl.sources.keys import MergeKeys
from etl.sources.mixing import refuse_mixed

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention


@dataclass
class Monitor:
    """Counters of one extraction, shared by the threads of a source.

    `rows` by table (after dlt's own steps: what goes to raw), `pages` by resource, `longest` the
    pages of a resource's longest chain, `incremental` the resources that read only what is new
    (all of it when `is_refresh`), `cursors` the fields by which they tell, as far as declared,
    `fields` the key paths in the rows of each resource, `bases` where its rows are in an answer,
    `keys` by table what has a primary key, `contained` the parts of the source that failed by
    themselves, `unpaged` the resources of which one page was read because nobody said how to get
    others, `appended` those that are added whole in each run because nobody said otherwise,
    `limited` those that a factory reads only the beginning of, `has_marks` whether rows may hold
    texts that dlt takes for other types. `ignored` by resource and status the answers that were,
    with what they held. By resource and its parent: `repeated`, how many rows of the parent came
    again as they were, and `doubled`, how many asked by the same otherwise.
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
    has_marks: bool = False
    naming: NamingConvention | None = None
    ignored: Counter[tuple[str, int]] = field(default_factory=Counter)
    repeated: Counter[tuple[str, str]] = field(default_factory=Counter)
    doubled: Counter[tuple[str, str]] = field(default_factory=Counter)
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

    def pages_of(self, resources: Iterable[str]) -> int | None:
        """The pages of resources; None where a factory counted none."""
        pages = sum(self.pages[r] for r in resources)
        return pages if pages or self.settings.factory is None else None

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
                if keys is None or not keys.is_merged
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

    def tell(self) -> Iterator[str]:
        """What people should know of it: less was read, or more was added, than many expect."""
        if self.unpaged:
            yield (
                f"{self.source}: one page of {self._tables(self.unpaged)} was read, for no "
                "`paginator` is named and dlt recognised none: name it, `single_page` if that is "
                "all (docs/apis.md)"
            )
        if self.limited:
            yield (
                f"{self.source}: {self._tables(self.limited)}: the factory reads no further "
                "than its `add_limit` and has no cursor, so rows after it are never read: remove "
                "it, if it was for a trial"
            )
        if appended := {r for r in self.appended if r in self.pages}:
            yield (
                f"{self.source}: {self._tables(appended)}: no `write_disposition` is named, so "
                "each run adds all rows once more: name `replace` or `merge`, or `append`, if that "
                "is meant"
            )
        for (name, status), answers in sorted(self.ignored.items()):
            held = " that hold rows" if status < HTTPStatus.MULTIPLE_CHOICES else ""
            yield (
                f"{self.source}: `response_actions` of {name} ignored {answers} answers with the "
                f"status {status}{held}: what they stand for is not in raw"
            )
        yield from self._tell_parents()
        yield from self._tell_shared_keys()

    def _tell_parents(self) -> Iterator[str]:
        for (name, parent), rows in sorted(self.repeated.items()):
            yield (
                f"{self.source}: {rows} rows of {parent} came more than once, and {name} were "
                "asked for once by each: do rows move between its pages while they are read?"
            )
        for (name, parent), rows in sorted(self.doubled.items()):
            yield (
                f"{self.source}: {rows} rows of {parent} asked for {name} by what another row had "
                f"asked by, and what they brought is in raw once more: merge {name} by a "
                "`primary_key`, or tell the parents apart by `include_from_parent`"
            )

    def _tables(self, resources: set[str]) -> str:
        return ", ".join(sorted({self.tables.get(r, r) for r in resources}))

    def _tell_shared_keys(self) -> Iterator[str]:
        """A line for each table of which rows came that share their key."""
        for table, keys in sorted(self.keys.items()):
            distinct = keys.distinct if keys is not None and not keys.is_versioned else None
            if keys is not None and distinct is not None and self.rows[table] > distinct:
                what = (
                    "of each key the last was kept: does its `primary_key` tell rows apart?"
                    if keys.is_merged
                    else "all are in raw: do rows move between pages while they are read? `merge` "
                    "keeps one of each key"
                )
                rows = self.rows[table]
                yield f"{self.source}: {rows} rows of {table} came with {distinct} keys, and {what}"

    def check_source(self) -> None:
        """The guards that need the whole source; called before anything is committed.

        Raises:
            DataQualityError: a required source is empty, the volume is out of bounds, or a
                resource ended after one page where the last run had many, or rows to be upserted
                share a key.
            SchemaError: fields of different names would go to one column.
        """
        self._check_short()
        self._check_upserts()
        if self.naming is not None:
            refuse_mixed(self.source, self.fields.values(), self.naming)
        total = sum(self.rows.values())
        volume = self.settings.volume
        # Nothing new is no failure once there was something, unless it is to take its place.
        idle = (
            self.earlier_rows is not None
            and not self.is_refresh
            and self.tables.keys() <= self.incremental
        )
        if total == 0 and self.settings.required and not idle:
            pages = self.pages_of(self.pages)
            raise DataQualityError(
                f"{self.source}: the source is required and returned no row"
                + ("" if pages is None else f" ({pages} pages)"),
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
