"""A batch job that a scheduler can trust: dlt extracts, SQLMesh transforms, audits decide."""
