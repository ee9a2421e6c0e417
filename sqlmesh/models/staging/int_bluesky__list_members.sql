MODEL (
  name staging.int_bluesky__list_members,
  kind VIEW,
  cron '@daily',
  allow_partials TRUE,
  grain (list, actor, snapshot_date, did),
  tags ('bluesky', 'intermediate', 'pii:did', 'pii:handle', 'pii:display_name'),
  description 'Who was on which list on which day: for each actor, list and snapshot day the accounts in the newest committed load package that holds rows of it, each account once. The only place that decides which of a day''s snapshots counts; the marts read this. A list that is empty leaves no rows in raw, so it cannot be told from a list that was not loaded.',
  column_descriptions (
    list = 'followers: the account follows the actor; follows: the actor follows the account.',
    actor = 'Whose list it is.',
    snapshot_date = 'The day (UTC) that the snapshot describes.',
    previous_snapshot_date = 'The day of this list''s snapshot before this one; NULL in the first.',
    next_snapshot_date = 'The day of this list''s snapshot after this one; NULL in the newest.',
    did = 'The account''s permanent identifier (DID).',
    handle = 'The account''s handle on that day.',
    display_name = 'The name that the account showed on that day; NULL if it set none.',
    _loaded_at = 'When the snapshot''s load package was committed.',
    _dlt_load_id = 'The load package that the snapshot was taken from.',
    _dlt_id = 'Identifier of the raw row, the parent of its labels.'
  ),
  audits (
    not_null(columns := (list, actor, snapshot_date, did)),
    unique_combination_of_columns(columns := (list, actor, snapshot_date, did))
  )
);

WITH loaded AS (
  SELECT
    'followers' AS list,
    actor,
    snapshot_date,
    did,
    handle,
    display_name,
    indexed_at,
    _loaded_at,
    _dlt_load_id,
    _dlt_id
  FROM staging.stg_bluesky__followers
  UNION ALL
  SELECT
    'follows' AS list,
    actor,
    snapshot_date,
    did,
    handle,
    display_name,
    indexed_at,
    _loaded_at,
    _dlt_load_id,
    _dlt_id
  FROM staging.stg_bluesky__follows
), packages AS (
  SELECT
    list,
    actor,
    snapshot_date,
    _dlt_load_id,
    MAX(_loaded_at) AS _loaded_at
  FROM loaded
  GROUP BY
    list,
    actor,
    snapshot_date,
    _dlt_load_id
), newest_packages AS (
  SELECT
    list,
    actor,
    snapshot_date,
    _dlt_load_id
  FROM packages
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY list, actor, snapshot_date
      ORDER BY _loaded_at DESC, _dlt_load_id DESC
    ) = 1
), snapshots AS (
  SELECT
    list,
    actor,
    snapshot_date,
    _dlt_load_id,
    LAG(snapshot_date) OVER (PARTITION BY list, actor ORDER BY snapshot_date) AS previous_snapshot_date,
    LEAD(snapshot_date) OVER (PARTITION BY list, actor ORDER BY snapshot_date) AS next_snapshot_date
  FROM newest_packages
)
SELECT
  loaded.list::TEXT AS list,
  loaded.actor::TEXT AS actor,
  loaded.snapshot_date::DATE AS snapshot_date,
  snapshots.previous_snapshot_date::DATE AS previous_snapshot_date,
  snapshots.next_snapshot_date::DATE AS next_snapshot_date,
  loaded.did::TEXT AS did,
  loaded.handle::TEXT AS handle,
  loaded.display_name::TEXT AS display_name,
  loaded._loaded_at::TIMESTAMPTZ AS _loaded_at,
  loaded._dlt_load_id::TEXT AS _dlt_load_id,
  loaded._dlt_id::TEXT AS _dlt_id
FROM loaded
INNER JOIN snapshots
  ON loaded.list = snapshots.list
  AND loaded.actor = snapshots.actor
  AND loaded.snapshot_date = snapshots.snapshot_date
  AND loaded._dlt_load_id = snapshots._dlt_load_id
QUALIFY
  ROW_NUMBER() OVER (
    PARTITION BY loaded.list, loaded.actor, loaded.snapshot_date, loaded.did
    ORDER BY loaded.indexed_at DESC, loaded._dlt_id
  ) = 1