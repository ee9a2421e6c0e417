MODEL (
  name staging.stg_bluesky__followers__labels,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column _loaded_at
  ),
  cron '@daily',
  allow_partials TRUE,
  depends_on (
    staging.stg_bluesky__followers
  ),
  grain _dlt_id,
  references _dlt_parent_id,
  tags ('bluesky', 'staging', 'pii:did', 'pii:label_uri'),
  description 'Labels on the followers as loaded: one row for each raw label whose follower belongs to a committed load package, nothing removed.',
  column_descriptions (
    actor = 'Whose follower the labelled account is.',
    snapshot_date = 'The day (UTC) that the snapshot describes.',
    did = 'The labelled follower''s permanent identifier (DID).',
    label_value = 'The label''s value, such as porn, spam or !no-unauthenticated.',
    label_src = 'DID of the labeler that set the label; the account''s own DID if it labelled itself.',
    label_uri = 'What is labelled: the account (DID) or one of its records (at:// address).',
    label_cid = 'Version of the labelled record; NULL if the label holds for all versions.',
    label_created_at = 'When the label was made.',
    is_negation = 'TRUE if the label takes back an earlier one with the same source, address and value.',
    _loaded_at = 'When the row''s load package was committed; decides the interval that the row belongs to.',
    _dlt_load_id = 'The dlt load package that brought the row, taken from the follower''s row.',
    _dlt_parent_id = '_dlt_id of the follower''s row in stg_bluesky__followers.',
    _dlt_list_idx = 'Position in the follower''s list of labels, from 0.',
    _dlt_id = 'Unique identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(
      columns := (
        actor,
        snapshot_date,
        did,
        label_value,
        label_src,
        label_uri,
        is_negation,
        _loaded_at,
        _dlt_load_id,
        _dlt_parent_id,
        _dlt_id
      )
    ),
    unique_combination_of_columns(columns := (
      _dlt_id
    )),
    relationship(
      columns := (
        _dlt_parent_id
      ),
      parent_model := staging.stg_bluesky__followers,
      parent_columns := (
        _dlt_id
      )
    )
  )
);

/* A package resumed after a crash can be recorded twice: its first commit counts, else its rows would double */
WITH committed_packages AS (
  SELECT
    load_id,
    MIN(inserted_at) AS inserted_at
  FROM bluesky_raw._dlt_loads
  WHERE
    status = 0
  GROUP BY
    load_id
)
SELECT
  parents.actor::TEXT AS actor,
  parents.snapshot_date::DATE AS snapshot_date,
  parents.did::TEXT AS did,
  raw.val::TEXT AS label_value,
  raw.src::TEXT AS label_src,
  raw.uri::TEXT AS label_uri,
  raw.cid::TEXT AS label_cid,
  raw.cts::TIMESTAMPTZ AS label_created_at,
  COALESCE(raw.neg, FALSE)::BOOLEAN AS is_negation,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  parents._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_parent_id::TEXT AS _dlt_parent_id,
  raw._dlt_list_idx::BIGINT AS _dlt_list_idx,
  raw._dlt_id::TEXT AS _dlt_id
FROM bluesky_raw.followers__labels AS raw
INNER JOIN bluesky_raw.followers AS parents
  ON raw._dlt_parent_id = parents._dlt_id
INNER JOIN committed_packages AS packages
  ON parents._dlt_load_id = packages.load_id
WHERE
  packages.inserted_at BETWEEN @start_tstz AND @end_tstz