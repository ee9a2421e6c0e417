AUDIT (
  name relationship,
  dialect duckdb
);

/* Guards a reference: the values of @columns, none of them NULL, are found in @parent_columns of
@parent_model. Returns the rows that refer to nothing. */
SELECT
  *
FROM @this_model
WHERE
  @AND(@EACH(@columns, c -> NOT c IS NULL))
  AND NOT @columns IN (
    SELECT
      @parent_columns
    FROM @parent_model
  )