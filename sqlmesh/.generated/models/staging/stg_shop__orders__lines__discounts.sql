MODEL (
  name staging.stg_shop__orders__lines__discounts,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (_dlt_id)
  ),
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_shop__orders__lines
  ),
  grain _dlt_id,
  references _dlt_parent_id,
  tags ('shop', 'staging', 'generated'),
  description 'orders__lines__discounts of shop: the newest version of each row, rows that the source deleted left out.',
  column_descriptions (
    amount = 'amount of each row of orders__lines__discounts; as the source sends it.',
    code = 'code of each row of orders__lines__discounts; as the source sends it.',
    _loaded_at = 'When the row''s load package was committed.',
    _dlt_load_id = 'The load package that brought the row.',
    _dlt_list_idx = 'Position in the list, from 0.',
    _dlt_parent_id = '_dlt_id of the row that the list belongs to.',
    _dlt_root_id = '_dlt_id of the row of the root table.',
    _dlt_id = 'Identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(
      columns := (_loaded_at, _dlt_load_id, _dlt_list_idx, _dlt_parent_id, _dlt_root_id, _dlt_id)
    ),
    unique_combination_of_columns(columns := (
      _dlt_id
    )),
    relationship(
      columns := (
        _dlt_parent_id
      ),
      parent_model := staging.stg_shop__orders__lines,
      parent_columns := (
        _dlt_id
      ),
      blocking := TRUE
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
  raw.amount::DECIMAL(18, 2) AS amount,
  raw.code::TEXT AS code,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  root._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_list_idx::BIGINT AS _dlt_list_idx,
  raw._dlt_parent_id::TEXT AS _dlt_parent_id,
  raw._dlt_root_id::TEXT AS _dlt_root_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.orders__lines__discounts AS raw
INNER JOIN shop_raw.orders AS root
  ON raw._dlt_root_id = root._dlt_id
INNER JOIN committed_packages AS packages
  ON root._dlt_load_id = packages.load_id
WHERE
  packages.inserted_at BETWEEN @start_tstz AND @end_tstz;

@IF(
  @runtime_stage = 'evaluating',
  DELETE FROM @this_model
  WHERE
    NOT _dlt_id IN (
      SELECT
        _dlt_id
      FROM shop_raw.orders__lines__discounts
    )
)