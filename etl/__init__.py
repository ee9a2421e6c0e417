"""A batch job that a scheduler can trust: extract with dlt, transform with SQLMesh, audit, publish."""
