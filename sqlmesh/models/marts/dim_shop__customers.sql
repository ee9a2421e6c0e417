MODEL (
  name marts.dim_shop__customers,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain id,
  tags ('shop', 'marts', 'generated'),
  description 'Customers: each one as it stands now.',
  column_descriptions (
    id = 'id of each row of customers; the primary key; as the source sends it.',
    name = 'name of each row of customers; as the source sends it.',
    email = 'email of each row of customers; as the source sends it.',
    created_at = 'created_at of each row of customers; as the source sends it.',
    updated_at = 'updated_at of each row of customers; as the source sends it.',
    company_id = 'company_id of each row of customers; refers to companies.id; as the source sends it.',
    _loaded_at = 'When the load package that brought the row was committed.'
  ),
  audits (
    not_null(columns := (
      id
    )),
    unique_combination_of_columns(columns := (
      id
    ))
  )
);

SELECT
  id AS id,
  name AS name,
  email AS email,
  created_at AS created_at,
  updated_at AS updated_at,
  company_id AS company_id,
  _loaded_at AS _loaded_at
FROM staging.stg_shop__customers