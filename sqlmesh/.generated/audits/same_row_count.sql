AUDIT (
  name same_row_count,
  dialect duckdb
);

/* Guards a join: the model has exactly as many rows as @base_model. Returns both numbers. */
WITH counts AS (
  SELECT
    (
      SELECT
        COUNT(*)
      FROM @this_model
    ) AS rows_here,
    (
      SELECT
        COUNT(*)
      FROM @base_model
    ) AS rows_in_base
)
SELECT
  rows_here,
  rows_in_base
FROM counts
WHERE
  rows_here <> rows_in_base