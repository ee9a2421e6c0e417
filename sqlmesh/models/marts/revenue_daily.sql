MODEL (
  name marts.revenue_daily,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_shop__countries,
    staging.stg_shop__companies,
    staging.stg_shop__customers
  ),
  grain (order_date, country_code, company_id),
  tags ('shop', 'marts'),
  description 'Revenue in EUR for each day, country and company: the lines of the orders that were not sent back, less their discounts, at the countries'' rates of now.',
  column_descriptions (
    order_date = 'The day (UTC) on which the orders were placed.',
    country_code = 'The country of the company; -- for private customers.',
    company_id = 'The company of the customer; 0 for private customers.',
    company_name = 'The name of the company.',
    currency = 'The currency that the orders are in, before they are worth EUR here.',
    orders_count = 'Orders with at least one line; an order without any is not counted.',
    revenue_eur = 'What their lines bring, less discounts.'
  ),
  audits (
    not_null(
      columns := (order_date, country_code, company_id, company_name, orders_count, revenue_eur)
    ),
    unique_combination_of_columns(columns := (order_date, country_code, company_id)),
    forall(criteria := (revenue_eur >= 0, orders_count > 0)),
    revenue_matches_lines
  )
);

WITH discounts AS (
  SELECT
    _dlt_parent_id AS line_id,
    SUM(amount) AS amount
  FROM staging.stg_shop__orders__lines__discounts
  GROUP BY
    _dlt_parent_id
), lines AS (
  SELECT
    lines._dlt_parent_id AS order_row_id,
    SUM(lines.quantity * lines.unit_price - COALESCE(discounts.amount, 0)) AS amount
  FROM staging.stg_shop__orders__lines AS lines
  LEFT JOIN discounts
    ON lines._dlt_id = discounts.line_id
  GROUP BY
    lines._dlt_parent_id
), amounts AS (
  SELECT
    staged.id AS order_id,
    lines.amount::DECIMAL(20, 2) AS amount
  FROM staging.stg_shop__orders AS staged
  INNER JOIN lines
    ON staged._dlt_id = lines.order_row_id
), orders AS (
  SELECT
    orders.id AS order_id,
    (
      orders.placed_at AT TIME ZONE 'UTC'
    )::DATE AS order_date,
    COALESCE(orders.companies__country_code, '--') AS country_code,
    COALESCE(orders.customers__company_id, 0) AS company_id,
    amounts.amount
  FROM marts.fact_shop__orders AS orders
  INNER JOIN amounts
    ON orders.id = amounts.order_id
  WHERE
    orders.status <> 'returned'
)
SELECT
  orders.order_date::DATE AS order_date,
  orders.country_code::TEXT AS country_code,
  orders.company_id::BIGINT AS company_id,
  COALESCE(MAX(companies.name), 'private customers')::TEXT AS company_name,
  COALESCE(MAX(countries.currency), 'EUR')::TEXT AS currency,
  COUNT(*)::BIGINT AS orders_count,
  SUM(orders.amount * COALESCE(countries.eur_rate, 1)::DECIMAL(18, 8))::DECIMAL(38, 10) AS revenue_eur
FROM orders
LEFT JOIN marts.dim_shop__companies AS companies
  ON orders.company_id = companies.id
LEFT JOIN marts.dim_shop__countries AS countries
  ON orders.country_code = countries.code
GROUP BY
  orders.order_date,
  orders.country_code,
  orders.company_id