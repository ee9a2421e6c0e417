MODEL (
  name staging.stg_shop__customers,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key (id)
  ),
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_shop__companies
  ),
  grain id,
  references company_id,
  tags ('shop', 'staging', 'generated'),
  description 'customers of shop: the newest version of each row, rows that the source deleted left out.',
  column_descriptions (
    id = 'id of each row of customers; the primary key; as the source sends it.',
    name = 'name of each row of customers; as the source sends it.',
    email = 'email of each row of customers; as the source sends it.',
    created_at = 'created_at of each row of customers; as the source sends it.',
    updated_at = 'updated_at of each row of customers; as the source sends it.',
    company_id = 'company_id of each row of customers; refers to companies.id; as the source sends it.',
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
        company_id
      ),
      parent_model := staging.stg_shop__companies,
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
  raw.id::BIGINT AS id,
  raw.name::TEXT AS name,
  raw.email::TEXT AS email,
  raw.created_at::TIMESTAMPTZ AS created_at,
  raw.updated_at::TIMESTAMPTZ AS updated_at,
  raw.company_id::BIGINT AS company_id,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM shop_raw.customers AS raw
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
      FROM shop_raw.customers
    )
)