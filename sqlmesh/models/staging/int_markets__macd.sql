MODEL (
  name staging.int_markets__macd,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, trade_date),
  description 'MACD line of each ticker and trading day from its 26th day on, and the exponential average of the line, summed in blocks of 32 days (docs/adr/0012).',
  column_descriptions (
    ticker = 'Ticker symbol.',
    trade_date = 'Trading day of the exchange.',
    macd_line = 'Exponential average of the close of length 12 less that of length 26.',
    macd_signal = 'Exponential average of the line, length 9; from day 34 on.'
  ),
  audits (
    not_null(columns := (ticker, trade_date, macd_line)),
    unique_combination_of_columns(columns := (ticker, trade_date))
  )
);

WITH lines AS (
  SELECT
    ticker,
    trade_date,
    day_number - 34 AS days_after_seed,
    ema_12 - ema_26 AS macd_line,
    0.8::DOUBLE AS keep
  FROM staging.int_markets__smoothed
  WHERE
    day_number >= 26
), seeds AS (
  SELECT
    ticker,
    LIST_AVG(ARRAY_AGG(macd_line ORDER BY trade_date)) AS seed
  FROM lines
  WHERE
    days_after_seed <= 0
  GROUP BY
    ticker
), terms AS (
  SELECT
    lines.ticker,
    lines.trade_date,
    lines.days_after_seed,
    lines.keep,
    lines.days_after_seed // 32 AS block,
    lines.days_after_seed % 32 AS place,
    CASE
      WHEN lines.days_after_seed = 0
      THEN seeds.seed
      ELSE (
        1 - lines.keep
      ) * lines.macd_line
    END AS term
  FROM lines
  INNER JOIN seeds
    ON lines.ticker = seeds.ticker
  WHERE
    lines.days_after_seed >= 0
), sums AS (
  SELECT
    ticker,
    trade_date,
    keep,
    block,
    place,
    LIST_REDUCE(
      ARRAY_AGG(term) OVER (
        PARTITION BY ticker, block
        ORDER BY trade_date
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * keep + term
    ) AS within_block
  FROM terms
), blocks AS (
  SELECT
    ticker,
    block,
    LIST_REDUCE(
      ARRAY_AGG(within_block) OVER (
        PARTITION BY ticker
        ORDER BY block
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * POWER(keep, 32) + term
    ) AS average
  FROM sums
  WHERE
    place = 31
)
SELECT
  lines.ticker::TEXT AS ticker,
  lines.trade_date::DATE AS trade_date,
  lines.macd_line::DOUBLE AS macd_line,
  (
    sums.within_block + COALESCE(POWER(sums.keep, sums.place + 1) * earlier.average, 0)
  )::DOUBLE AS macd_signal
FROM lines
LEFT JOIN sums
  ON lines.ticker = sums.ticker AND lines.trade_date = sums.trade_date
LEFT JOIN blocks AS earlier
  ON sums.ticker = earlier.ticker AND sums.block = earlier.block + 1