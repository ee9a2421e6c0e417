AUDIT (
  name labels_not_negated,
  dialect duckdb
);

/* Guards the people behind the labels: no label stands in the mart that the same snapshot takes back on every
record it was put on. Looks in staging with its own logic. */
WITH statements AS (
  SELECT
    actor,
    snapshot_date,
    did,
    label_value,
    label_src,
    label_uri,
    _dlt_parent_id,
    MAX(label_created_at) FILTER(WHERE
      NOT is_negation) AS put_on_at,
    MAX(label_created_at) FILTER(WHERE
      is_negation) AS taken_back_at
  FROM staging.stg_bluesky__followers__labels
  GROUP BY
    actor,
    snapshot_date,
    did,
    label_value,
    label_src,
    label_uri,
    _dlt_parent_id
), standing AS (
  SELECT DISTINCT
    actor,
    snapshot_date,
    did,
    label_value,
    label_src
  FROM statements
  WHERE
    taken_back_at IS NULL OR put_on_at >= taken_back_at
)
SELECT
  labels.actor,
  labels.did,
  labels.handle,
  labels.label_value,
  labels.label_src,
  labels.labelled_at,
  labels.snapshot_date
FROM @this_model AS labels
LEFT JOIN standing
  ON labels.actor = standing.actor
  AND labels.snapshot_date = standing.snapshot_date
  AND labels.did = standing.did
  AND labels.label_value = standing.label_value
  AND labels.label_src = standing.label_src
WHERE
  standing.actor IS NULL