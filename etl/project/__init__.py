"""The only importer of sqlmesh: its configuration from ours, plan, run, audits, named failures."""
