"""`etl lineage`: where columns come from and what they feed, from the API to the targets."""
