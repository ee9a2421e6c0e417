AUDIT (
  name positive_volume,
  dialect duckdb
);

/* Guards the volume: 0 on a day without trade, never less. */
SELECT
  *
FROM @this_model
WHERE
  volume < 0