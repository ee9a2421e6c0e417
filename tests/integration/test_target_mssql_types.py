"""Every type's journey to SQL Server and back; see `ETL_TEST_MSSQL_DSN` in docs/sqlserver.md."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from etl.errors import LoadError
from tests.integration.servers import A, SqlServer, mssql, warehouse

__all__ = ["mssql", "warehouse"]

# DuckDB's expression, SQL Server's type, what a reader gets; times as text of the server.
VALUES: list[tuple[str, str, Any]] = [
    ("true", "bit", True),
    ("200::UTINYINT", "tinyint", 200),
    ("(-9223372036854775808)::BIGINT", "bigint", -(2**63)),
    ("18446744073709551615::UBIGINT", "decimal", Decimal(2**64 - 1)),
    ("-12345678901234567890123456789.123456789::DECIMAL(38,9)", "decimal",
     Decimal("-12345678901234567890123456789.123456789")),
    ("0.1::DOUBLE", "float", 0.1),
    ("1.7976931348623157e308::DOUBLE", "float", 1.7976931348623157e308),
    ("-0.0::DOUBLE", "float", 0.0),
    ("0.25::FLOAT", "real", 0.25),
    ("DATE '0001-01-01'", "date", date(1, 1, 1)),
    ("TIME '01:00:00.123456'", "time", "01:00:00.123456"),
    ("TIMESTAMP '2024-02-29 23:59:59.000001'", "datetime2",
     datetime.fromisoformat("2024-02-29T23:59:59.000001")),
    ("TIMESTAMPTZ '2024-01-01 00:00:00.500001+05'", "datetimeoffset",
     "2023-12-31 19:00:00.500001 +00:00"),
    ("'tab\t, line\n, return\r, back\\slash \"q\" ''q'''", "nvarchar",
     "tab\t, line\n, return\r, back\\slash \"q\" 'q'"),
    ("''", "nvarchar", ""),
    ("'blanks  '", "nvarchar", "blanks  "),
    ("'é 漢 😀 𐍈'", "nvarchar", "é 漢 😀 𐍈"),
    ("repeat('x😀', 250000)", "nvarchar", "x😀" * 250_000),
    ("'\\xAB\\x00\\x5C\\x00'::BLOB", "varbinary", b"\xab\x00\\\x00"),
    ("''::BLOB", "varbinary", b""),
    ("'12345678-1234-5678-1234-567812345678'::UUID", "uniqueidentifier",
     str(uuid.UUID("12345678-1234-5678-1234-567812345678")).upper()),
    ("[1.5::DOUBLE, NULL]", "nvarchar", "[1.5,null]"),
    ("{'when': DATE '2024-01-01'}", "nvarchar", '{"when":"2024-01-01"}'),
    ("TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", "nvarchar", "2020-01-01 00:00:00.123456789"),
    ("NULL::INTEGER", "int", None),
]  # fmt: skip
_AS_TEXT = {"time", "datetimeoffset"}


def test_every_type_comes_out_as_it_went_in(mssql: SqlServer) -> None:
    columns = ", ".join(f"{sql} AS c{i}" for i, (sql, _, _) in enumerate(VALUES))
    empty = ", ".join(f"CASE WHEN false THEN {sql} END" for sql, _, _ in VALUES)
    mssql.change(
        f"CREATE OR REPLACE VIEW marts.a AS SELECT 1 AS id, {columns} UNION ALL SELECT 2, {empty}"
    )
    assert mssql.publish(A)["a"].rows_at_target == 2
    types = dict(
        mssql.query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'a'"
        )
    )
    for i, (sql, kind, value) in enumerate(VALUES):
        name = f"CAST(c{i} AS nvarchar(60))" if kind in _AS_TEXT else f"c{i}"
        (found,), (null,) = mssql.query(f"SELECT {name} FROM a ORDER BY id")
        assert types[f"c{i}"] == kind, sql
        assert found == value, sql
        assert null is None, sql
    assert mssql.publish(A)["a"].status == "unchanged"


def test_value_that_sql_server_has_not_is_named_by_row_and_column(mssql: SqlServer) -> None:
    mssql.change("""
        CREATE OR REPLACE TABLE base.a AS SELECT i AS id, 'x' AS w,
        CASE WHEN i = 7654 THEN 'nan'::DOUBLE END AS v FROM range(20000) AS r(i)
    """)
    with pytest.raises(LoadError, match=r"dbo\.a at target there, row id = 7654, column v"):
        mssql.publish(A)
    assert not mssql.exists("a")
