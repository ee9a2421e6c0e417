MODEL (
  name staging.stg_bluesky__follows,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column _loaded_at
  ),
  cron '@daily',
  allow_partials TRUE,
  grain _dlt_id,
  tags (
    'bluesky',
    'staging',
    'pii:did',
    'pii:handle',
    'pii:display_name',
    'pii:avatar',
    'pii:description'
  ),
  description 'Accounts that each actor follows as loaded: one row for each raw row of a committed load package, nothing removed. A day with two runs holds two snapshots.',
  column_descriptions (
    actor = 'Whose list the account is on: the handle or DID that was asked for.',
    snapshot_date = 'The day (UTC) that the snapshot describes.',
    did = 'The account''s permanent identifier (DID).',
    handle = 'The account''s handle when the snapshot was taken; its owner can change it.',
    display_name = 'The name that the account shows; NULL if it set none.',
    avatar = 'Address of the profile picture; NULL if there is none.',
    description = 'The profile''s own text; NULL if there is none.',
    created_at = 'When the account was created; NULL if the API does not say.',
    indexed_at = 'When Bluesky last indexed the profile; NULL if the API does not say.',
    lists_count = 'Number of lists that the account made; NULL if the API does not say.',
    feedgens_count = 'Number of feed generators that the account made; NULL if the API does not say.',
    is_labeler = 'Whether the account is a labeler; NULL if the API does not say.',
    chat_allow_incoming = 'From whom the account takes chat messages (all, none, following); NULL if the API does not say.',
    is_muted = 'Whether the viewer muted the account; NULL without a viewer.',
    is_blocked_by = 'Whether the account blocks the viewer; NULL without a viewer.',
    _loaded_at = 'When the row''s load package was committed; decides the interval that the row belongs to.',
    _dlt_load_id = 'The dlt load package that brought the row.',
    _dlt_id = 'Unique identifier of the raw row, given by dlt.'
  ),
  audits (
    not_null(
      columns := (actor, snapshot_date, did, handle, _loaded_at, _dlt_load_id, _dlt_id)
    ),
    unique_combination_of_columns(columns := (
      _dlt_id
    )),
    match_like_pattern_list("column" := did, patterns := (
      'did:%'
    )),
    accepted_values_non_blocking("column" := chat_allow_incoming, is_in := ('all', 'none', 'following'))
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
  raw.actor::TEXT AS actor,
  raw.snapshot_date::DATE AS snapshot_date,
  raw.did::TEXT AS did,
  raw.handle::TEXT AS handle,
  raw.display_name::TEXT AS display_name,
  raw.avatar::TEXT AS avatar,
  raw.description::TEXT AS description,
  raw.created_at::TIMESTAMPTZ AS created_at,
  raw.indexed_at::TIMESTAMPTZ AS indexed_at,
  raw.associated__lists::BIGINT AS lists_count,
  raw.associated__feedgens::BIGINT AS feedgens_count,
  raw.associated__labeler::BOOLEAN AS is_labeler,
  raw.associated__chat__allow_incoming::TEXT AS chat_allow_incoming,
  raw.viewer__muted::BOOLEAN AS is_muted,
  raw.viewer__blocked_by::BOOLEAN AS is_blocked_by,
  packages.inserted_at::TIMESTAMPTZ AS _loaded_at,
  raw._dlt_load_id::TEXT AS _dlt_load_id,
  raw._dlt_id::TEXT AS _dlt_id
FROM bluesky_raw.follows AS raw
INNER JOIN committed_packages AS packages
  ON raw._dlt_load_id = packages.load_id
WHERE
  packages.inserted_at BETWEEN @start_tstz AND @end_tstz