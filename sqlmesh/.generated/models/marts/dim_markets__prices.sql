MODEL (
  name marts.dim_markets__prices,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (ticker, date),
  tags ('markets', 'marts', 'generated'),
  description 'Prices: each one as it stands now.',
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
    _loaded_at = 'When the load package that brought the row was committed.'
  ),
  audits (
    not_null(columns := (ticker, date)),
    unique_combination_of_columns(columns := (ticker, date))
  )
);

SELECT
  ticker AS ticker,
  date AS date,
  close_price AS close_price,
  dividend AS dividend,
  high_price AS high_price,
  low_price AS low_price,
  open_price AS open_price,
  split_ratio AS split_ratio,
  unadjusted_close_price AS unadjusted_close_price,
  volume AS volume,
  _loaded_at AS _loaded_at
FROM staging.stg_markets__prices