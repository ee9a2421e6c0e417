"""Every type's journey to PostgreSQL and back, and values that it cannot hold."""

from __future__ import annotations

import gc
import json
import math
import re
import uuid
from collections.abc import Generator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from etl.errors import ExitCode, LoadError, Stopped
from etl.targets.batches import read_batches
from etl.targets.postgres.columns import Column
from etl.targets.postgres.rows import write_rows
from etl.targets.postgres.statements import Statements
from etl.targets.server.session import Change, Staged, Table
from tests.integration.servers import A, Postgres, pg, warehouse

__all__ = ["pg", "warehouse"]

# DuckDB's expression, PostgreSQL's type, what a reader gets.
VALUES: list[tuple[str, str, Any]] = [
    ("true", "boolean", True),
    ("200::UTINYINT", "smallint", 200),
    ("(-9223372036854775808)::BIGINT", "bigint", -(2**63)),
    ("(-128)::TINYINT", "smallint", -128),
    ("65535::USMALLINT", "integer", 65535),
    ("4294967295::UINTEGER", "bigint", 2**32 - 1),
    ("18446744073709551615::UBIGINT", "numeric", Decimal(2**64 - 1)),
    ("170141183460469231731687303715884105727::HUGEINT", "numeric", Decimal(2**127 - 1)),
    ("(-170141183460469231731687303715884105728)::HUGEINT", "numeric", Decimal(-(2**127))),
    ("(-18446744073709551616)::HUGEINT", "numeric", Decimal(-(2**64))),
    ("-12345678901234567890123456789.123456789::DECIMAL(38,9)", "numeric",
     Decimal("-12345678901234567890123456789.123456789")),
    ("0.1::DOUBLE", "double precision", 0.1),
    ("1.7976931348623157e308::DOUBLE", "double precision", 1.7976931348623157e308),
    ("5e-324::DOUBLE", "double precision", 5e-324),
    ("-0.0::DOUBLE", "double precision", -0.0),
    ("'inf'::DOUBLE", "double precision", math.inf),
    ("'-inf'::FLOAT", "real", -math.inf),
    ("'nan'::DOUBLE", "double precision", math.nan),
    ("(-('nan'::FLOAT))", "real", math.nan),
    ("DATE '0001-01-01'", "date", date(1, 1, 1)),
    ("TIME '01:00:00.120'", "time without time zone", time(1, 0, 0, 120000)),
    ("TIMESTAMP '2024-02-29 23:59:59.000001'", "timestamp without time zone",
     datetime.fromisoformat("2024-02-29T23:59:59.000001")),
    ("TIMESTAMP_S '1969-12-31 23:59:59'", "timestamp without time zone",
     datetime.fromisoformat("1969-12-31T23:59:59")),
    ("TIMESTAMPTZ '2024-01-01 00:00:00.5+05'", "timestamp with time zone",
     datetime(2023, 12, 31, 19, 0, 0, 500000, tzinfo=UTC)),
    ("'tab\t, line\n, return\r, back\\slash \\N \\x \"q\" ''q''' || chr(1) || chr(127)", "text",
     "tab\t, line\n, return\r, back\\slash \\N \\x \"q\" 'q'\x01\x7f"),
    ("''", "text", ""),
    ("'\\N'", "text", "\\N"),
    ("'é 漢 😀 𐍈 ' || chr(917504 + 1) || chr(1114109)", "text", "é 漢 😀 𐍈 \U000e0001\U0010fffd"),
    ("repeat('x😀', 250000)", "text", "x😀" * 250_000),
    ("'\\xAB\\x00\\x5C\\x0A'::BLOB", "bytea", b"\xab\x00\\\n"),
    ("''::BLOB", "bytea", b""),
    ("'12345678-1234-5678-1234-567812345678'::UUID", "uuid",
     uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("""'{"z": [1.50, null, "\\u00e9\\n"], "a": {}}'::JSON""", "jsonb",
     {"z": [1.5, None, "é\n"], "a": {}}),
    ("'null'::JSON", "jsonb", None),
    ("[1.123456789::DECIMAL(38,9), NULL]", "jsonb", [1.123456789, None]),
    ("['a\\b', 'c\t\"d\"']", "jsonb", ["a\\b", 'c\t"d"']),
    ("{'when': DATE '2024-01-01', 'x': {'y': [true]}}", "jsonb",
     {"when": "2024-01-01", "x": {"y": [True]}}),
    ("MAP {'k': 1.5}", "jsonb", {"k": 1.5}),
    ("INTERVAL '1 month 1 microsecond'", "text", "1 month 00:00:00.000001"),
    ("TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", "text", "2020-01-01 00:00:00.123456789"),
    ("'b'::ENUM('a', 'b')", "text", "b"),
    ("NULL::INTEGER", "integer", None),
]  # fmt: skip


def test_every_type_comes_out_as_it_went_in(pg: Postgres) -> None:
    columns = ", ".join(f"{sql} AS c{i}" for i, (sql, _, _) in enumerate(VALUES))
    empty = ", ".join(f"CASE WHEN false THEN {sql} END" for sql, _, _ in VALUES)
    pg.change(
        f"CREATE OR REPLACE VIEW marts.a AS SELECT 1 AS id, {columns} UNION ALL SELECT 2, {empty}"
    )
    assert pg.publish(A)["a"].rows_at_target == 2
    rows = pg.query("SELECT * FROM a ORDER BY id")
    nulls = " AND ".join(f"c{i} IS NULL" for i in range(len(VALUES)))
    assert pg.query(f"SELECT id FROM a WHERE {nulls}") == [(2,)]
    types = dict(
        pg.query(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            "WHERE attrelid = 'a'::regclass AND attnum > 0"
        )
    )
    for i, (sql, kind, value) in enumerate(VALUES):
        found = rows[0][i + 1]
        assert types[f"c{i}"] == kind, sql
        if isinstance(value, float):
            assert str(found) == str(value), sql
        else:
            assert found == value, sql
        assert rows[1][i + 1] is None, sql
    assert pg.publish(A)["a"].status == "unchanged"


def test_numbers_of_every_size_are_written_as_the_server_writes_them(pg: Postgres) -> None:
    """The checksum is over the server's own form of each value: a wrong one is code 12."""
    kinds = ["DECIMAL(4,1)", "DECIMAL(9,0)", "DECIMAL(18,2)", "DECIMAL(18,18)", "DECIMAL(19,4)",
             "DECIMAL(38,9)", "DECIMAL(38,38)", "HUGEINT", "UHUGEINT", "UBIGINT"]  # fmt: skip
    columns = []
    for n, kind in enumerate(kinds):
        places = int(kind.partition("(")[2].partition(",")[0] or {"UBIGINT": 19}.get(kind, 38))
        scale = int(kind.rstrip(")").partition(",")[2] or 0)
        sign = "-" if "U" not in kind or kind == "HUGEINT" else ""
        # Digits in groups of zeros and others, so many of them, below or above zero.
        digits = (
            f"left(replace(hash(i + {n})::VARCHAR || hash(i * 7 + {n})::VARCHAR, "
            f"(i % 10)::VARCHAR, '0000'), (i % {places} + 1)::INTEGER)"
        )
        text = f"(CASE WHEN i % 2 = 0 THEN '{sign}' ELSE '' END) || {digits}"
        if scale:
            padded = f"lpad({digits}, {scale + 1 if scale < places else scale}, '0')"
            text = (f"(CASE WHEN i % 2 = 0 THEN '-' ELSE '' END) || left({padded}, -{scale}) "
                    f"|| '.' || right({padded}, {scale})")  # fmt: skip
        columns.append(f"CASE WHEN i % 11 > 0 THEN ({text})::{kind} END AS c{n}")
    most = "340282366920938463463374607431768211455::UHUGEINT"
    pg.change(
        f"CREATE OR REPLACE TABLE base.a AS SELECT i AS id, {', '.join(columns)}, "
        "CASE WHEN i % 3 > 0 THEN (i % 200)::UTINYINT END AS t, "
        "CASE WHEN i % 3 > 0 THEN i % 5 = 0 END AS f, "
        "CASE WHEN i % 3 > 0 THEN (i / 7)::FLOAT END AS r, "
        f"CASE WHEN i % 2 = 0 THEN {most} END AS u, "
        "CASE WHEN i % 3 > 0 THEN DATE '1990-01-01' + i::INTEGER END AS d, "
        "CASE WHEN i % 3 > 0 THEN repeat('x', (i % 4)::INTEGER) END AS s "
        "FROM range(3000) AS r(i)"
    )
    pg.change("CREATE OR REPLACE VIEW marts.a AS SELECT * FROM base.a")
    assert pg.publish(A)["a"].reconciled
    names = [f"c{n}" for n in range(len(kinds))] + ["t", "f", "u", "d", "s"]
    listed = ", ".join(f"{name}::text AS {name}" for name in names)
    found = pg.query(f"SELECT id, {listed} FROM a ORDER BY id")
    expected = pg.warehouse.execute(f"SELECT id, {listed} FROM marts.a ORDER BY id").fetchall()
    # DuckDB writes no zero before the point where a type has no place for it.
    assert found == [
        tuple(re.sub(r"^(-?)\.", r"\g<1>0.", v) if isinstance(v, str) else v for v in row)
        for row in expected
    ]


def test_texts_are_the_same_in_a_database_of_another_encoding(pg: Postgres) -> None:
    with pg.server.admin() as connection:
        pg.database = f"latin_{pg.database}"
        connection.execute(
            f"CREATE DATABASE {pg.database} OWNER etl TEMPLATE template0 ENCODING 'LATIN1' "
            "LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    pg.change("UPDATE base.a SET v = 'é' WHERE id = 1")
    assert pg.publish(A)["a"].reconciled
    assert pg.query("SELECT v, length(v) FROM a WHERE id = 1") == [("é", 1)]
    pg.change("UPDATE base.a SET v = '漢' WHERE id = 7")
    with pytest.raises(LoadError, match="row id = 7, column v: refused"):
        pg.publish(A)


def test_row_that_cannot_be_computed_is_found_while_others_travel(pg: Postgres) -> None:
    pg.change("""CREATE OR REPLACE VIEW marts.a AS SELECT i AS id,
        CASE WHEN i = 25000 THEN 'x' ELSE '1' END::INTEGER AS v FROM range(30000) AS r(i)""")
    with pytest.raises(LoadError, match="Could not convert string 'x'"):
        pg.publish(A)
    assert pg.query("SELECT to_regclass('a')") == [(None,)]


def test_dates_beyond_python_arrive_too(pg: Postgres) -> None:
    pg.change("""
        CREATE OR REPLACE VIEW marts.a AS SELECT 1 AS id, 'infinity'::TIMESTAMP AS a,
        '-infinity'::DATE AS b, 'infinity'::TIMESTAMPTZ AS c, DATE '0044-03-15 (BC)' AS d,
        TIMESTAMP '0044-03-15 (BC) 12:00:00.25' AS e,
        TIMESTAMPTZ '0044-03-15 (BC) 12:00:00+00' AS f,
        TIMESTAMPTZ '12024-01-01 00:00:00+00' AS g
    """)
    assert pg.publish(A)["a"].reconciled
    with pg.server.admin(pg.database) as connection:
        connection.execute("SET timezone = 'UTC'")
        (row,) = connection.execute(
            "SELECT a::text, b::text, c::text, d::text, e::text, f::text, g::text FROM a"
        ).fetchall()
    assert row == (
        "infinity", "-infinity", "infinity", "0044-03-15 BC", "0044-03-15 12:00:00.25 BC",
        "0044-03-15 12:00:00+00 BC", "12024-01-01 00:00:00+00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "column", "said"),
    [
        ("'a' || chr(0) || 'b'", "v", "0x00"),
        ("{'x': 'nan'::DOUBLE}", "v", "json"),
        ('\'{"a": "\\u0000"}\'::JSON', "v", "Unicode"),
        ("DATE '5874898-01-01'", "v", "date"),
    ],
)
def test_value_that_postgres_cannot_hold_is_named_by_row_and_column(
    pg: Postgres, value: str, column: str, said: str
) -> None:
    pg.change(f"""
        CREATE OR REPLACE TABLE base.a AS SELECT i AS id, 'x' AS w,
        CASE WHEN i = 7654 THEN {value} END AS v FROM range(20000) AS r(i)
    """)
    with pytest.raises(LoadError, match=said) as caught:
        pg.publish(A)
    assert "row id = 7654" in str(caught.value)
    assert f"column {column}" in str(caught.value)
    assert "table public.a" in str(caught.value)
    assert pg.query("SELECT to_regclass('a')") == [(None,)]


@pytest.mark.parametrize(("value", "ends"), [("chr(0)", LoadError), ("'v'", Stopped)])
def test_warehouse_can_be_opened_again_after_rows_were_refused_or_the_run_stopped(
    pg: Postgres, monkeypatch: pytest.MonkeyPatch, value: str, ends: type[BaseException]
) -> None:
    """DuckDB hangs when it opens a file of which a stream is still read."""
    opened = []

    def watched(*arguments: Any) -> Generator[Any]:
        opened.append(arguments)
        try:
            yield from read_batches(*arguments)
        finally:
            opened.pop()

    def stopped(columns: Any, values: Any) -> Any:
        if ends is Stopped and int(values[0][0].as_py()) > 0:
            raise Stopped(ExitCode.TERMINATED)
        return write_rows(columns, values)

    monkeypatch.setattr("etl.targets.postgres.staging.read_batches", watched)
    monkeypatch.setattr("etl.targets.postgres.staging.write_rows", stopped)
    pg.change(f"""CREATE OR REPLACE TABLE base.a AS
        SELECT i AS id, CASE WHEN i = 7 THEN {value} END AS v FROM range(20000) AS r(i)""")
    gc.disable()  # what is collected some time is too late
    try:
        with pytest.raises(ends) as caught:
            pg.publish(A)
        assert not opened, caught  # which keeps the traceback
    finally:
        gc.enable()


def test_column_names_of_any_kind(pg: Postgres) -> None:
    pg.change(
        """CREATE OR REPLACE VIEW marts.a AS SELECT 1 AS id, 2 AS "we""ird %s {x}", 3 AS "s",
        4 AS "T", 5 AS "etl_hash", 6 AS "etl_row", 7 AS "select", 8 AS "Ünï" """
    )
    assert pg.publish(A)["a"].reconciled
    assert pg.query("SELECT * FROM a") == [(1, 2, 3, 4, 5, 6, 7, 8)]
    assert json.dumps(pg.query("""SELECT "we""ird %s {x}", "T" FROM a""")) == "[[2, 4]]"


def test_texts_are_compared_by_their_characters() -> None:
    """Whatever the collation of the column. (The tests' server has none that ignores case.)"""
    columns = Column("id", "bigint"), Column("v", "text")
    change = Change(Table("public", "a"), A, Staged("s", columns, 1))
    assert Statements(change).differs(columns) == (
        'ROW(t."id", t."v"::text COLLATE "C", octet_length(t."v")) IS DISTINCT FROM '
        'ROW(s."id", s."v"::text COLLATE "C", octet_length(s."v"))'
    )
