AUDIT (
  name changes_alternate,
  dialect duckdb
);

/* Guards each account's story in follower_changes: only who is away can be gained, only who is there can be
lost or renamed, and a rename is from one handle to another. Returns the change that cannot follow the one before. */
WITH story AS (
  SELECT
    actor,
    did,
    changed_on,
    change,
    handle,
    previous_handle,
    LAG(change) OVER (PARTITION BY actor, did ORDER BY changed_on) AS change_before,
    LAG(changed_on) OVER (PARTITION BY actor, did ORDER BY changed_on) AS changed_on_before
  FROM @this_model
)
SELECT
  actor,
  did,
  changed_on,
  change,
  handle,
  previous_handle,
  changed_on_before,
  change_before
FROM story
WHERE
  (
    change = 'gained' AND change_before <> 'lost'
  )
  OR (
    change <> 'gained' AND change_before = 'lost'
  )
  OR (
    (
      change = 'renamed'
    ) <> (
      NOT previous_handle IS NULL
    )
  )
  OR previous_handle = handle