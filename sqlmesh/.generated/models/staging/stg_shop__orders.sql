MODEL (
  name staging.stg_shop__orders,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (id)
  ),
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_shop__customers
  ),
  grain id,
  references customer_id,
  tags ('shop', 'staging', 'generated'),
  description 'orders of shop: the newest version of each row, rows that the source deleted left out.',
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
    _loaded_at = 'When the row''s load package was committed.',
    _dlt_load_id = 'The load package that brought the row.',
    _dlt_id = 'Identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(columns := (id, _loaded_at, _dlt_load_id, _dlt_id)),
    unique_combination_of_columns(columns := (
      id
    )),
    relationship(
      columns := (
        customer_id
      ),
      parent_model := staging.stg_shop__customers,
      parent_columns := (
        id
      ),
      blocking := FALSE
    )
  )
);

WITH committed_packages AS (
  SELECT
    load_id,
    MIN(inserted_at) AS inserted_at
  FROM shop_raw._dlt_loads
  WHERE
    status = 0
  GROUP BY
    load_id
)
SELECT
  raw.is_deleted::BOOLEAN AS is_deleted,
  raw.id::BIGINT AS id,
  raw.number::TEXT AS number,
  raw.customer_id::BIGINT AS customer_id,
  raw.status::TEXT AS status,
  raw.currency::TEXT AS currency,
  raw.placed_at::TIMESTAMPTZ AS placed_at,
  raw.updated_at::TIMESTAMPTZ AS updated_at,
  raw.delivery__method::TEXT AS delivery__method,
  raw.delivery__city::TEXT AS delivery__city,
  raw.note::TEXT AS note,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.orders AS raw
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
      FROM shop_raw.orders
    )
)