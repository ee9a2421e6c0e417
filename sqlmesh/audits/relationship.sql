AUDIT (
  name relationship,
  dialect duckdb
);

/* Guards a reference: every non-null value of @column is found in @parent_column of @parent_model. Returns the orphans. */
SELECT
  children.*
FROM @this_model AS children
LEFT JOIN @parent_model AS parents
  ON children.@column = parents.@parent_column
WHERE
  NOT children.@column IS NULL AND parents.@parent_column IS NULL