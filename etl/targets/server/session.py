"""What a server has to be able to do for a load, and the values that this is said in.

A session is one connection with one open transaction. Everything that happens to one target in a
run happens in one session, and is visible to others with its commit only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import duckdb

from etl.errors import ReconciliationError
from etl.settings import Target
from etl.targets.comparison import Changes
from etl.targets.publication import Publication, split_name
from etl.targets.relation import Relation
from etl.warehouse import quoted

MARKS = "etl_publications"
ABOUT_MARKS = "What etl published last in each table, and how its rows were then"
# The number of a staged row, under a name that no mart has.
ROW = '"etl: row"'


@dataclass(frozen=True)
class Column:
    """One column: its name and its type at the target."""

    name: str
    type: str

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.name)


C = TypeVar("C", bound=Column)


@dataclass(frozen=True)
class Versions:
    """How many rows a table has, and the sum of what the server stamps on each that is written."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: Versions) -> Versions:
        return Versions(self.rows + other.rows, self.total + other.total)

    def __sub__(self, other: Versions) -> Versions:
        return Versions(self.rows - other.rows, self.total - other.total)


@dataclass(frozen=True)
class Mark:
    """What the target says about a table: the publication it holds, and its rows' versions."""

    publication_id: str
    versions: Versions


@dataclass(frozen=True)
class Table:
    """A table at the target by its SQL name."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.schema, self.name)

    @property
    def plain(self) -> str:
        """The name as people and marks write it."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Found:
    """Whether a table has to be made, or columns of it.

    `numbers` are those of the mart's columns there: one that somebody made anew, or gave another's
    name, has another number, and no row was written by that.
    """

    is_new: bool
    is_narrow: bool
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sum:
    """Rows and their checksum."""

    rows: int
    total: int

    def __str__(self) -> str:
        return f"{self.rows} rows, checksum {self.total:x}"


@dataclass(frozen=True)
class Delivery(Generic[C]):
    """Rows of the warehouse on their way: `rows` is their FROM clause, for the `cursor`.

    `table`, `target` and `key` are what an error names.
    """

    cursor: duckdb.DuckDBPyConnection
    rows: str
    columns: tuple[C, ...]
    table: Table
    target: str
    key: tuple[str, ...]

    def check(self, sent: Sum, found: Sum) -> None:
        """Raise ReconciliationError when other rows arrived than were sent."""
        if found != sent:
            raise ReconciliationError(
                f"{self.table.plain} at target {self.target}: {found} arrived; {sent} were sent",
                subject=self.target,
            )


@dataclass(frozen=True)
class Staged(Generic[C]):
    """A staging table at the target, gone with the session: its SQL name and its rows."""

    sql: str
    columns: tuple[C, ...]
    rows: int


@dataclass(frozen=True)
class Change(Generic[C]):
    """What shall happen to one table.

    `staged` holds rows of the mart: all of them, or (with `difference`, which says how many came
    and changed) those. `gone` holds the keys of rows that left the mart and shall leave the table.
    """

    table: Table
    publication: Publication
    staged: Staged[C]
    difference: Changes | None = None
    gone: Staged[C] | None = None


class Session(Protocol[C]):
    """One open transaction at a server. Methods raise EtlError, or what the driver raises."""

    _connection: Any
    _target: str

    def __init__(self, connection: Any, target: str) -> None:
        self._connection, self._target = connection, target

    def find(self, table: Table, columns: tuple[C, ...]) -> Found:
        """Look at a table and keep its writers out until the end; ConfigError for a view."""

    def counting(self, table: Table) -> AbstractContextManager[Callable[[], Versions]]:
        """What tells a table's rows and their versions, which the server may count meanwhile."""

    def fill(
        self, delivery: Delivery[C], publication: Publication, about: dict[str, str]
    ) -> Versions | None:
        """Make a table that is missing, bring rows of the warehouse straight into it, index it.

        Checked as `stage` checks. None, and nothing done, where rows have to be staged first.
        """
        return None

    def stage(self, delivery: Delivery[C]) -> Staged[C]:
        """Bring rows of the warehouse to a new staging table, and check that all came as sent."""

    def prepare(self, table: Table, columns: tuple[C, ...], about: dict[str, str]) -> None:
        """Make the table, or the columns that it lacks; `about` is what the mart says of them."""

    def apply(self, change: Change[C], *, is_new: bool) -> Changes:
        """Change a table to what was staged, make its keys and indexes; a refused row is named."""

    def add_indexes(self, table: Table, publication: Publication) -> None:
        """Make the primary key and the indexes that the configuration names and a table lacks."""

    def end_changes(self) -> None:
        """All tables were changed: let happen what the server would do at the commit, if any."""
        return

    def did_more(self, table: Table, changes: Changes) -> bool:
        """True when more rows of a table were written or deleted in this transaction than these.

        That is the work of triggers and foreign keys, of this table or another.
        """

    def reconcile(self, change: Change[C], expected: int) -> Versions:
        """Compare the table with what was staged; see `applying.reconcile`. Its rows now."""

    def create_marks(self, schema: str) -> Table:
        """The table of marks, made when it is missing."""

    def read_mark(self, marks: Table, table: Table) -> Mark | None:
        """The mark of a table, None when it has none."""

    def write_mark(self, marks: Table, table: Table, model: str, mark: Mark) -> None:
        """Set the mark of a table."""

    def count(self, table: Table) -> int:
        """A table's rows; 0 when there is none."""

    def commit(self) -> None:
        """Make all of it visible."""
        self._connection.commit()

    def rollback(self) -> None:
        """Take all of it back."""
        self._connection.rollback()


@dataclass(frozen=True)
class Server(Generic[C]):
    """A kind of server: how to reach one, and the types that a mart's columns have there."""

    connect: Callable[[str, str], AbstractContextManager[Any]]
    session: Callable[[Any, str], Session[C]]
    map_columns: Callable[[duckdb.DuckDBPyConnection, Relation, Publication, str], tuple[C, ...]]

    @contextmanager
    def connected(self, target: Target, name: str) -> Iterator[Session[C]]:
        """A session at the target's address. Raises ConfigError, UnreachableError, AuthError."""
        dsn = target.dsn.get_secret_value() if target.dsn else ""
        with self.connect(dsn, name) as connection:
            yield self.session(connection, name)


def locate(publication: Publication, default_schema: str) -> Table:
    """The table that a publication goes to."""
    return Table(*split_name(publication.table, default_schema))
