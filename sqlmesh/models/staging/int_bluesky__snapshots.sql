MODEL (
  name staging.int_bluesky__snapshots,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (list, actor, snapshot_date),
  tags ('bluesky', 'intermediate'),
  description 'Which load package counts for which day: for each actor, list and snapshot day the newest committed package that holds rows of it. The only place that decides between a day''s runs. A list that is empty leaves no rows in raw, so it cannot be told from a list that was not loaded.',
  column_descriptions (
    list = 'followers: accounts that follow the actor; follows: accounts that the actor follows.',
    actor = 'Whose list it is.',
    snapshot_date = 'The day (UTC) that the snapshot describes.',
    previous_snapshot_date = 'The day of this list''s snapshot before this one; NULL in the first.',
    next_snapshot_date = 'The day of this list''s snapshot after this one; NULL in the newest.',
    _loaded_at = 'When the package was committed.',
    _dlt_load_id = 'The load package that holds the snapshot.'
  ),
  audits (
    not_null(columns := (list, actor, snapshot_date, _loaded_at, _dlt_load_id)),
    unique_combination_of_columns(columns := (list, actor, snapshot_date)),
    accepted_values("column" := list, is_in := ('followers', 'follows'))
  )
);

WITH packages AS (
  SELECT
    'followers' AS list,
    actor,
    snapshot_date,
    _dlt_load_id,
    MAX(_loaded_at) AS _loaded_at
  FROM staging.stg_bluesky__followers
  GROUP BY
    actor,
    snapshot_date,
    _dlt_load_id
  UNION ALL
  SELECT
    'follows' AS list,
    actor,
    snapshot_date,
    _dlt_load_id,
    MAX(_loaded_at) AS _loaded_at
  FROM staging.stg_bluesky__follows
  GROUP BY
    actor,
    snapshot_date,
    _dlt_load_id
), newest_packages AS (
  SELECT
    list,
    actor,
    snapshot_date,
    _loaded_at,
    _dlt_load_id
  FROM packages
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY list, actor, snapshot_date
      ORDER BY _loaded_at DESC, _dlt_load_id DESC
    ) = 1
)
SELECT
  list::TEXT AS list,
  actor::TEXT AS actor,
  snapshot_date::DATE AS snapshot_date,
  LAG(snapshot_date) OVER list_history::DATE AS previous_snapshot_date,
  LEAD(snapshot_date) OVER list_history::DATE AS next_snapshot_date,
  _loaded_at::TIMESTAMPTZ AS _loaded_at,
  _dlt_load_id::TEXT AS _dlt_load_id
FROM newest_packages
WINDOW list_history AS (PARTITION BY list, actor ORDER BY snapshot_date)