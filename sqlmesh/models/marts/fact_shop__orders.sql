MODEL (
  name marts.fact_shop__orders,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain id,
  tags ('shop', 'marts', 'generated'),
  description 'Each row of orders once, with the keys of all that it refers to; NULL where that is not loaded.',
  column_descriptions (
    is_deleted = 'is_deleted of each row of orders; marks a row that the source deleted; as the source sends it.',
    id = 'id of each row of orders; the primary key; as the source sends it.',
    number = 'number of each row of orders; as the source sends it.',
    customer_id = 'customer_id of each row of orders; refers to customers.id; as the source sends it.',
    status = 'status of each row of orders; as the source sends it.',
    currency = 'currency of each row of orders; as the source sends it.',
    placed_at = 'placed_at of each row of orders; as the source sends it.',
    updated_at = 'updated_at of each row of orders; as the source sends it.',
    delivery__method = 'delivery → method of each row of orders; as the source sends it.',
    delivery__city = 'delivery → city of each row of orders; as the source sends it.',
    note = 'note of each row of orders; as the source sends it.',
    customers__company_id = 'Refers to companies.id, by the row of customers.',
    customers__id = 'Primary key of the row of customers that is referred to.',
    companies__country_code = 'Refers to countries.code, by the row of companies.',
    companies__id = 'Primary key of the row of companies that is referred to.',
    countries__code = 'Primary key of the row of countries that is referred to.',
    _loaded_at = 'When the load package that brought the row was committed.'
  ),
  audits (
    not_null(columns := (
      id
    )),
    unique_combination_of_columns(columns := (
      id
    )),
    same_row_count(base_model := staging.stg_shop__orders)
  )
);

SELECT
  base.is_deleted AS is_deleted,
  base.id AS id,
  base.number AS number,
  base.customer_id AS customer_id,
  base.status AS status,
  base.currency AS currency,
  base.placed_at AS placed_at,
  base.updated_at AS updated_at,
  base.delivery__method AS delivery__method,
  base.delivery__city AS delivery__city,
  base.note AS note,
  customers.company_id AS customers__company_id,
  customers.id AS customers__id,
  companies.country_code AS companies__country_code,
  companies.id AS companies__id,
  countries.code AS countries__code,
  base._loaded_at AS _loaded_at
FROM staging.stg_shop__orders AS base
LEFT JOIN staging.stg_shop__customers AS customers
  ON base.customer_id = customers.id
LEFT JOIN staging.stg_shop__companies AS companies
  ON customers.company_id = companies.id
LEFT JOIN staging.stg_shop__countries AS countries
  ON companies.country_code = countries.code