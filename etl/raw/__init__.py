"""The only importer of dlt's pipeline: load packages from extraction to their commit in raw."""
