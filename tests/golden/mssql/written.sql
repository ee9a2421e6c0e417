SELECT CAST(@@DBTS AS bigint) + 1;

SELECT COUNT_BIG(*), SUM(CASE WHEN CAST("etl_version" AS bigint) >= 1 THEN CAST(1 AS bigint) ELSE 0 END) FROM "dbo"."Prices";

SELECT COUNT_BIG(*), SUM(CASE WHEN 1 = 0 THEN CAST(1 AS bigint) ELSE 0 END) FROM "dbo"."Prices";
