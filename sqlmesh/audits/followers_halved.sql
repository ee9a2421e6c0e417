AUDIT (
  name followers_halved,
  dialect duckdb,
  blocking FALSE
);

/* Warns of a list that was probably cut short by the API: an actor lost more than half of at least 10 followers
since its previous snapshot. Not blocking, for it can be true. */
SELECT
  actor,
  snapshot_date,
  previous_snapshot_date,
  followers_count - gained_count + lost_count AS followers_count_before,
  followers_count,
  lost_count
FROM @this_model
WHERE
  followers_count - gained_count + lost_count >= 10
  AND lost_count * 2 > followers_count - gained_count + lost_count