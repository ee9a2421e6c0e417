"""What a run imports sooner or later, imported once for all test processes."""

import importlib
import inspect
import os

from etl.libraries import prepare_libraries

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have no other thread
prepare_libraries()
for module in (
    "dlt.common.libs.pyarrow",
    "dlt.destinations.impl.duckdb.duck",
    "filelock",
    "pandas",
    "psycopg",
    "pyarrow.parquet",
    "sqlmesh.integrations.dlt",
    "sqlmesh.magics",
    "etl.cli",
    "etl.job",
    "etl.planning",
    "etl.project.runner",
    "etl.raw.fields",
    "etl.raw.pipeline",
    "etl.report.page",
    "etl.sources.build",
    "etl.stages.audit",
    "etl.stages.extract",
    "etl.stages.load",
    "etl.summary",
    "etl.targets.duckdb_file",
):
    importlib.import_module(module)
inspect.stack()  # SQLMesh's plan asks for it: the files of all modules are looked up, once
