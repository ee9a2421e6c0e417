"""The statements that go to SQL Server, compared with files and parsed as T-SQL.

`UPDATE_GOLDEN=1 pytest tests/unit/test_target_mssql_sql.py` writes the files anew: read the diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from pydantic import SecretStr
from sqlglot import exp

from etl.errors import ConfigError, LoadError
from etl.settings import Target
from etl.targets.mssql import server, tables
from etl.targets.mssql.columns import Column, map_columns
from etl.targets.mssql.refusals import refused_row
from etl.targets.mssql.session import MssqlSession
from etl.targets.mssql.statements import Statements
from etl.targets.publication import Order, Publication
from etl.targets.server import PublishTo
from etl.targets.server.session import Change, Server, Staged, Table
from tests.sql_server import require_driver

GOLDEN = Path(__file__).parents[1] / "golden/mssql"
# What sqlglot does not parse: no statement that reads or writes a table's rows is among them.
COMMANDS = ("EXEC", "SAVE TRANSACTION")
COLUMNS = (
    Column("ticker", "nvarchar(450)", is_key=True), Column("day", "date", is_key=True),
    Column("close", "float"), Column("note", "nvarchar(max)"), Column("raw", "varbinary(max)"),
)  # fmt: skip


def compare(name: str, statements: list[str]) -> None:
    text = ";\n\n".join(statements) + ";\n"
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
    for statement in statements:
        if statement.startswith(COMMANDS):
            continue
        # sqlglot knows no hints in an INSERT, which T-SQL has before the list of columns.
        known = re.sub(r"(INSERT INTO \S+) WITH \(TABLOCKX\)", r"\1", statement)
        for tree in sqlglot.parse(known, read="tsql"):
            assert tree is not None
            assert not isinstance(tree, exp.Command), statement
            # Error 130: an aggregate of an expression that has a query or an aggregate in it.
            for aggregate in tree.find_all(exp.AggFunc):
                assert aggregate.this is None or not aggregate.this.find(exp.Query, exp.AggFunc)


def change(key: tuple[str, ...], *, gone: bool = False) -> Change[Column]:
    keys = tuple(c for c in COLUMNS if c.name in key)
    return Change(
        Table("dbo", "Prices"),
        Publication("marts.prices", "dbo.Prices", key),
        Staged("#etl_staged", COLUMNS, 3),
        gone=Staged("#etl_gone", keys, 1) if gone else None,
    )


@pytest.mark.parametrize(("name", "key"), [("keyed", ("ticker", "day")), ("unkeyed", ())])
def test_statements_of_a_change(name: str, key: tuple[str, ...]) -> None:
    sql = Statements(change(key))
    listed = [sql.insert(), sql.delete(everything=True)]
    if key:
        listed += [sql.delete(everything=False), Statements(change(key, gone=True))
                   .delete(everything=False), sql.update() or "", sql.doubled,
                   sql.compared, sql.forget, sql.staged_rows]  # fmt: skip
    else:
        listed.append(sql.missing)
    compare(name, listed)


def test_statements_that_count_what_was_written() -> None:
    recorder = Recorder()
    stamp = tables.read_stamp(recorder)
    for version in ("etl_version", None):
        tables.count_fresh(recorder, Table("dbo", "Prices"), version, stamp)
    compare("written", recorder.statements)


def test_temporary_table_is_none_to_publish_into() -> None:
    """It would be gone with the session, and all that was published."""
    with pytest.raises(ConfigError, match=r"dbo\.#a at target there is no table"):
        tables.find(Recorder(), Table("dbo", "#a"), "there")


def test_statement_that_finds_what_refers_to_a_table() -> None:
    recorder = Recorder()
    assert tables.find_reference(recorder, Table("dbo", "Prices")) is None
    compare("references", recorder.statements)


def test_error_that_ended_the_transaction_is_told_in_the_servers_words() -> None:
    """As one in a trigger does. The staged rows are gone, and no savepoint can be set."""
    recorder = Recorder()
    said = "Cannot insert the value NULL into column 'n', table 'log'. (515) (SQLExecDirectW)"
    error: Any = ValueError("23000", f"[23000] [Microsoft]{said}")
    found = refused_row(recorder, error, change(("day",)), {}, "there", is_open=False)
    assert isinstance(found, LoadError)
    assert str(found) == (
        "table dbo.Prices at target there: refused: Cannot insert the value NULL into column 'n', "
        "table 'log'. (515)"
    )
    assert recorder.statements == []


def test_what_a_trigger_selects_or_prints_is_no_count_of_rows() -> None:
    """Its own results come before ours; one without columns is a PRINT."""
    recorder = Recorder()
    recorder.sent = 3
    for own in ([], [Rows([("seen",)], "at")], [Rows([], None), Rows([], "id"), Rows([], None)]):
        recorder.triggered = own
        assert server.write(recorder, "UPDATE ...") == 3


@pytest.mark.parametrize("is_open", [True, False])
def test_column_of_another_type_is_told_with_both_types(is_open: bool) -> None:
    """The server may have ended the transaction, and its words quote a value."""
    recorder = Recorder()
    said = "Conversion failed when converting the nvarchar value 'x' to data type int. (245) (SQLE)"
    error: Any = ValueError("22018", f"[22018] [Microsoft]{said}")
    present = {"note": tables.Present(4, "note", "int", 4, 10, 0, is_nullable=True)}
    found = refused_row(recorder, error, change(("day",)), present, "there", is_open=is_open)
    assert str(found) == (
        "table dbo.Prices at target there: note is int there and nvarchar(max) in the mart "
        "(the text is no value of the column's type (245))"
    )
    assert recorder.statements == []


class Rows:
    """A cursor that has run: the rows of a `column`, none of None; then what comes `next`."""

    def __init__(self, rows: list[tuple[Any, ...]], column: str | None = "c") -> None:
        self.rows, self.column = rows, column
        self.next: list[Rows] = []

    @property
    def description(self) -> list[tuple[str]] | None:
        return [(self.column,)] if self.column else None

    def nextset(self) -> bool:
        if not self.next:
            return False
        following, *self.next = self.next
        self.rows, self.column = following.rows, following.column
        return True

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


class Sender:
    """A cursor for arrays; as pyodbc's, it commits when its `with` block ends."""

    fast_executemany = False

    def __init__(self, connection: Recorder) -> None:
        self.connection = connection

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.commit()

    def close(self) -> None:
        pass

    def setinputsizes(self, sizes: list[tuple[int, int, int]]) -> None:
        pass

    def executemany(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        assert self.fast_executemany
        self.connection.statements.append(sql)
        self.connection.sent += len(rows)


class Recorder:
    """A connection to a server whose tables have the columns that it was told to make."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.made: dict[str, str] = {}
        self.sent = 0
        self.ended: list[str] = []
        self.triggered: list[Rows] = []

    def cursor(self) -> Sender:
        return Sender(self)

    def commit(self) -> None:
        self.ended.append("commit")

    def rollback(self) -> None:
        self.ended.append("rollback")

    def execute(self, sql: str, *values: Any) -> Rows:
        self.statements.append(sql)
        made = re.match(r'CREATE TABLE "(\w+)"\."(\w+)"', sql)
        if made:
            self.made[made[2]] = sql
        if "FROM sys.objects" in sql:
            return Rows([(values[1], "U ")] if values[1] in self.made else [])
        if "FROM sys.columns" in sql:
            return Rows([(1, "id", "bigint", 8, 19, 0, False),
                         (2, "etl_version", "timestamp", 8, 0, 0, False)])  # fmt: skip
        if "FROM sys.index" in sql and "index_columns" in sql:
            indexes = [s for s in self.statements if s.startswith("CREATE INDEX")]
            return Rows([(i, 'key"d') for i, _ in enumerate(indexes)])
        if "@@DBTS" in sql:
            return Rows([(1,)])
        if "checksum" in sql or "HASHBYTES" in sql:
            return Rows([(self.sent, 0)])
        if "ROWCOUNT_BIG" in sql:
            first, *others = [*self.triggered, Rows([(self.sent,)], "etl: rows")]
            first.next = others
            return first
        if "JOIN" in sql:
            return Rows([(self.sent, 0)])
        return Rows([(2 if "etl_version" in sql else 0, 7)] if "COUNT" in sql else [])


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, list[str]]:
    require_driver()  # its numbers of types stand in the library
    monkeypatch.setattr("etl.targets.mssql.staging.share", lambda columns, row: 0)
    recorder = Recorder()

    @contextmanager
    def opened(dsn: str, name: str) -> Iterator[Recorder]:
        yield recorder

    with duckdb.connect() as warehouse:
        warehouse.execute("""
            CREATE SCHEMA marts; CREATE TABLE marts.a (
                id BIGINT, "key""d" VARCHAR, amount DECIMAL(38,9), is_paid BOOLEAN, rate DOUBLE,
                paid_at TIMESTAMPTZ, day DATE, data BLOB, tags VARCHAR[]);
            COMMENT ON TABLE marts.a IS 'what it''s about'; COMMENT ON COLUMN marts.a.id IS 'it';
            INSERT INTO marts.a (id) VALUES (1), (2)
        """)
        publish = PublishTo(Server(opened, MssqlSession, map_columns))
        target = Target(kind="mssql", dsn=SecretStr("Server=x"))
        # Twice the same index: it is made once.
        indexes = (('key"d',), ('key"d',))
        publication = Publication("marts.a", "reports.a", ("id",), indexes=indexes)
        publish(warehouse, Order("there", (publication,), ()), target)
    return recorder, [re.sub(r"_[0-9a-f]{12}\b", "_N", s) for s in recorder.statements]


def test_first_publication_of_a_table(recorded: tuple[Recorder, list[str]]) -> None:
    recorder, statements = recorded
    compare("first", statements)
    assert recorder.ended == ["commit"]


def test_nothing_is_committed_before_all_is_done(recorded: tuple[Recorder, list[str]]) -> None:
    recorder, statements = recorded
    assert recorder.ended == ["commit"]
    assert "etl_publications" in statements[-1]
