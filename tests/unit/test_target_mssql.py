"""SQL Server without a server: addresses, types, refused values, checksums, error numbers."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from etl.errors import (
    AuthError,
    ConfigError,
    EtlError,
    LoadError,
    ResourcesError,
    UnreachableError,
)
from etl.secrets import redactor
from etl.targets.mssql.address import read_address, write_address
from etl.targets.mssql.columns import Column, map_columns, select_refused, share
from etl.targets.mssql.driver import bundled_driver, find_library, load_driver
from etl.targets.mssql.failures import classify, words_of
from etl.targets.mssql.staging import ARRAY_BYTES, read_arrays
from etl.targets.mssql.tables import index_name
from etl.targets.publication import Publication
from etl.targets.relation import describe
from etl.targets.server.session import Table


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("mssql://etl:p%40ss@db.example/dw", {"Server": "tcp:db.example,1433", "Database": "dw",
                                              "UID": "etl", "PWD": "p@ss"}),
        ("mssql://etl:p@db:1444/dw?Encrypt=yes&TrustServerCertificate=yes&LongAsMax=yes",
         {"Server": "tcp:db,1444", "Database": "dw", "UID": "etl", "PWD": "p", "Encrypt": "yes",
          "TrustServerCertificate": "yes", "LongAsMax": "yes"}),
        ("Driver={ODBC Driver 17 for SQL Server}; Server=db,1444;Database=dw;Uid=etl;Pwd={a;b}}c}",
         {"Server": "db,1444", "Database": "dw", "Uid": "etl", "Pwd": "a;b}c"}),
    ],
)  # fmt: skip
def test_address_is_read_from_urls_and_odbc_strings(dsn: str, expected: dict[str, str]) -> None:
    found = read_address(dsn, "t")
    assert found == expected
    assert read_address(write_address(found), "t") == expected


@pytest.mark.parametrize(
    "dsn",
    ["", "mssql://", "postgresql://etl:hunter2@db/x", "mssql://etl:hunter2@[bad/x",
     "mssql://etl:hunter2@db:port/x", "UID=etl;PWD=hunter2", "Server=db;PWD={hunter2",
     "Server=db;hunter2"],
)  # fmt: skip
def test_address_that_is_none_is_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_address(dsn, "t")
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "dsn",
    ["Server=db;UID=etl;PWD=p@ss-word;Database=x", "Server=db;PWD={p@ss-word};UID=etl",
     "mssql://etl:p%40ss-word@db/x"],
)  # fmt: skip
def test_password_of_an_address_is_masked_when_it_stands_alone(dsn: str) -> None:
    redact = redactor({"dsn": SecretStr(dsn)})
    assert "p@ss-word" not in redact(f"cannot log in with p@ss-word at {dsn}")
    braces = redactor({"dsn": SecretStr("Server=db;PWD={p}}ss-word}")})
    assert "p}ss-word" not in braces("cannot log in with p}ss-word")


def columns_of(sql: str, publication: Publication | None = None) -> tuple[Column, ...]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW a AS SELECT {sql}")
        relation = describe(connection, "a")
        return map_columns(connection, relation, publication or Publication("m.a", "a"), "t")


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("true", "bit"), ("1::TINYINT", "smallint"), ("1::UTINYINT", "tinyint"),
        ("1::USMALLINT", "int"), ("1::UINTEGER", "bigint"), ("1::UBIGINT", "decimal(20,0)"),
        ("1::HUGEINT", "decimal(38,0)"), ("1::DECIMAL(38,9)", "decimal(38,9)"),
        ("1::FLOAT", "real"), ("1::DOUBLE", "float"), ("'x'", "nvarchar(max)"),
        ("'x'::BLOB", "varbinary(max)"), ("uuid()", "uniqueidentifier"),
        ("DATE '2024-01-01'", "date"), ("TIME '01:00'", "time(6)"),
        ("TIMESTAMP '2024-01-01'", "datetime2(6)"), ("TIMESTAMP_S '2024-01-01'", "datetime2(6)"),
        ("TIMESTAMPTZ '2024-01-01'", "datetimeoffset(6)"),
        ("TIMESTAMP_NS '2024-01-01'", "nvarchar(max)"), ("INTERVAL 1 DAY", "nvarchar(max)"),
        ("'a'::ENUM('a')", "nvarchar(max)"), ("'1'::JSON", "nvarchar(max)"),
        ("[1]", "nvarchar(max)"), ("{'a': 1}", "nvarchar(max)"), ("MAP {1: 2}", "nvarchar(max)"),
    ],
)  # fmt: skip
def test_every_type_of_a_mart_has_one_at_sql_server(sql: str, kind: str) -> None:
    (column,) = columns_of(f"{sql} AS c")
    assert column.type == kind


def test_texts_of_keys_and_indexes_are_as_long_as_a_key_may_be() -> None:
    publication = Publication("m.a", "a", ("k",), indexes=(("i", "b"),))
    columns = columns_of("'x' AS k, 'x' AS i, 'x'::BLOB AS b, 'x' AS v", publication)
    assert [c.type for c in columns] == [
        "nvarchar(450)", "nvarchar(450)", "varbinary(900)", "nvarchar(max)",
    ]  # fmt: skip
    assert [c.declared.rpartition(") ")[2] for c in columns] == ["NOT NULL", "NULL", "NULL", "NULL"]


def test_name_that_is_too_long_is_told() -> None:
    assert columns_of(f'1 AS "{"x" * 128}"')
    with pytest.raises(ConfigError, match="longer than the 128 characters"):
        columns_of(f'1 AS "{"😀" * 65}"')


REFUSED = [
    "'nan'::DOUBLE", "'-inf'::DOUBLE", "5e-324::DOUBLE", "'inf'::FLOAT", "1e-40::FLOAT",
    "'infinity'::TIMESTAMP", "DATE '0044-03-15 (BC)'", "DATE '10000-01-01'",
    "TIMESTAMPTZ '12024-01-01 00:00:00+00'", "TIME '24:00:00'",
    "100000000000000000000000000000000000000::HUGEINT",
]  # fmt: skip
TAKEN = [
    "1.7976931348623157e308::DOUBLE", "-2.2250738585072014e-308::DOUBLE", "0::FLOAT",
    "DATE '0001-01-01'", "DATE '9999-12-31'", "TIMESTAMP '9999-12-31 23:59:59.999999'",
    "TIME '23:59:59.999999'", "-99999999999999999999999999999999999999::HUGEINT", "NULL::DOUBLE",
]  # fmt: skip


@pytest.mark.parametrize("sql", REFUSED)
def test_value_that_sql_server_has_not_is_found_before_it_is_sent(sql: str) -> None:
    assert find_refused(sql) == (1, "7")


@pytest.mark.parametrize("sql", TAKEN)
def test_value_that_it_has_is_sent(sql: str) -> None:
    assert find_refused(sql) is None


@pytest.mark.parametrize(("text", "fits"), [("x" * 450, True), ("x" * 451, False),
                                            ("😀" * 225, True), ("😀" * 226, False),
                                            ("é" * 450, True)])  # fmt: skip
def test_length_of_a_key_is_counted_in_utf16(text: str, fits: bool) -> None:
    publication = Publication("m.a", "a", ("k",))
    columns = columns_of(f"'{text}' AS k", publication)
    sql = select_refused(columns, f"(SELECT '{text}' AS k)", ("k",))
    assert sql is not None
    assert (duckdb.sql(sql).fetchone() is None) == fits


def find_refused(sql: str) -> tuple[int, str] | None:
    columns = columns_of(f"1 AS id, {sql} AS c")
    rows = f"(SELECT i AS id, CASE WHEN i = 7 THEN {sql} END AS c FROM range(10) AS r(i))"
    found = select_refused(columns, rows, ("id",))
    row = duckdb.sql(found).fetchone() if found else None
    return (int(row[0]), str(row[2])) if row else None


def arrays(sql: str) -> list[tuple[list[tuple[Any, ...]], list[int]]]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW a AS {sql}")
        relation = describe(connection, "a")
        columns = map_columns(connection, relation, Publication("m.a", "a"), "t")
        return list(read_arrays(connection, columns, "a"))


def test_values_travel_in_a_form_that_the_server_reads_whatever_its_language() -> None:
    ((rows, sizes),) = arrays("""
        SELECT true AS a, DATE '2024-02-01' AS b, TIMESTAMP '2024-02-01 03:04:05.000006' AS c,
        TIMESTAMPTZ '2024-01-01 00:00:00.5+05' AS d, -0.0::DOUBLE AS e, 'é😀' AS f,
        'x'::BLOB AS g, [1, NULL] AS h, NULL::INTEGER AS i, 1.50::DECIMAL(9,2) AS j
    """)
    assert rows == [(
        "1", "2024-02-01", "2024-02-01 03:04:05.000006", "2023-12-31 19:00:00.5 +00:00", 0.0,
        "é😀", b"x", "[1,null]", None, "1.50",
    )]  # fmt: skip
    assert str(rows[0][4]) == "0.0"
    assert sizes[5] == 6  # at least the 3 units of UTF-16


def test_arrays_of_long_texts_hold_few_rows() -> None:
    found = arrays("SELECT repeat('x', 1000000) AS t, i FROM range(40) AS r(i)")
    assert sum(len(rows) for rows, _ in found) == 40
    assert max(len(rows) * 2 * sizes[0] for rows, sizes in found) <= ARRAY_BYTES


def test_checksum_tells_values_from_their_neighbours_and_null_from_text() -> None:
    columns = columns_of("'x' AS a, 'x' AS b, 1.0::DOUBLE AS c")
    rows = [("a", "b", 1.0), ("ab", "", 1.0), ("", "ab", 1.0), ("a", None, 1.0), ("a", "~", 1.0),
            ("a", "b", 1.0000000000000002), ("a|1:b", "", 1.0)]  # fmt: skip
    assert len({share(columns, r) for r in rows}) == len(rows)
    assert all(0 <= share(columns, r) < 1 << 56 for r in rows)


class PyodbcError(Exception):
    """As pyodbc raises it: SQLSTATE, then a text with the number at the end of each message."""


def error(state: str, *messages: tuple[str, int]) -> PyodbcError:
    text = "; ".join(
        f"[{state}] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{said} ({number}) "
        "(SQLExecDirectW)"
        for said, number in messages
    )
    return PyodbcError(state, text)


@pytest.mark.parametrize(
    ("state", "numbers", "kind"),
    [
        ("28000", [18456], AuthError), ("42000", [229], AuthError), ("42000", [262], AuthError),
        ("42000", [2760], AuthError), ("28000", [18456, 4060], ConfigError),
        ("08001", [911], ConfigError),
        ("HYT00", [0], UnreachableError), ("08001", [-1], UnreachableError),
        ("08S01", [10054], UnreachableError), ("40001", [1205], UnreachableError),
        ("42000", [1222], UnreachableError), ("HY000", [40613], UnreachableError),
        # What is not there is made: another session's first load was faster.
        ("42S01", [2714], UnreachableError), ("42S01", [2714, 2759], UnreachableError),
        ("42000", [9002], ResourcesError), ("42000", [1105], ResourcesError),
        ("42S02", [208], LoadError), ("42000", [102], LoadError),
    ],
)  # fmt: skip
def test_failures_are_told_by_number_and_state(
    state: str, numbers: list[int], kind: type[EtlError]
) -> None:
    found = classify(error(state, *(("said (1) so", n) for n in numbers)), "t", "publishing")
    assert type(found) is kind
    assert "publishing at target t failed: said (1) so" in str(found)
    assert str(next((n for n in numbers if n > 0), state)) in str(found)


def test_column_that_differs_in_case_only_is_explained() -> None:
    """To most servers it is the one that the mart's would be added beside."""
    said = "Column name 'id' in table 'dbo.a' is specified more than once."
    found = classify(error("42S21", (said, 2705)), "t", "publishing")
    assert type(found) is LoadError
    assert "upper and lower case" in found.hint


