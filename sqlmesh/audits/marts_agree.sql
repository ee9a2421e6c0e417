AUDIT (
  name marts_agree,
  dialect duckdb,
  standalone TRUE
);

/* Guards that the marts tell one story: an account in mutuals or follower_labels is a follower by follower_changes
too (its last change is not lost), and both stand on the newest day that followers_daily counts for the actor.
Each mart is right by its own audits; this one finds marts of different runs next to each other. */
WITH last_changes AS (
  SELECT
    actor,
    did,
    ARG_MAX(change, changed_on) AS last_change,
    MAX(changed_on) AS changed_on
  FROM marts.follower_changes
  GROUP BY
    actor,
    did
), newest_days AS (
  SELECT
    actor,
    MAX(snapshot_date) AS newest_date
  FROM marts.followers_daily
  WHERE
    NOT followers_count IS NULL
  GROUP BY
    actor
), present AS (
  SELECT
    'mutuals' AS mart,
    actor,
    did,
    handle,
    followers_snapshot_date AS snapshot_date
  FROM marts.mutuals
  UNION ALL
  SELECT DISTINCT
    'follower_labels' AS mart,
    actor,
    did,
    handle,
    snapshot_date
  FROM marts.follower_labels
)
SELECT
  present.mart,
  present.actor,
  present.did,
  present.handle,
  present.snapshot_date,
  newest_days.newest_date,
  last_changes.last_change,
  last_changes.changed_on
FROM present
LEFT JOIN newest_days
  ON present.actor = newest_days.actor
LEFT JOIN last_changes
  ON present.actor = last_changes.actor AND present.did = last_changes.did
WHERE
  present.snapshot_date IS DISTINCT FROM newest_days.newest_date
  OR last_changes.last_change = 'lost'
