MODEL (
  name marts.dim_shop__countries,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain code,
  tags ('shop', 'marts', 'generated'),
  description 'Countries: each one as it stands now.',
  column_descriptions (
    eur_rate = 'eur_rate of each row of countries; as the source sends it.',
    code = 'code of each row of countries; the primary key; as the source sends it.',
    name = 'name of each row of countries; as the source sends it.',
    currency = 'currency of each row of countries; as the source sends it.',
    updated_at = 'updated_at of each row of countries; as the source sends it.',
    _loaded_at = 'When the load package that brought the row was committed.'
  ),
  audits (
    not_null(columns := (
      code
    )),
    unique_combination_of_columns(columns := (
      code
    ))
  )
);

SELECT
  eur_rate AS eur_rate,
  code AS code,
  name AS name,
  currency AS currency,
  updated_at AS updated_at,
  _loaded_at AS _loaded_at
FROM staging.stg_shop__countries