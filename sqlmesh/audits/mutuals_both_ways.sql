AUDIT (
  name mutuals_both_ways,
  dialect duckdb
);

/* Guards what mutual means: each pair was loaded in both directions, on the days that the row names, and neither
list of the actor has a newer day. Looks in staging, not in the model that mutuals is made from. */
WITH follower_days AS (
  SELECT
    actor,
    MAX(snapshot_date) AS newest_date
  FROM staging.stg_bluesky__followers
  GROUP BY
    actor
), follow_days AS (
  SELECT
    actor,
    MAX(snapshot_date) AS newest_date
  FROM staging.stg_bluesky__follows
  GROUP BY
    actor
), checked AS (
  SELECT
    mutuals.actor,
    mutuals.did,
    mutuals.handle,
    mutuals.followers_snapshot_date,
    mutuals.follows_snapshot_date,
    EXISTS(
      SELECT
        1
      FROM staging.stg_bluesky__followers AS followers
      WHERE
        followers.actor = mutuals.actor
        AND followers.did = mutuals.did
        AND followers.snapshot_date = mutuals.followers_snapshot_date
    ) AS is_follower,
    EXISTS(
      SELECT
        1
      FROM staging.stg_bluesky__follows AS follows
      WHERE
        follows.actor = mutuals.actor
        AND follows.did = mutuals.did
        AND follows.snapshot_date = mutuals.follows_snapshot_date
    ) AS is_followed,
    follower_days.newest_date AS newest_followers_date,
    follow_days.newest_date AS newest_follows_date
  FROM @this_model AS mutuals
  LEFT JOIN follower_days
    ON mutuals.actor = follower_days.actor
  LEFT JOIN follow_days
    ON mutuals.actor = follow_days.actor
)
SELECT
  actor,
  did,
  handle,
  is_follower,
  is_followed,
  followers_snapshot_date,
  newest_followers_date,
  follows_snapshot_date,
  newest_follows_date
FROM checked
WHERE
  NOT is_follower
  OR NOT is_followed
  OR followers_snapshot_date IS DISTINCT FROM newest_followers_date
  OR follows_snapshot_date IS DISTINCT FROM newest_follows_date