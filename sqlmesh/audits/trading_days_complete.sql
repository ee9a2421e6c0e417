AUDIT (
  name trading_days_complete,
  dialect duckdb
);

/* Guards against holes: between its first and its last day a ticker has a row for each day on which
more than half of the tickers that were there then have one. Returns what is missing. */
WITH spans AS (
  SELECT
    ticker,
    MIN(trade_date) AS first_date,
    MAX(trade_date) AS last_date
  FROM @this_model
  GROUP BY
    ticker
), days AS (
  SELECT
    trade_date,
    COUNT(*) AS found
  FROM @this_model
  GROUP BY
    trade_date
), incomplete AS (
  /* Days with fewer rows than tickers: few, so that all else is looked at on them alone. */
  SELECT
    days.trade_date
  FROM days
  INNER JOIN spans
    ON days.trade_date BETWEEN spans.first_date AND spans.last_date
  GROUP BY
    days.trade_date,
    days.found
  HAVING
    COUNT(*) > days.found
), expected AS (
  SELECT
    spans.ticker,
    incomplete.trade_date,
    found._dlt_id IS NULL AS is_missing
  FROM spans
  INNER JOIN incomplete
    ON incomplete.trade_date BETWEEN spans.first_date AND spans.last_date
  LEFT JOIN @this_model AS found
    ON spans.ticker = found.ticker AND incomplete.trade_date = found.trade_date
)
SELECT
  ticker,
  trade_date
FROM expected
QUALIFY
  is_missing AND AVG(is_missing::INT) OVER (PARTITION BY trade_date) < 0.5