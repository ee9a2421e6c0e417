MODEL (
  name staging.stg_shop__countries,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (code)
  ),
  cron '@daily',
  allow_partials TRUE,
  grain code,
  tags ('shop', 'staging', 'generated'),
  description 'countries of shop: the newest version of each row, rows that the source deleted left out.',
  column_descriptions (
    eur_rate = 'eur_rate of each row of countries; as the source sends it.',
    code = 'code of each row of countries; the primary key; as the source sends it.',
    name = 'name of each row of countries; as the source sends it.',
    currency = 'currency of each row of countries; as the source sends it.',
    updated_at = 'updated_at of each row of countries; as the source sends it.',
    _loaded_at = 'When the row''s load package was committed.',
    _dlt_load_id = 'The load package that brought the row.',
    _dlt_id = 'Identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(columns := (code, _loaded_at, _dlt_load_id, _dlt_id)),
    unique_combination_of_columns(columns := (
      code
    ))
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
  raw.eur_rate::DECIMAL(18, 8) AS eur_rate,
  raw.code::TEXT AS code,
  raw.name::TEXT AS name,
  raw.currency::TEXT AS currency,
  raw.updated_at::TIMESTAMPTZ AS updated_at,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.countries AS raw
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
      FROM shop_raw.countries
    )
)