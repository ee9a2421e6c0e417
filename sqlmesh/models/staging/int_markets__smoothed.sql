MODEL (
  name staging.int_markets__smoothed,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, trade_date),
  description 'Recursive averages of each ticker and trading day, from its first day on, summed in blocks of 32 days (docs/adr/0012).',
  column_descriptions (
    ticker = 'Ticker symbol.',
    trade_date = 'Trading day of the exchange.',
    day_number = 'The ticker''s first trading day is 1.',
    average_gain = 'Wilder''s average of the rises of the close, length 14; from day 15 on.',
    average_loss = 'Wilder''s average of the falls of the close, length 14; from day 15 on.',
    average_true_range = 'Wilder''s average of the true range, length 14; from day 15 on.',
    ema_12 = 'Exponential average of the close, length 12; from day 26 on, where that of length 26 begins.',
    ema_26 = 'Exponential average of the close, length 26; from day 26 on.'
  ),
  audits (
    not_null(columns := (ticker, trade_date)),
    unique_combination_of_columns(columns := (ticker, trade_date))
  )
);

WITH days AS (
  SELECT
    ticker,
    date AS trade_date,
    high_price,
    low_price,
    close_price,
    ROW_NUMBER() OVER (PARTITION BY ticker ORDER BY date) AS day_number,
    LAG(close_price) OVER (PARTITION BY ticker ORDER BY date) AS previous_close_price
  FROM staging.stg_markets__prices
), series AS (
  SELECT
    ticker,
    day_number,
    'average_gain' AS series,
    GREATEST(close_price - previous_close_price, 0) AS value,
    15 AS first_day,
    14 AS length,
    13.0::DOUBLE / 14 AS keep
  FROM days
  UNION ALL
  SELECT
    ticker,
    day_number,
    'average_loss' AS series,
    GREATEST(previous_close_price - close_price, 0) AS value,
    15 AS first_day,
    14 AS length,
    13.0::DOUBLE / 14 AS keep
  FROM days
  UNION ALL
  SELECT
    ticker,
    day_number,
    'average_true_range' AS series,
    GREATEST(high_price, previous_close_price) - LEAST(low_price, previous_close_price) AS value,
    15 AS first_day,
    14 AS length,
    13.0::DOUBLE / 14 AS keep
  FROM days
  UNION ALL
  SELECT
    ticker,
    day_number,
    'ema_12' AS series,
    close_price AS value,
    26 AS first_day,
    12 AS length,
    11.0::DOUBLE / 13 AS keep
  FROM days
  UNION ALL
  SELECT
    ticker,
    day_number,
    'ema_26' AS series,
    close_price AS value,
    26 AS first_day,
    26 AS length,
    25.0::DOUBLE / 27 AS keep
  FROM days
), seeds AS (
  SELECT
    ticker,
    series,
    LIST_AVG(ARRAY_AGG(value ORDER BY day_number)) AS seed
  FROM series
  WHERE
    day_number BETWEEN first_day - length + 1 AND first_day
  GROUP BY
    ticker,
    series
), terms AS (
  SELECT
    series.ticker,
    series.series,
    series.day_number,
    series.keep,
    (
      series.day_number - series.first_day
    ) // 32 AS block,
    (
      series.day_number - series.first_day
    ) % 32 AS place,
    CASE
      WHEN series.day_number = series.first_day
      THEN seeds.seed
      ELSE (
        1 - series.keep
      ) * series.value
    END AS term
  FROM series
  INNER JOIN seeds
    ON series.ticker = seeds.ticker AND series.series = seeds.series
  WHERE
    series.day_number >= series.first_day
), sums AS (
  /* A list is folded in the order of its days: a SUM over a window adds in any, and the last digits differ. */
  SELECT
    ticker,
    series,
    day_number,
    keep,
    block,
    place,
    LIST_REDUCE(
      ARRAY_AGG(term) OVER (
        PARTITION BY ticker, series, block
        ORDER BY day_number
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * keep + term
    ) AS within_block
  FROM terms
), blocks AS (
  SELECT
    ticker,
    series,
    block,
    LIST_REDUCE(
      ARRAY_AGG(within_block) OVER (
        PARTITION BY ticker, series
        ORDER BY block
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * POWER(keep, 32) + term
    ) AS average
  FROM sums
  WHERE
    place = 31
), averages AS (
  SELECT
    sums.ticker,
    sums.series,
    sums.day_number,
    sums.within_block + COALESCE(POWER(sums.keep, sums.place + 1) * earlier.average, 0) AS average
  FROM sums
  LEFT JOIN blocks AS earlier
    ON sums.ticker = earlier.ticker
    AND sums.series = earlier.series
    AND sums.block = earlier.block + 1
), wide AS (
  SELECT
    ticker,
    day_number,
    MAX(CASE WHEN series = 'average_gain' THEN average END) AS average_gain,
    MAX(CASE WHEN series = 'average_loss' THEN average END) AS average_loss,
    MAX(CASE WHEN series = 'average_true_range' THEN average END) AS average_true_range,
    MAX(CASE WHEN series = 'ema_12' THEN average END) AS ema_12,
    MAX(CASE WHEN series = 'ema_26' THEN average END) AS ema_26
  FROM averages
  GROUP BY
    ticker,
    day_number
)
SELECT
  days.ticker::TEXT AS ticker,
  days.trade_date::DATE AS trade_date,
  days.day_number::BIGINT AS day_number,
  wide.average_gain::DOUBLE AS average_gain,
  wide.average_loss::DOUBLE AS average_loss,
  wide.average_true_range::DOUBLE AS average_true_range,
  wide.ema_12::DOUBLE AS ema_12,
  wide.ema_26::DOUBLE AS ema_26
FROM days
LEFT JOIN wide
  ON days.ticker = wide.ticker AND days.day_number = wide.day_number