MODEL (
  name staging.int_markets__macd,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (ticker, trade_date)
  ),
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, trade_date),
  description 'MACD line of each ticker and trading day from its 26th day on, and the exponential average of the line, summed in blocks of 32 days. Made again from the first day that changed (docs/adr/0012).',
  column_descriptions (
    ticker = 'Ticker symbol.',
    trade_date = 'Trading day of the exchange.',
    days_after_seed = 'The day on which the signal begins is 0, the first day of the line -8.',
    macd_line = 'Exponential average of the close of length 12 less that of length 26.',
    macd_signal = 'Exponential average of the line, length 9; from day 34 on.'
  ),
  audits (not_null(columns := (ticker, trade_date, macd_line)), days_unique)
);

WITH smoothed AS (
  SELECT
    ticker,
    trade_date,
    COALESCE(_changed_at BETWEEN @start_tstz AND @end_tstz, FALSE) AS is_changed
  FROM staging.int_markets__smoothed
  WHERE
    day_number >= 26
), came AS (
  SELECT
    ticker,
    trade_date
  FROM smoothed
  WHERE
    is_changed
), present AS (
  /* All other days, once from each table that has them. */
  SELECT
    ticker,
    trade_date
  FROM smoothed
  WHERE
    NOT is_changed
  UNION ALL
  SELECT
    made.ticker,
    made.trade_date
  FROM staging.int_markets__macd AS made
  ANTI JOIN came
    ON made.ticker = came.ticker AND made.trade_date = came.trade_date
), differing AS (
  /* As in int_markets__smoothed. */
  SELECT
    ticker
  FROM present
  GROUP BY
    ticker
  HAVING
    BIT_XOR(HASH(trade_date)) <> 0
), changed AS (
  SELECT
    ticker,
    MIN(trade_date) AS first_changed
  FROM (
    SELECT
      ticker,
      trade_date
    FROM came
    UNION ALL
    SELECT
      ticker,
      trade_date
    FROM present
    WHERE
      ticker IN (
        SELECT
          ticker
        FROM differing
      )
    GROUP BY
      ticker,
      trade_date
    HAVING
      COUNT(*) = 1
  )
  GROUP BY
    ticker
), starts AS (
  /* The block to continue: that of the first day that changed. */
  SELECT
    changed.ticker,
    changed.first_changed,
    GREATEST((
      COALESCE(MAX(made.days_after_seed), -9) + 1
    ) // 32, 0) AS first_block
  FROM changed
  LEFT JOIN staging.int_markets__macd AS made
    ON changed.ticker = made.ticker AND changed.first_changed > made.trade_date
  GROUP BY
    changed.ticker,
    changed.first_changed
), lines AS (
  SELECT
    smoothed.ticker,
    smoothed.trade_date,
    smoothed.trade_date >= starts.first_changed AS is_changed,
    starts.first_block,
    smoothed.day_number - 34 AS days_after_seed,
    smoothed.ema_12 - smoothed.ema_26 AS macd_line,
    0.8::DOUBLE AS keep
  FROM staging.int_markets__smoothed AS smoothed
  INNER JOIN starts
    ON smoothed.ticker = starts.ticker
  WHERE
    smoothed.day_number >= CASE WHEN starts.first_block = 0 THEN 26 ELSE 34 + starts.first_block * 32 END
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
  LEFT JOIN seeds
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
), whole_blocks AS (
  SELECT
    ticker,
    block,
    keep,
    within_block AS term
  FROM sums
  WHERE
    place = 31
  UNION ALL
  /* What stands at the end of a block is the sum over all blocks up to it. */
  SELECT
    starts.ticker,
    starts.first_block - 1 AS block,
    0.8::DOUBLE AS keep,
    made.macd_signal AS term
  FROM starts
  INNER JOIN staging.int_markets__macd AS made
    ON starts.ticker = made.ticker
    AND starts.first_block * 32 - 1 = made.days_after_seed
  WHERE
    starts.first_block > 0
), blocks AS (
  SELECT
    ticker,
    block,
    LIST_REDUCE(
      ARRAY_AGG(term) OVER (
        PARTITION BY ticker
        ORDER BY block
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * POWER(keep, 32) + term
    ) AS average
  FROM whole_blocks
)
SELECT
  lines.ticker::TEXT AS ticker,
  lines.trade_date::DATE AS trade_date,
  lines.days_after_seed::BIGINT AS days_after_seed,
  lines.macd_line::DOUBLE AS macd_line,
  (
    sums.within_block + COALESCE(POWER(sums.keep, sums.place + 1) * earlier.average, 0)
  )::DOUBLE AS macd_signal
FROM lines
LEFT JOIN sums
  ON lines.ticker = sums.ticker AND lines.trade_date = sums.trade_date
LEFT JOIN blocks AS earlier
  ON sums.ticker = earlier.ticker AND sums.block = earlier.block + 1
WHERE
  lines.is_changed;

@delete_gone_days(
  source := staging.int_markets__smoothed,
  day := trade_date,
  criteria := day_number >= 26
)