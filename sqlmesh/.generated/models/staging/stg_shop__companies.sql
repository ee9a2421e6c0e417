MODEL (
  name staging.stg_shop__companies,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (id)
  ),
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_shop__countries
  ),
  grain id,
  references country_code,
  tags ('shop', 'staging', 'generated'),
  description 'companies of shop: the newest version of each row, rows that the source deleted left out.',
  column_descriptions (
    id = 'id of each row of companies; the primary key; as the source sends it.',
    name = 'name of each row of companies; as the source sends it.',
    country_code = 'country_code of each row of companies; refers to countries.code; as the source sends it.',
    created_at = 'created_at of each row of companies; as the source sends it.',
    updated_at = 'updated_at of each row of companies; as the source sends it.',
    vat_id = 'vat_id of each row of companies; as the source sends it.',
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
        country_code
      ),
      parent_model := staging.stg_shop__countries,
      parent_columns := (
        code
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
  raw.id::BIGINT AS id,
  raw.name::TEXT AS name,
  raw.country_code::TEXT AS country_code,
  raw.created_at::TIMESTAMPTZ AS created_at,
  raw.updated_at::TIMESTAMPTZ AS updated_at,
  raw.vat_id::TEXT AS vat_id,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.companies AS raw
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
      FROM shop_raw.companies
    )
)