AUDIT (
  name days_unique,
  dialect duckdb
);

/* Guards against a ticker's day that comes twice, among the days from the first one on that was made again: those before
it were judged when they were made. */
SELECT
  ticker,
  trade_date
FROM @this_model
WHERE
  trade_date >= (
    SELECT
      MIN(trade_date)
    FROM staging.int_markets__smoothed
    WHERE
      _changed_at BETWEEN @start_tstz AND @end_tstz
  )
GROUP BY
  ticker,
  trade_date
HAVING
  COUNT(*) > 1