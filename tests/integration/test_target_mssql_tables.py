"""Tables at SQL Server that somebody else made; see `ETL_TEST_MSSQL_DSN` in docs/sqlserver.md."""

from __future__ import annotations

import pytest

from etl.errors import ConfigError, LoadError
from etl.settings import Strategy
from etl.targets import Publication
from tests.integration.servers import CHANGE, A, SqlServer, counts, mssql, warehouse

__all__ = ["mssql", "warehouse"]


def test_log_in_with_grants_alone_can_publish_into_a_table_that_is_there(mssql: SqlServer) -> None:
    """What docs/sqlserver.md says a log-in needs when tables are made by somebody else."""
    mssql.make("id bigint NOT NULL PRIMARY KEY, v text, etl_version rowversion")
    mssql.query(
        "CREATE TABLE etl_publications (table_name nvarchar(300) PRIMARY KEY, model nvarchar(300), "
        'publication_id nvarchar(32), "rows" bigint, versions decimal(38,0), '
        "published_at datetimeoffset(6))"
    )
    with mssql.publishing_as("etl_test_loader"):
        for table in ("a", "etl_publications"):
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                mssql.query(f"GRANT {right} ON {table} TO etl_test_loader")
        assert mssql.publish(A)["a"].reconciled
        mssql.change(CHANGE)
        assert counts(mssql.publish(A)["a"]) == ("published", 1, 1, 1, 10, True)


@pytest.mark.parametrize("says", ["SELECT 42 AS n", "PRINT 'seen'", "RAISERROR ('seen', 0, 1)"])
@pytest.mark.parametrize("strategy", ["replace", "merge"])
def test_what_a_trigger_selects_or_prints_changes_nothing(
    mssql: SqlServer, strategy: Strategy, says: str
) -> None:
    publication = Publication("marts.a", "a", ("id",), strategy)
    mssql.publish(publication)
    mssql.query(f"CREATE TRIGGER told ON a AFTER INSERT, UPDATE, DELETE AS {says}")
    mssql.change("UPDATE base.a SET v = 'changed' WHERE id < 3; INSERT INTO base.a VALUES (10, '')")
    assert counts(mssql.publish(publication)["a"]) == ("published", 1, 3, 0, 11, True)


def test_what_a_trigger_fails_with_is_told_though_it_selected_first(mssql: SqlServer) -> None:
    mssql.publish(A)
    mssql.query(
        "CREATE TRIGGER told ON a AFTER UPDATE AS SELECT 42 AS n; RAISERROR ('not today', 16, 1); "
        "ROLLBACK TRANSACTION"
    )
    mssql.change("UPDATE base.a SET v = 'changed' WHERE id = 1")
    with pytest.raises(LoadError, match="not today"):
        mssql.publish(A)
    assert mssql.query("SELECT v FROM a WHERE id = 1") == [("v1",)]


@pytest.mark.parametrize("key", [("id",), ()])
def test_temporary_table_is_none_to_publish_into(mssql: SqlServer, key: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="is no table"):
        mssql.publish(Publication("marts.a", "#a", key))
