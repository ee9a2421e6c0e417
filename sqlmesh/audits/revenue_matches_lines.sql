AUDIT (
  name revenue_matches_lines,
  dialect duckdb
);

/* Guards the money: each day's revenue, counted again line by line from staging with its own logic. */
WITH discounts AS (
  SELECT
    line.order_row_id,
    SUM(discount.amount) AS amount
  FROM staging.stg_shop__orders__lines__discounts AS discount
  INNER JOIN (
    SELECT
      _dlt_id AS line_id,
      _dlt_parent_id AS order_row_id
    FROM staging.stg_shop__orders__lines
  ) AS line
    ON discount._dlt_parent_id = line.line_id
  GROUP BY
    line.order_row_id
), recounted AS (
  SELECT
    (
      staged.placed_at AT TIME ZONE 'UTC'
    )::DATE AS order_date,
    SUM(
      (
        line.quantity * line.unit_price
      )::DECIMAL(20, 2) * COALESCE(country.eur_rate, 1)
    ) AS lines_eur
  FROM staging.stg_shop__orders AS staged
  INNER JOIN staging.stg_shop__orders__lines AS line
    ON staged._dlt_id = line._dlt_parent_id
  LEFT JOIN staging.stg_shop__customers AS customer
    ON staged.customer_id = customer.id
  LEFT JOIN staging.stg_shop__companies AS company
    ON customer.company_id = company.id
  LEFT JOIN staging.stg_shop__countries AS country
    ON company.country_code = country.code
  WHERE
    staged.status <> 'returned'
  GROUP BY
    1
), deducted AS (
  SELECT
    (
      staged.placed_at AT TIME ZONE 'UTC'
    )::DATE AS order_date,
    SUM(discounts.amount::DECIMAL(20, 2) * COALESCE(country.eur_rate, 1)) AS discounts_eur
  FROM staging.stg_shop__orders AS staged
  INNER JOIN discounts
    ON staged._dlt_id = discounts.order_row_id
  LEFT JOIN staging.stg_shop__customers AS customer
    ON staged.customer_id = customer.id
  LEFT JOIN staging.stg_shop__companies AS company
    ON customer.company_id = company.id
  LEFT JOIN staging.stg_shop__countries AS country
    ON company.country_code = country.code
  WHERE
    staged.status <> 'returned'
  GROUP BY
    1
), reported AS (
  SELECT
    order_date,
    SUM(revenue_eur) AS revenue_eur
  FROM @this_model
  GROUP BY
    order_date
)
SELECT
  COALESCE(recounted.order_date, reported.order_date) AS order_date,
  reported.revenue_eur,
  recounted.lines_eur,
  deducted.discounts_eur
FROM recounted
FULL OUTER JOIN reported
  ON recounted.order_date = reported.order_date
LEFT JOIN deducted
  ON recounted.order_date = deducted.order_date
WHERE
  ABS(
    COALESCE(recounted.lines_eur, 0) - COALESCE(deducted.discounts_eur, 0) - COALESCE(reported.revenue_eur, 0)
  ) > 0.000001