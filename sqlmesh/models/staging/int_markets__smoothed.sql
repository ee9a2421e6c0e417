MODEL (
  name staging.int_markets__smoothed,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (ticker, trade_date)
  ),
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, trade_date),
  description 'Recursive averages of each ticker and trading day, summed in blocks of 32 days. Made again from the first day that changed (docs/adr/0012).',
  column_descriptions (
    ticker = 'Ticker symbol.',
    trade_date = 'Trading day of the exchange.',
    day_number = 'The ticker''s first trading day is 1.',
    average_gain = 'Wilder''s average of the rises of the close, length 14; from day 15 on.',
    average_loss = 'Wilder''s average of the falls of the close, length 14; from day 15 on.',
    average_true_range = 'Wilder''s average of the true range, length 14; from day 15 on.',
    ema_12 = 'Exponential average of the close, length 12; from day 26 on, where that of length 26 begins.',
    ema_26 = 'Exponential average of the close, length 26; from day 26 on.',
    _changed_at = 'When the newest price was loaded that the row was made again for; where a day went, the start of the interval.'
  ),
  audits (not_null(columns := (ticker, trade_date)), days_unique)
);

WITH came AS (
  SELECT
    ticker,
    date,
    _loaded_at
  FROM staging.stg_markets__prices
  WHERE
    _loaded_at BETWEEN @start_tstz AND @end_tstz
), present AS (
  /* All other days, once from each table that has them. */
  SELECT
    ticker,
    date,
    _loaded_at
  FROM staging.stg_markets__prices
  WHERE
    NOT COALESCE(_loaded_at BETWEEN @start_tstz AND @end_tstz, FALSE)
  UNION ALL
  SELECT
    made.ticker,
    made.trade_date AS date,
    NULL AS _loaded_at
  FROM staging.int_markets__smoothed AS made
  ANTI JOIN came
    ON made.ticker = came.ticker AND made.trade_date = came.date
), differing AS (
  /* A checksum for each ticker, to which equal days add up to nothing: less work than to compare all days. */
  SELECT
    ticker
  FROM present
  GROUP BY
    ticker
  HAVING
    BIT_XOR(HASH(date)) <> 0
), changed AS (
  /* Days that came, were corrected or went; all that follows them is made again. */
  SELECT
    ticker,
    MIN(date) AS first_changed,
    GREATEST(COALESCE(MAX(_loaded_at), @start_tstz), @start_tstz) AS changed_at
  FROM (
    SELECT
      ticker,
      date,
      _loaded_at
    FROM came
    UNION ALL
    SELECT
      ticker,
      date,
      MAX(_loaded_at) AS _loaded_at
    FROM present
    WHERE
      ticker IN (
        SELECT
          ticker
        FROM differing
      )
    GROUP BY
      ticker,
      date
    HAVING
      COUNT(*) = 1
  )
  GROUP BY
    ticker
), unchanged AS (
  SELECT
    changed.ticker,
    changed.first_changed,
    changed.changed_at,
    COUNT(made.trade_date) AS days,
    COALESCE(MIN(made.trade_date), changed.first_changed) AS first_date
  FROM changed
  LEFT JOIN staging.int_markets__smoothed AS made
    ON changed.ticker = made.ticker AND changed.first_changed > made.trade_date
  GROUP BY
    changed.ticker,
    changed.first_changed,
    changed.changed_at
), starts AS (
  /* The last 64 unchanged days are two blocks: the one to continue, or else the seed's days, are among them. */
  SELECT
    unchanged.ticker,
    unchanged.first_changed,
    unchanged.changed_at,
    unchanged.days AS unchanged_days,
    COALESCE(earliest.trade_date, unchanged.first_date) AS first_date,
    COALESCE(earliest.day_number, 1) AS first_number
  FROM unchanged
  LEFT JOIN staging.int_markets__smoothed AS earliest
    ON unchanged.ticker = earliest.ticker AND unchanged.days - 63 = earliest.day_number
), first_day AS (
  /* No table has to be joined from before it. */
  SELECT
    MIN(first_date) AS first_date
  FROM starts
), days AS (
  SELECT
    prices.ticker,
    prices.date AS trade_date,
    prices.high_price,
    prices.low_price,
    prices.close_price,
    prices.date >= starts.first_changed AS is_changed,
    starts.changed_at,
    starts.unchanged_days,
    starts.first_number - 1 + ROW_NUMBER() OVER (PARTITION BY prices.ticker ORDER BY prices.date) AS day_number,
    LAG(prices.close_price) OVER (PARTITION BY prices.ticker ORDER BY prices.date) AS previous_close_price
  FROM staging.stg_markets__prices AS prices
  INNER JOIN starts
    ON prices.ticker = starts.ticker AND prices.date >= starts.first_date
  WHERE
    prices.date >= (
      SELECT
        first_date
      FROM first_day
    )
), kinds AS (
  /* What is averaged, the first day of each average and its length. */
  SELECT
    series,
    first_day,
    length,
    keep
  FROM (VALUES
    ('average_gain', 15, 14, 13.0::DOUBLE / 14),
    ('average_loss', 15, 14, 13.0::DOUBLE / 14),
    ('average_true_range', 15, 14, 13.0::DOUBLE / 14),
    ('ema_12', 26, 12, 11.0::DOUBLE / 13),
    ('ema_26', 26, 26, 25.0::DOUBLE / 27)) AS kinds(series, first_day, length, keep)
), series AS (
  SELECT
    days.ticker,
    days.day_number,
    days.unchanged_days,
    kinds.series,
    CASE kinds.series
      WHEN 'average_gain'
      THEN GREATEST(days.close_price - days.previous_close_price, 0)
      WHEN 'average_loss'
      THEN GREATEST(days.previous_close_price - days.close_price, 0)
      WHEN 'average_true_range'
      THEN GREATEST(days.high_price, days.previous_close_price) - LEAST(days.low_price, days.previous_close_price)
      ELSE days.close_price
    END AS value,
    kinds.first_day,
    kinds.length,
    kinds.keep
  FROM days
  CROSS JOIN kinds
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
), placed AS (
  SELECT
    *,
    (
      day_number - first_day
    ) // 32 AS block,
    (
      day_number - first_day
    ) % 32 AS place,
    GREATEST((
      unchanged_days + 1 - first_day
    ) // 32, 0) AS first_block
  FROM series
  WHERE
    day_number >= first_day
), terms AS (
  SELECT
    placed.ticker,
    placed.series,
    placed.day_number,
    placed.keep,
    placed.block,
    placed.place,
    CASE
      WHEN placed.day_number = placed.first_day
      THEN seeds.seed
      ELSE (
        1 - placed.keep
      ) * placed.value
    END AS term
  FROM placed
  LEFT JOIN seeds
    ON placed.ticker = seeds.ticker AND placed.series = seeds.series
  WHERE
    placed.block >= placed.first_block
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
), whole_blocks AS (
  SELECT
    ticker,
    series,
    block,
    keep,
    within_block AS term
  FROM sums
  WHERE
    place = 31
  UNION ALL
  /* What stands at the end of a block is the sum over all blocks up to it. */
  SELECT
    continued.ticker,
    continued.series,
    continued.first_block - 1 AS block,
    continued.keep,
    CASE continued.series
      WHEN 'average_gain'
      THEN made.average_gain
      WHEN 'average_loss'
      THEN made.average_loss
      WHEN 'average_true_range'
      THEN made.average_true_range
      WHEN 'ema_12'
      THEN made.ema_12
      WHEN 'ema_26'
      THEN made.ema_26
    END AS term
  FROM (
    SELECT
      starts.ticker,
      kinds.series,
      kinds.first_day,
      kinds.keep,
      (
        starts.unchanged_days + 1 - kinds.first_day
      ) // 32 AS first_block
    FROM starts
    CROSS JOIN kinds
  ) AS continued
  INNER JOIN staging.int_markets__smoothed AS made
    ON continued.ticker = made.ticker
    AND continued.first_day + continued.first_block * 32 - 1 = made.day_number
  WHERE
    continued.first_block > 0
    AND made.trade_date >= (
      SELECT
        first_date
      FROM first_day
    )
), blocks AS (
  SELECT
    ticker,
    series,
    block,
    LIST_REDUCE(
      ARRAY_AGG(term) OVER (
        PARTITION BY ticker, series
        ORDER BY block
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      LAMBDA total, term : total * POWER(keep, 32) + term
    ) AS average
  FROM whole_blocks
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
  wide.ema_26::DOUBLE AS ema_26,
  days.changed_at::TIMESTAMPTZ AS _changed_at
FROM days
LEFT JOIN wide
  ON days.ticker = wide.ticker AND days.day_number = wide.day_number
WHERE
  days.is_changed;

@delete_gone_days(source := staging.stg_markets__prices, day := date)