def test_message_that_quotes_a_value_is_not_shown() -> None:
    said = "String or binary data would be truncated in table 'a', column 'v'. Truncated value: 'x"
    found = words_of(error("22001", (said, 2628), ("The statement has been terminated.", 3621)))
    assert found == "the text is too long for the column (2628)"


def test_message_of_a_duplicate_names_the_index_and_no_value() -> None:
    """It may be of a unique index on a column that is no key, such as an address."""
    said = (
        "Cannot insert duplicate key row in object 'dbo.a' with unique index 'ux'. The duplicate "
        "key value is (ann@example.com, (1)\n)."
    )
    found = words_of(error("23000", (said, 2601), ("The statement has been terminated.", 3621)))
    assert found == said.partition("(")[0] + "(...). (2601)"


def test_missing_driver_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyodbc", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Without("pyodbc"), *sys.meta_path])
    with pytest.raises(ConfigError) as caught:
        load_driver("t")
    assert caught.value.hint == "pip install 'etl-job[mssql]'"


def test_missing_driver_manager_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyodbc", None)
    monkeypatch.delitem(sys.modules, "pyodbc")
    monkeypatch.setattr(sys, "meta_path", [_Without("pyodbc", ImportError), *sys.meta_path])
    with pytest.raises(ConfigError, match="driver manager") as caught:
        load_driver("t")
    assert "apt-get install unixodbc" in caught.value.hint


