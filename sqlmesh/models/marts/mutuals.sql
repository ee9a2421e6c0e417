MODEL (
  name marts.mutuals,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  depends_on (staging.stg_bluesky__followers, staging.stg_bluesky__follows),
  grain (actor, did),
  tags ('bluesky', 'mart', 'pii:did', 'pii:handle', 'pii:display_name'),
  description 'Accounts that follow an actor and are followed by it, in the newest snapshot of each of the two lists. If only one list was loaded last, the other one''s newest snapshot is older: both days stand in the row.',
  column_descriptions (
    actor = 'The actor of the pair.',
    did = 'The other account''s permanent identifier (DID).',
    handle = 'The other account''s handle in the actor''s newest followers snapshot.',
    display_name = 'The name that the other account shows there; NULL if it set none.',
    followers_snapshot_date = 'The day (UTC) on which the account was seen following the actor.',
    follows_snapshot_date = 'The day (UTC) on which the actor was seen following the account.'
  ),
  audits (
    not_null(columns := (actor, did, handle, followers_snapshot_date, follows_snapshot_date)),
    unique_combination_of_columns(columns := (actor, did)),
    mutuals_both_ways
  )
);

WITH current_members AS (
  SELECT
    list,
    actor,
    snapshot_date,
    did,
    handle,
    display_name
  FROM staging.int_bluesky__list_members
  WHERE
    next_snapshot_date IS NULL
)
SELECT
  followers.actor::TEXT AS actor,
  followers.did::TEXT AS did,
  followers.handle::TEXT AS handle,
  followers.display_name::TEXT AS display_name,
  followers.snapshot_date::DATE AS followers_snapshot_date,
  follows.snapshot_date::DATE AS follows_snapshot_date
FROM current_members AS followers
INNER JOIN current_members AS follows
  ON followers.actor = follows.actor AND followers.did = follows.did
WHERE
  followers.list = 'followers' AND follows.list = 'follows'