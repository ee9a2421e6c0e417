MODEL (
  name marts.dim_shop__orders,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain id,
  tags ('shop', 'marts', 'generated'),
  description 'Orders: each one as it stands now.',
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
  is_deleted AS is_deleted,
  id AS id,
  number AS number,
  customer_id AS customer_id,
  status AS status,
  currency AS currency,
  placed_at AS placed_at,
  updated_at AS updated_at,
  delivery__method AS delivery__method,
  delivery__city AS delivery__city,
  note AS note,
  _loaded_at AS _loaded_at
FROM staging.stg_shop__orders