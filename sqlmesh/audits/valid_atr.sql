AUDIT (
  name valid_atr,
  dialect duckdb
);

/* Guards the smoothing: a true range is never negative, and so is no average of them. */
SELECT
  *
FROM @this_model
WHERE
  atr_14_day < 0 OR atr_14_day_simple < 0