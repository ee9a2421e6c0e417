AUDIT (
  name followers_balance,
  dialect duckdb
);

/* Guards the books of followers_daily: yesterday's followers plus gained minus lost are today's followers.
The counts come from the snapshots, gained and lost from follower_changes, so a wrong change shows here. */
WITH days AS (
  SELECT
    actor,
    snapshot_date,
    previous_snapshot_date,
    followers_count,
    gained_count,
    lost_count,
    LAG(snapshot_date) OVER (PARTITION BY actor ORDER BY snapshot_date) AS day_before,
    LAG(followers_count) OVER (PARTITION BY actor ORDER BY snapshot_date) AS followers_count_before
  FROM @this_model
  WHERE
    NOT followers_count IS NULL
)
SELECT
  actor,
  snapshot_date,
  previous_snapshot_date,
  day_before,
  followers_count_before,
  gained_count,
  lost_count,
  followers_count,
  followers_count_before + gained_count - lost_count AS expected_followers_count
FROM days
WHERE
  previous_snapshot_date IS DISTINCT FROM day_before
  OR followers_count_before + gained_count - lost_count IS DISTINCT FROM CASE WHEN NOT day_before IS NULL THEN followers_count END