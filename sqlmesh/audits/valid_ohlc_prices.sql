AUDIT (
  name valid_ohlc_prices,
  dialect duckdb
);

/* Guards the prices: all above 0, none above the highest or below the lowest of its day. */
SELECT
  *
FROM @this_model
WHERE
  LEAST(open_price, high_price, low_price, close_price) <= 0
  OR high_price < GREATEST(open_price, low_price, close_price)
  OR low_price > LEAST(open_price, close_price)
  OR NOT ISFINITE(open_price + high_price + low_price + close_price)