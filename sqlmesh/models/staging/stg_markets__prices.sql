MODEL (
  name staging.stg_markets__prices,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (ticker, date)
  ),
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, date),
  tags ('markets', 'staging', 'generated'),
  description 'prices of markets: the newest version of each row, rows that the source deleted left out.',
  column_descriptions (
    ticker = 'Ticker symbol at Yahoo Finance.',
    date = 'Trading day of the exchange.',
    close_price = 'Last price, adjusted for splits and dividends.',
    dividend = 'Dividend per share that the day is the ex-date of, else 0.',
    high_price = 'Highest price, adjusted for splits and dividends.',
    low_price = 'Lowest price, adjusted for splits and dividends.',
    open_price = 'First price, adjusted for splits and dividends.',
    split_ratio = 'New shares for an old one when the stock is split, else 0.',
    unadjusted_close_price = 'Last price, adjusted for splits only.',
    volume = 'Shares traded, adjusted for splits.',
    _loaded_at = 'When the row''s load package was committed.',
    _dlt_load_id = 'The load package that brought the row.',
    _dlt_id = 'Identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(columns := (ticker, date, _loaded_at, _dlt_load_id, _dlt_id)),
    unique_combination_of_columns(columns := (ticker, date))
  )
);

WITH committed_packages AS (
  SELECT
    load_id,
    MIN(inserted_at) AS inserted_at
  FROM markets_raw._dlt_loads
  WHERE
    status = 0
  GROUP BY
    load_id
)
SELECT
  raw.ticker::TEXT AS ticker,
  raw.date::DATE AS date,
  raw.close_price::DOUBLE AS close_price,
  raw.dividend::DOUBLE AS dividend,
  raw.high_price::DOUBLE AS high_price,
  raw.low_price::DOUBLE AS low_price,
  raw.open_price::DOUBLE AS open_price,
  raw.split_ratio::DOUBLE AS split_ratio,
  raw.unadjusted_close_price::DOUBLE AS unadjusted_close_price,
  raw.volume::BIGINT AS volume,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM markets_raw.prices AS raw
INNER JOIN committed_packages AS packages
  ON raw._dlt_load_id = packages.load_id
WHERE
  packages.inserted_at BETWEEN @start_tstz AND @end_tstz;

@IF(
  @runtime_stage = 'evaluating',
  DELETE FROM @this_model
  WHERE
    NOT _dlt_id IN (
      SELECT
        _dlt_id
      FROM markets_raw.prices
    )
)