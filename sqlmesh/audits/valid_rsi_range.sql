AUDIT (
  name valid_rsi_range,
  dialect duckdb
);

/* Guards the smoothing: an RSI lies between 0 and 100, smoothed or simple. */
SELECT
  *
FROM @this_model
WHERE
  NOT rsi_14_day BETWEEN 0 AND 100 OR NOT rsi_14_day_simple BETWEEN 0 AND 100