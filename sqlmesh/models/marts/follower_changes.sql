MODEL (
  name marts.follower_changes,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (actor, did, changed_on),
  tags (
    'bluesky',
    'mart',
    'pii:did',
    'pii:handle',
    'pii:previous_handle',
    'pii:display_name',
    'pii:previous_display_name'
  ),
  description 'Who came, left or took another handle among each actor''s followers, against that actor''s previous snapshot day. The first snapshot of an actor is no change. An account that left and came back is gained, whatever its handle.',
  column_descriptions (
    actor = 'Whose follower the account is or was.',
    changed_on = 'The snapshot day (UTC) on which the change was first seen.',
    change = 'gained: not there on the previous snapshot day; lost: there on the previous snapshot day, not on this one; renamed: there on both with different handles.',
    did = 'The account''s permanent identifier (DID).',
    handle = 'The account''s handle on changed_on; for lost the one it was last seen with.',
    previous_handle = 'The handle on the previous snapshot day; NULL unless renamed.',
    display_name = 'The display name on changed_on; for lost the one it was last seen with; NULL if it set none.',
    previous_display_name = 'The display name on the previous snapshot day; NULL unless renamed, or if it had set none.'
  ),
  audits (
    not_null(columns := (actor, changed_on, change, did, handle)),
    unique_combination_of_columns(columns := (actor, did, changed_on)),
    accepted_values("column" := change, is_in := ('gained', 'lost', 'renamed')),
    changes_alternate
  )
);

WITH members AS (
  SELECT
    actor,
    snapshot_date,
    previous_snapshot_date,
    next_snapshot_date,
    did,
    handle,
    display_name,
    LAG(snapshot_date) OVER account_history AS last_seen_on,
    LAG(handle) OVER account_history AS last_handle,
    LAG(display_name) OVER account_history AS last_display_name,
    LEAD(snapshot_date) OVER account_history AS next_seen_on
  FROM staging.int_bluesky__list_members
  WHERE
    list = 'followers'
  WINDOW account_history AS (PARTITION BY actor, did ORDER BY snapshot_date)
), gained AS (
  SELECT
    actor,
    snapshot_date AS changed_on,
    'gained' AS change,
    did,
    handle,
    NULL AS previous_handle,
    display_name,
    NULL AS previous_display_name
  FROM members
  WHERE
    NOT previous_snapshot_date IS NULL
    AND last_seen_on IS DISTINCT FROM previous_snapshot_date
), lost AS (
  SELECT
    actor,
    next_snapshot_date AS changed_on,
    'lost' AS change,
    did,
    handle,
    NULL AS previous_handle,
    display_name,
    NULL AS previous_display_name
  FROM members
  WHERE
    NOT next_snapshot_date IS NULL
    AND next_seen_on IS DISTINCT FROM next_snapshot_date
), renamed AS (
  SELECT
    actor,
    snapshot_date AS changed_on,
    'renamed' AS change,
    did,
    handle,
    last_handle AS previous_handle,
    display_name,
    last_display_name AS previous_display_name
  FROM members
  WHERE
    last_seen_on = previous_snapshot_date AND handle <> last_handle
), changes AS (
  SELECT
    actor,
    changed_on,
    change,
    did,
    handle,
    previous_handle,
    display_name,
    previous_display_name
  FROM gained
  UNION ALL
  SELECT
    actor,
    changed_on,
    change,
    did,
    handle,
    previous_handle,
    display_name,
    previous_display_name
  FROM lost
  UNION ALL
  SELECT
    actor,
    changed_on,
    change,
    did,
    handle,
    previous_handle,
    display_name,
    previous_display_name
  FROM renamed
)
SELECT
  actor::TEXT AS actor,
  changed_on::DATE AS changed_on,
  change::TEXT AS change,
  did::TEXT AS did,
  handle::TEXT AS handle,
  previous_handle::TEXT AS previous_handle,
  display_name::TEXT AS display_name,
  previous_display_name::TEXT AS previous_display_name
FROM changes