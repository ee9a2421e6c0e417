MODEL (
  name marts.stock_metrics,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (ticker, trade_date)
  ),
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, trade_date),
  description 'Technical indicators: one row for each ticker and trading day. Prices are adjusted for splits and dividends. An indicator is NULL until its window is full.',
  column_descriptions (
    ticker = 'Ticker symbol.',
    trade_date = 'Trading day of the exchange.',
    open_price = 'First price of the day in the currency of the exchange.',
    high_price = 'Highest price of the day.',
    low_price = 'Lowest price of the day.',
    close_price = 'Last price of the day.',
    volume = 'Shares traded.',
    sma_9_day = 'Mean of the last 9 closes.',
    sma_20_day = 'Mean of the last 20 closes.',
    sma_50_day = 'Mean of the last 50 closes.',
    bollinger_upper = 'sma_20_day plus twice the standard deviation (population) of the last 20 closes.',
    bollinger_lower = 'sma_20_day less twice the standard deviation (population) of the last 20 closes.',
    rsi_14_day = 'Relative strength index, 0 to 100, by Wilder''s smoothing of 14 days; NULL while the price has not moved at all.',
    rsi_14_day_simple = 'The same from simple means of the last 14 rises and falls; NULL when there were none.',
    macd_line = 'Exponential average of the close of 12 days less that of 26; both begin on day 26 with the mean of as many closes.',
    macd_signal = 'Exponential average of macd_line of 9 days.',
    macd_histogram = 'macd_line less macd_signal.',
    macd_line_simple = 'Mean of the last 12 closes less that of the last 26.',
    atr_14_day = 'Average true range by Wilder''s smoothing of 14 days.',
    atr_14_day_simple = 'Mean of the last 14 true ranges.',
    daily_return_pct = 'Change of the close since the trading day before, in percent of that.',
    price_range_pct = 'Highest less lowest price, in percent of the close.',
    volume_ratio = 'volume through volume_sma_20; NULL when that is 0.',
    volume_sma_20 = 'Mean of the last 20 volumes.',
    _dlt_load_id = 'The load package that brought the prices of the day.',
    _dlt_id = 'Identifier of the raw row of the day.'
  ),
  audits (
    not_null(
      columns := (ticker, trade_date, open_price, high_price, low_price, close_price, volume)
    ),
    days_unique,
    valid_ohlc_prices,
    positive_volume,
    valid_rsi_range,
    valid_atr,
    trading_days_complete(blocking := FALSE)
  )
);

