"""What a run imports sooner or later, imported once for all test processes."""

import importlib
import os

from etl.libraries import prepare_libraries

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have no other thread
prepare_libraries()
for module in (
    "dlt.destinations.impl.duckdb.duck",
    "pandas",
    "etl.job",
    "etl.planning",
    "etl.project.runner",
    "etl.raw.pipeline",
    "etl.sources.build",
    "etl.targets.duckdb_file",
):
    importlib.import_module(module)
