MODEL (
  name marts.follower_labels,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  grain (actor, did, label_value, label_src),
  tags ('bluesky', 'mart', 'pii:did', 'pii:handle'),
  description 'Labels that hold on each actor''s current followers (its newest snapshot). A label that its newest statement takes back is not here; a label on the account and on its profile is one row.',
  column_descriptions (
    actor = 'Whose follower is labelled.',
    did = 'The follower''s permanent identifier (DID).',
    handle = 'The follower''s handle.',
    label_value = 'The label''s value, such as porn, spam or !no-unauthenticated.',
    label_src = 'DID of the labeler that set the label; the follower''s own DID if it labelled itself.',
    labelled_at = 'When the label was made; the earliest time if it stands on several of the account''s records; NULL if the API does not say.',
    snapshot_date = 'The day (UTC) of the actor''s newest followers snapshot.'
  ),
  audits (
    not_null(columns := (actor, did, handle, label_value, label_src, snapshot_date)),
    unique_combination_of_columns(columns := (actor, did, label_value, label_src)),
    labels_not_negated
  )
);

WITH current_followers AS (
  SELECT
    actor,
    snapshot_date,
    did,
    handle,
    _dlt_id
  FROM staging.int_bluesky__list_members
  WHERE
    list = 'followers' AND next_snapshot_date IS NULL
), newest_statements AS (
  SELECT
    followers.actor,
    followers.snapshot_date,
    followers.did,
    followers.handle,
    labels.label_value,
    labels.label_src,
    labels.label_created_at,
    labels.is_negation
  FROM current_followers AS followers
  INNER JOIN staging.stg_bluesky__followers__labels AS labels
    ON followers._dlt_id = labels._dlt_parent_id
  QUALIFY
    ROW_NUMBER() OVER (
      PARTITION BY followers.actor, followers.did, labels.label_value, labels.label_src, labels.label_uri
      ORDER BY labels.label_created_at DESC, labels._dlt_list_idx DESC
    ) = 1
)
SELECT
  actor::TEXT AS actor,
  did::TEXT AS did,
  handle::TEXT AS handle,
  label_value::TEXT AS label_value,
  label_src::TEXT AS label_src,
  MIN(label_created_at)::TIMESTAMPTZ AS labelled_at,
  snapshot_date::DATE AS snapshot_date
FROM newest_statements
WHERE
  NOT is_negation
GROUP BY
  actor,
  did,
  handle,
  label_value,
  label_src,
  snapshot_date