WITH changed AS (
  SELECT
    ticker,
    MIN(day_number) AS first_changed
  FROM staging.int_markets__smoothed
  WHERE
    _changed_at BETWEEN @start_tstz AND @end_tstz
  GROUP BY
    ticker
), first_day AS (
  /* The longest window looks at the 49 days before. No table has to be joined from before the first of them. */
  SELECT
    MIN(smoothed.trade_date) AS first_date
  FROM staging.int_markets__smoothed AS smoothed
  INNER JOIN changed
    ON smoothed.ticker = changed.ticker
    AND smoothed.day_number >= changed.first_changed - 49
), days AS (
  SELECT
    prices.ticker,
    prices.date AS trade_date,
    prices.open_price,
    prices.high_price,
    prices.low_price,
    prices.close_price,
    prices.volume,
    prices._dlt_load_id,
    prices._dlt_id,
    smoothed.day_number >= changed.first_changed AS is_changed,
    smoothed.day_number,
    smoothed.average_gain,
    smoothed.average_loss,
    smoothed.average_true_range,
    macd.macd_line,
    macd.macd_signal,
    LAG(prices.close_price) OVER (PARTITION BY prices.ticker ORDER BY prices.date) AS previous_close_price
  FROM staging.stg_markets__prices AS prices
  INNER JOIN staging.int_markets__smoothed AS smoothed
    ON prices.ticker = smoothed.ticker AND prices.date = smoothed.trade_date
  INNER JOIN changed
    ON smoothed.ticker = changed.ticker
    AND smoothed.day_number >= changed.first_changed - 49
  LEFT JOIN (
    SELECT
      ticker,
      trade_date,
      macd_line,
      macd_signal
    FROM staging.int_markets__macd
    WHERE
      trade_date >= (
        SELECT
          first_date
        FROM first_day
      )
  ) AS macd
    ON prices.ticker = macd.ticker AND prices.date = macd.trade_date
  WHERE
    prices.date >= (
      SELECT
        first_date
      FROM first_day
    )
    AND smoothed.trade_date >= (
      SELECT
        first_date
      FROM first_day
    )
), measured AS (
  SELECT
    *,
    GREATEST(close_price - previous_close_price, 0) AS gain,
    GREATEST(previous_close_price - close_price, 0) AS loss,
    GREATEST(high_price, previous_close_price) - LEAST(low_price, previous_close_price) AS true_range
  FROM days
), recent AS (
  /* Lists, because AVG over a window adds doubles in any order, and the last digits differ. */
  SELECT
    *,
    ARRAY_AGG(close_price) OVER (PARTITION BY ticker ORDER BY trade_date ROWS BETWEEN 49 PRECEDING AND CURRENT ROW) AS closes,
    ARRAY_AGG(gain) OVER last_14 AS gains,
    ARRAY_AGG(loss) OVER last_14 AS losses,
    ARRAY_AGG(true_range) OVER last_14 AS true_ranges,
    AVG(volume) OVER (PARTITION BY ticker ORDER BY trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS volume_20
  FROM measured
  WINDOW last_14 AS (PARTITION BY ticker ORDER BY trade_date ROWS BETWEEN 13 PRECEDING AND CURRENT ROW)
), averaged AS (
  SELECT
    *,
    LIST_AVG(LIST_SLICE(closes, -9, -1)) AS mean_9,
    LIST_AVG(LIST_SLICE(closes, -12, -1)) AS mean_12,
    LIST_AVG(LIST_SLICE(closes, -20, -1)) AS mean_20,
    LIST_AVG(LIST_SLICE(closes, -26, -1)) AS mean_26,
    LIST_AVG(closes) AS mean_50,
    LIST_STDDEV_POP(LIST_SLICE(closes, -20, -1)) AS deviation_20,
    LIST_AVG(gains) AS gain_14,
    LIST_AVG(losses) AS loss_14,
    LIST_AVG(true_ranges) AS true_range_14
  FROM recent
)
SELECT
  ticker::TEXT AS ticker,
  trade_date::DATE AS trade_date,
  open_price::DOUBLE AS open_price,
  high_price::DOUBLE AS high_price,
  low_price::DOUBLE AS low_price,
  close_price::DOUBLE AS close_price,
  volume::BIGINT AS volume,
  CASE WHEN day_number >= 9 THEN mean_9 END::DOUBLE AS sma_9_day,
  CASE WHEN day_number >= 20 THEN mean_20 END::DOUBLE AS sma_20_day,
  CASE WHEN day_number >= 50 THEN mean_50 END::DOUBLE AS sma_50_day,
  CASE WHEN day_number >= 20 THEN mean_20 + 2 * deviation_20 END::DOUBLE AS bollinger_upper,
  CASE WHEN day_number >= 20 THEN mean_20 - 2 * deviation_20 END::DOUBLE AS bollinger_lower,
  (
    100 * average_gain / NULLIF(average_gain + average_loss, 0)
  )::DOUBLE AS rsi_14_day,
  CASE WHEN day_number >= 15 THEN 100 * gain_14 / NULLIF(gain_14 + loss_14, 0) END::DOUBLE AS rsi_14_day_simple,
  macd_line::DOUBLE AS macd_line,
  macd_signal::DOUBLE AS macd_signal,
  (
    macd_line - macd_signal
  )::DOUBLE AS macd_histogram,
  CASE WHEN day_number >= 26 THEN mean_12 - mean_26 END::DOUBLE AS macd_line_simple,
  average_true_range::DOUBLE AS atr_14_day,
  CASE WHEN day_number >= 15 THEN true_range_14 END::DOUBLE AS atr_14_day_simple,
  (
    100 * (
      close_price - previous_close_price
    ) / NULLIF(previous_close_price, 0)
  )::DOUBLE AS daily_return_pct,
  (
    100 * (
      high_price - low_price
    ) / NULLIF(close_price, 0)
  )::DOUBLE AS price_range_pct,
  CASE WHEN day_number >= 20 THEN volume / NULLIF(volume_20, 0) END::DOUBLE AS volume_ratio,
  CASE WHEN day_number >= 20 THEN volume_20 END::DOUBLE AS volume_sma_20,
  _dlt_load_id::TEXT AS _dlt_load_id,
  _dlt_id::TEXT AS _dlt_id
FROM averaged
WHERE
  is_changed;

@delete_gone_days(source := staging.stg_markets__prices, day := date)