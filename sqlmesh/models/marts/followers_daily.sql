MODEL (
  name marts.followers_daily,
  kind FULL,
  cron '@daily',
  allow_partials TRUE,
  depends_on (staging.stg_bluesky__followers, staging.stg_bluesky__follows),
  grain (actor, snapshot_date),
  tags ('bluesky', 'mart'),
  description 'How many followers each actor had on each snapshot day, and how many came and left since the previous one. One row for each actor and day on which at least one of its lists was loaded; a day with several runs counts its newest snapshot.',
  column_descriptions (
    actor = 'Whose followers are counted.',
    snapshot_date = 'The day (UTC) that the numbers describe.',
    previous_snapshot_date = 'The day that gained_count and lost_count compare with; NULL on the first day. Days without a run leave gaps.',
    followers_count = 'Accounts that follow the actor; NULL if the snapshot holds no follower (none, or the list was not loaded on that day).',
    follows_count = 'Accounts that the actor follows; NULL if the snapshot holds none (none, or the list was not loaded on that day).',
    gained_count = 'Followers who were not there on previous_snapshot_date; NULL if there is no such day.',
    lost_count = 'Followers of previous_snapshot_date who are not there any more; NULL if there is no such day.'
  ),
  audits (
    not_null(columns := (actor, snapshot_date)),
    unique_combination_of_columns(columns := (actor, snapshot_date)),
    forall(
      criteria := (
        COALESCE(followers_count, 1) > 0,
        COALESCE(follows_count, 1) > 0,
        COALESCE(gained_count, 0) >= 0,
        COALESCE(lost_count, 0) >= 0,
        (
          gained_count IS NULL
        ) = (
          previous_snapshot_date IS NULL
        ),
        (
          lost_count IS NULL
        ) = (
          previous_snapshot_date IS NULL
        )
      )
    ),
    followers_match_staging,
    followers_balance,
    followers_halved
  )
);

WITH list_counts AS (
  SELECT
    actor,
    snapshot_date,
    MAX(previous_snapshot_date) FILTER(WHERE
      list = 'followers') AS previous_snapshot_date,
    COUNT(*) FILTER(WHERE
      list = 'followers') AS followers_count,
    COUNT(*) FILTER(WHERE
      list = 'follows') AS follows_count
  FROM staging.int_bluesky__list_members
  GROUP BY
    actor,
    snapshot_date
), change_counts AS (
  SELECT
    actor,
    changed_on,
    COUNT(*) FILTER(WHERE
      change = 'gained') AS gained_count,
    COUNT(*) FILTER(WHERE
      change = 'lost') AS lost_count
  FROM marts.follower_changes
  GROUP BY
    actor,
    changed_on
)
SELECT
  days.actor::TEXT AS actor,
  days.snapshot_date::DATE AS snapshot_date,
  days.previous_snapshot_date::DATE AS previous_snapshot_date,
  NULLIF(days.followers_count, 0)::BIGINT AS followers_count,
  NULLIF(days.follows_count, 0)::BIGINT AS follows_count,
  CASE
    WHEN NOT days.previous_snapshot_date IS NULL
    THEN COALESCE(changes.gained_count, 0)
  END::BIGINT AS gained_count,
  CASE
    WHEN NOT days.previous_snapshot_date IS NULL
    THEN COALESCE(changes.lost_count, 0)
  END::BIGINT AS lost_count
FROM list_counts AS days
LEFT JOIN change_counts AS changes
  ON days.actor = changes.actor AND days.snapshot_date = changes.changed_on