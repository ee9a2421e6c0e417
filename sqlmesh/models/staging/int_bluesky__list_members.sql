MODEL (
  name staging.int_bluesky__list_members,
  kind VIEW,
  cron '@daily',
  allow_partials TRUE,
  grain (list, actor, snapshot_date, did),
  tags ('bluesky', 'intermediate', 'pii:did', 'pii:handle', 'pii:display_name'),
  description 'Who was on which list on which day: the accounts in each snapshot of int_bluesky__snapshots, each account once. The marts read this. A view, so that a mart of the newest snapshot reads no more than that one.',
  column_descriptions (
    list = 'followers: the account follows the actor; follows: the actor follows the account.',
    actor = 'Whose list it is.',
    snapshot_date = 'The day (UTC) that the snapshot describes.',
    previous_snapshot_date = 'The day of this list''s snapshot before this one; NULL in the first.',
    next_snapshot_date = 'The day of this list''s snapshot after this one; NULL in the newest.',
    did = 'The account''s permanent identifier (DID).',
    handle = 'The account''s handle on that day.',
    display_name = 'The name that the account showed on that day; NULL if it set none.',
    _dlt_id = 'Identifier of the raw row, the parent of its labels.'
  ),
  audits (
    not_null(columns := (list, actor, snapshot_date, did, handle, _dlt_id)),
    unique_combination_of_columns(columns := (list, actor, snapshot_date, did))
  )
);

/* Grouped, for a list that moves while it is paged through can return an account on two pages; the lowest _dlt_id wins */
WITH members AS (
  SELECT
    snapshots.list,
    snapshots.actor,
    snapshots.snapshot_date,
    snapshots.previous_snapshot_date,
    snapshots.next_snapshot_date,
    accounts.did,
    ARG_MIN(accounts.handle, accounts._dlt_id) AS handle,
    ARG_MIN_NULL(accounts.display_name, accounts._dlt_id) AS display_name,
    MIN(accounts._dlt_id) AS _dlt_id
  FROM staging.stg_bluesky__followers AS accounts
  INNER JOIN staging.int_bluesky__snapshots AS snapshots
    ON accounts.actor = snapshots.actor
    AND accounts.snapshot_date = snapshots.snapshot_date
    AND accounts._dlt_load_id = snapshots._dlt_load_id
  WHERE
    snapshots.list = 'followers'
  GROUP BY
    snapshots.list,
    snapshots.actor,
    snapshots.snapshot_date,
    snapshots.previous_snapshot_date,
    snapshots.next_snapshot_date,
    accounts.did
  UNION ALL
  SELECT
    snapshots.list,
    snapshots.actor,
    snapshots.snapshot_date,
    snapshots.previous_snapshot_date,
    snapshots.next_snapshot_date,
    accounts.did,
    ARG_MIN(accounts.handle, accounts._dlt_id) AS handle,
    ARG_MIN_NULL(accounts.display_name, accounts._dlt_id) AS display_name,
    MIN(accounts._dlt_id) AS _dlt_id
  FROM staging.stg_bluesky__follows AS accounts
  INNER JOIN staging.int_bluesky__snapshots AS snapshots
    ON accounts.actor = snapshots.actor
    AND accounts.snapshot_date = snapshots.snapshot_date
    AND accounts._dlt_load_id = snapshots._dlt_load_id
  WHERE
    snapshots.list = 'follows'
  GROUP BY
    snapshots.list,
    snapshots.actor,
    snapshots.snapshot_date,
    snapshots.previous_snapshot_date,
    snapshots.next_snapshot_date,
    accounts.did
)
SELECT
  list::TEXT AS list,
  actor::TEXT AS actor,
  snapshot_date::DATE AS snapshot_date,
  previous_snapshot_date::DATE AS previous_snapshot_date,
  next_snapshot_date::DATE AS next_snapshot_date,
  did::TEXT AS did,
  handle::TEXT AS handle,
  display_name::TEXT AS display_name,
  _dlt_id::TEXT AS _dlt_id
FROM members