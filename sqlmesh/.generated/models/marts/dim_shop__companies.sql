MODEL (
  name marts.dim_shop__companies,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain id,
  tags ('shop', 'marts', 'generated'),
  description 'Companies: each one as it stands now.',
  column_descriptions (
    id = 'id of each row of companies; the primary key; as the source sends it.',
    name = 'name of each row of companies; as the source sends it.',
    country_code = 'country_code of each row of companies; refers to countries.code; as the source sends it.',
    created_at = 'created_at of each row of companies; as the source sends it.',
    updated_at = 'updated_at of each row of companies; as the source sends it.',
    vat_id = 'vat_id of each row of companies; as the source sends it.',
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
  country_code AS country_code,
  created_at AS created_at,
  updated_at AS updated_at,
  vat_id AS vat_id,
  _loaded_at AS _loaded_at
FROM staging.stg_shop__companies