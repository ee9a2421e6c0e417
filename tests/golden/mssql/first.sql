SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT COUNT(*) FROM sys.schemas WHERE name = ?;

EXEC(N'CREATE SCHEMA "dbo"');

CREATE TABLE "dbo"."etl_publications" (table_name nvarchar(300) NOT NULL PRIMARY KEY, model nvarchar(300) NOT NULL, publication_id nvarchar(32) NOT NULL, "rows" bigint NOT NULL, versions decimal(38,0) NOT NULL, published_at datetimeoffset(6) NOT NULL);

EXEC sys.sp_addextendedproperty @name = N'MS_Description', @value = ?, @level0type = N'SCHEMA', @level0name = ?, @level1type = N'TABLE', @level1name = ?;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT CAST(@@DBTS AS bigint) + 1;

CREATE TABLE #etl_sent_N ("etl: row" bigint IDENTITY(1,1) NOT NULL, "id" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "key""d" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "amount" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "is_paid" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "rate" float NULL, "paid_at" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "day" nvarchar(max) COLLATE DATABASE_DEFAULT NULL, "data" varbinary(max) NULL, "tags" nvarchar(max) COLLATE DATABASE_DEFAULT NULL);

INSERT INTO #etl_sent_N ("id", "key""d", "amount", "is_paid", "rate", "paid_at", "day", "data", "tags") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

SELECT COUNT_BIG(*), COALESCE(SUM(CAST(CAST(SUBSTRING(HASHBYTES('MD5', CONCAT(CAST(N'' AS nvarchar(max)), COALESCE(CAST(DATALENGTH("id") AS nvarchar(20)) + N':' + "id", N'~'), N'|', COALESCE(CAST(DATALENGTH("key""d") AS nvarchar(20)) + N':' + "key""d", N'~'), N'|', COALESCE(CAST(DATALENGTH("amount") AS nvarchar(20)) + N':' + "amount", N'~'), N'|', COALESCE(CAST(DATALENGTH("is_paid") AS nvarchar(20)) + N':' + "is_paid", N'~'), N'|', COALESCE(CONVERT(nvarchar(max), CAST("rate" AS binary(8)), 2), N'~'), N'|', COALESCE(CAST(DATALENGTH("paid_at") AS nvarchar(20)) + N':' + "paid_at", N'~'), N'|', COALESCE(CAST(DATALENGTH("day") AS nvarchar(20)) + N':' + "day", N'~'), N'|', COALESCE(CONVERT(nvarchar(max), "data", 2), N'~'), N'|', COALESCE(CAST(DATALENGTH("tags") AS nvarchar(20)) + N':' + "tags", N'~'))), 1, 7) AS bigint) AS decimal(38,0))), 0) FROM #etl_sent_N;

SELECT "etl: row" + 0 AS "etl: row", CAST("id" AS bigint) AS "id", CAST("key""d" AS nvarchar(450)) AS "key""d", CAST("amount" AS decimal(38,9)) AS "amount", CAST("is_paid" AS bit) AS "is_paid", "rate", CAST("paid_at" AS datetimeoffset(6)) AS "paid_at", CAST("day" AS date) AS "day", CAST("data" AS varbinary(max)) AS "data", CAST("tags" AS nvarchar(max)) AS "tags" INTO #etl_staged_N FROM #etl_sent_N;

DROP TABLE #etl_sent_N;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT COUNT(*) FROM sys.schemas WHERE name = ?;

EXEC(N'CREATE SCHEMA "reports"');

CREATE TABLE "reports"."a" ("id" bigint NOT NULL, "key""d" nvarchar(450) NULL, "amount" decimal(38,9) NULL, "is_paid" bit NULL, "rate" float NULL, "paid_at" datetimeoffset(6) NULL, "day" date NULL, "data" varbinary(max) NULL, "tags" nvarchar(max) NULL, "etl_version" rowversion);

EXEC sys.sp_addextendedproperty @name = N'MS_Description', @value = ?, @level0type = N'SCHEMA', @level0name = ?, @level1type = N'TABLE', @level1name = ?;

