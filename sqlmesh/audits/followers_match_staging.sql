AUDIT (
  name followers_match_staging,
  dialect duckdb
);

/* Guards the way from staging to followers_daily: recounts each actor's days from the day's newest load package,
with its own logic, and returns the days whose numbers differ or that one side lacks. */
WITH follower_packages AS (
  SELECT
    actor,
    snapshot_date,
    ARG_MAX(_dlt_load_id, (_loaded_at, _dlt_load_id)) AS _dlt_load_id
  FROM staging.stg_bluesky__followers
  GROUP BY
    actor,
    snapshot_date
), follow_packages AS (
  SELECT
    actor,
    snapshot_date,
    ARG_MAX(_dlt_load_id, (_loaded_at, _dlt_load_id)) AS _dlt_load_id
  FROM staging.stg_bluesky__follows
  GROUP BY
    actor,
    snapshot_date
), recounted AS (
  SELECT
    'followers_count' AS measure,
    rows.actor,
    rows.snapshot_date,
    COUNT(DISTINCT rows.did) AS staging_count
  FROM staging.stg_bluesky__followers AS rows
  INNER JOIN follower_packages AS packages
    ON rows.actor = packages.actor
    AND rows.snapshot_date = packages.snapshot_date
    AND rows._dlt_load_id = packages._dlt_load_id
  GROUP BY
    rows.actor,
    rows.snapshot_date
  UNION ALL
  SELECT
    'follows_count' AS measure,
    rows.actor,
    rows.snapshot_date,
    COUNT(DISTINCT rows.did) AS staging_count
  FROM staging.stg_bluesky__follows AS rows
  INNER JOIN follow_packages AS packages
    ON rows.actor = packages.actor
    AND rows.snapshot_date = packages.snapshot_date
    AND rows._dlt_load_id = packages._dlt_load_id
  GROUP BY
    rows.actor,
    rows.snapshot_date
), reported AS (
  SELECT
    'followers_count' AS measure,
    actor,
    snapshot_date,
    followers_count AS mart_count
  FROM @this_model
  WHERE
    NOT followers_count IS NULL
  UNION ALL
  SELECT
    'follows_count' AS measure,
    actor,
    snapshot_date,
    follows_count AS mart_count
  FROM @this_model
  WHERE
    NOT follows_count IS NULL
)
SELECT
  COALESCE(recounted.measure, reported.measure) AS measure,
  COALESCE(recounted.actor, reported.actor) AS actor,
  COALESCE(recounted.snapshot_date, reported.snapshot_date) AS snapshot_date,
  recounted.staging_count,
  reported.mart_count
FROM recounted
FULL OUTER JOIN reported
  ON recounted.measure = reported.measure
  AND recounted.actor = reported.actor
  AND recounted.snapshot_date = reported.snapshot_date
WHERE
  recounted.staging_count IS DISTINCT FROM reported.mart_count