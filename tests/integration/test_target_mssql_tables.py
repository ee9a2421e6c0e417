"""Tables at SQL Server that somebody else made; see `ETL_TEST_MSSQL_DSN` in docs/sqlserver.md."""

from __future__ import annotations

from tests.integration.servers import A, SqlServer, counts, mssql, warehouse

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
        mssql.change("""
            UPDATE base.a SET v = 'changed' WHERE id = 1;
            DELETE FROM base.a WHERE id = 2;
            INSERT INTO base.a VALUES (10, 'new');
        """)
        assert counts(mssql.publish(A)["a"]) == ("published", 1, 1, 1, 10, True)