EXEC sys.sp_addextendedproperty @name = N'MS_Description', @value = ?, @level0type = N'SCHEMA', @level0name = ?, @level1type = N'TABLE', @level1name = ?, @level2type = N'COLUMN', @level2name = ?;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT c.column_id, c.name, t.name, c.max_length, c.precision, c.scale, c.is_nullable FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id WHERE c.object_id = ? ORDER BY c.column_id;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT c.column_id, c.name, t.name, c.max_length, c.precision, c.scale, c.is_nullable FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id WHERE c.object_id = ? ORDER BY c.column_id;

SAVE TRANSACTION etl_change;

INSERT INTO "reports"."a" WITH (TABLOCKX) ("id", "key""d", "amount", "is_paid", "rate", "paid_at", "day", "data", "tags") SELECT s."id", s."key""d", s."amount", s."is_paid", s."rate", s."paid_at", s."day", s."data", s."tags" FROM #etl_staged_N AS s WHERE 1 = 1 AND NOT EXISTS (SELECT 1 FROM "reports"."a" AS t WHERE t."id" = s."id"); SELECT ROWCOUNT_BIG() AS "etl: rows";

SELECT COUNT(*) FROM sys.indexes WHERE object_id = OBJECT_ID(?) AND is_primary_key = 1;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT c.column_id, c.name, t.name, c.max_length, c.precision, c.scale, c.is_nullable FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id WHERE c.object_id = ? ORDER BY c.column_id;

ALTER TABLE "reports"."a" ADD PRIMARY KEY ("id");

SELECT i.index_id, c.name FROM sys.indexes AS i JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id WHERE i.object_id = OBJECT_ID(?) AND i.is_disabled = 0 AND i.has_filter = 0 AND k.is_included_column = 0 ORDER BY i.index_id, k.key_ordinal;

CREATE INDEX "ix_a_key""d" ON "reports"."a" ("key""d");

SELECT i.index_id, c.name FROM sys.indexes AS i JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id WHERE i.object_id = OBJECT_ID(?) AND i.is_disabled = 0 AND i.has_filter = 0 AND k.is_included_column = 0 ORDER BY i.index_id, k.key_ordinal;

SELECT COUNT_BIG(*), SUM(CAST(CAST("etl_version" AS bigint) AS decimal(38,0))) FROM "reports"."a" WITH (TABLOCK, HOLDLOCK);

SELECT coalesce(sum(CASE WHEN 1 = 1 THEN CAST(1 AS bigint) ELSE 0 END), 0), coalesce(sum(CASE WHEN d.n = 1 THEN CAST(1 AS bigint) ELSE 0 END), 0) FROM (SELECT CASE WHEN EXISTS (SELECT t."id", DATALENGTH(CAST(t."key""d" AS nvarchar(max))), CAST(CAST(t."key""d" AS nvarchar(max)) AS varbinary(max)), t."amount", t."is_paid", t."rate", t."paid_at", t."day", DATALENGTH(t."data"), CAST(t."data" AS varbinary(max)), DATALENGTH(CAST(t."tags" AS nvarchar(max))), CAST(CAST(t."tags" AS nvarchar(max)) AS varbinary(max)) EXCEPT SELECT s."id", DATALENGTH(CAST(s."key""d" AS nvarchar(max))), CAST(CAST(s."key""d" AS nvarchar(max)) AS varbinary(max)), s."amount", s."is_paid", s."rate", s."paid_at", s."day", DATALENGTH(s."data"), CAST(s."data" AS varbinary(max)), DATALENGTH(CAST(s."tags" AS nvarchar(max))), CAST(CAST(s."tags" AS nvarchar(max)) AS varbinary(max))) THEN 1 ELSE 0 END AS n FROM #etl_staged_N AS s JOIN "reports"."a" AS t ON t."id" = s."id") AS d;

SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS n ON n.schema_id = o.schema_id WHERE n.name = ? AND o.name = ?;

SELECT c.column_id, c.name, t.name, c.max_length, c.precision, c.scale, c.is_nullable FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id WHERE c.object_id = ? ORDER BY c.column_id;

SELECT CAST(@@DBTS AS bigint) + 1;

DELETE FROM "dbo"."etl_publications" WHERE table_name = ?;

INSERT INTO "dbo"."etl_publications" (table_name, model, publication_id, "rows", versions, published_at) VALUES (?, ?, ?, ?, CAST(? AS decimal(38,0)), SYSDATETIMEOFFSET());