def test_missing_microsoft_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mssql_python_odbc", None)
    registered: list[str] = []
    fake: Any = SimpleNamespace(drivers=lambda: registered, pooling=True)
    monkeypatch.setitem(sys.modules, "pyodbc", fake)
    with pytest.raises(ConfigError, match="ODBC driver 18"):
        load_driver("t")
    registered.append("ODBC Driver 17 for SQL Server")
    assert load_driver("t") == (fake, "ODBC Driver 17 for SQL Server")
    assert fake.pooling is False


def test_wheel_has_a_driver_for_this_system(tmp_path: Any) -> None:
    found = bundled_driver()
    assert found is not None
    assert found.is_file()
    empty = ModuleType("mssql_python_odbc")
    empty.__file__ = str(tmp_path / "__init__.py")
    assert find_library(empty) is None


class _Without:
    """An import system without a module."""

    def __init__(self, name: str, kind: type[ImportError] = ModuleNotFoundError) -> None:
        self.name, self.kind = name, kind

    def find_spec(self, name: str, *_: Any) -> None:
        if name == self.name:
            raise self.kind(f"libodbc.so.2 is not there: {name}")


def test_names_of_indexes_fit() -> None:
    assert index_name(Table("dbo", "a"), ("b", "c")) == "ix_a_b_c"
    long = [index_name(Table("dbo", "a"), ("x" * 100, c)) for c in ("y" * 30, "y" * 31)]
    assert len(set(long)) == 2
    assert all(len(n) <= 128 for n in long)
