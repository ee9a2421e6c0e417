"""Raw tables and settings that come from a plain dlt script or a plain SQLMesh project."""

from __future__ import annotations

from pathlib import Path

import dlt

from etl.errors import ConfigError
from etl.secrets import MASK
from tests.duckdb_files import opened
from tests.integration.extracting import (
    extract_once,
    failure_of,
    query,
    settings_of,
)
from tests.integration.projects import Shop
from tests.integration.test_extract_names import FACTORY, reading_as
from tests.processes import run_etl, without_settings


def keyed(token: str = dlt.secrets.value) -> dlt.sources.DltSource:
    """Used by its name below: a factory whose credentials dlt looks for itself."""
    return reading_as(token)


keyed_source = dlt.source(keyed, name="keyed")


def test_raw_of_a_pipeline_of_another_name_is_told_with_what_helps(tmp_path: Path) -> None:
    source = {"factory": FACTORY, "arguments": {"name": "crm"}}
    extract_once(settings_of(tmp_path, {"old": source}))
    settings = settings_of(tmp_path, {"py": source})
    query(settings, "CREATE SCHEMA py_raw")
    for table in ("_dlt_loads", "_dlt_version", "_dlt_pipeline_state", "events"):
        query(settings, f"CREATE TABLE py_raw.{table} AS FROM old_raw.{table}")
    query(settings, "UPDATE py_raw._dlt_pipeline_state SET pipeline_name = 'py'")
    failure = failure_of(settings, ConfigError)
    assert failure.message.startswith("py: py_raw holds the state of another pipeline: ")
    assert "docs/adopt.md" in failure.hint


def test_what_dlt_does_not_find_is_told_with_where_it_may_stand(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {"py": {"factory": f"{__name__}:keyed_source"}})
    failure = failure_of(settings, ConfigError)
    assert "`token`" in failure.message
    assert "sources.py.arguments" in failure.hint


JINJA = """MODEL (name marts.jinja, kind FULL);
JINJA_QUERY_BEGIN;
SELECT {{ var('rate') }} AS rate
JINJA_END;
"""
PYTHON = """from sqlmesh import model
import pandas as pd


@model("marts.in_python", columns={"rate": "int"}, kind="FULL")
def execute(context, **kwargs):
    return pd.DataFrame({"rate": [context.var("rate", 1)]})
"""
MACRO = """from sqlmesh import macro


@macro()
def of_macro(evaluator):
    return str(evaluator.var("rate", 1))
"""
VARIABLE_MODELS = {
    "models/in_sql.sql": "MODEL (name marts.in_sql, kind FULL);\nSELECT @rate AS rate",
    "models/named.sql": "MODEL (name marts.named, kind FULL);\nSELECT @VAR('rate', 1) AS rate",
    "models/by_macro.sql": "MODEL (name marts.by_macro, kind FULL);\nSELECT @of_macro() AS rate",
    "models/jinja.sql": JINJA,
    "models/in_python.py": PYTHON,
    "macros/rates.py": MACRO,
}


def test_variables_reach_models_of_every_language(shop: Shop) -> None:
    """And a variable that changes builds anew the models that use it."""
    for file, text in VARIABLE_MODELS.items():
        shop.write(f"sqlmesh/{file}", text)
    shop.write("sqlmesh/macros/__init__.py", "")
    shop.edit("config/etl.yaml", "transform:", "transform:\n  variables: {rate: 7}")
    for rate in (7, 8):
        shop.edit("config/etl.yaml", "variables: {rate: 7}", f"variables: {{rate: {rate}}}")
        record = shop.go_on()
        assert record.exit_code == 0, record.failures
        for name in ("in_sql", "named", "by_macro", "jinja", "in_python"):
            with opened(shop.warehouse) as c:
                assert c.execute(f"SELECT rate FROM marts.{name}").fetchall() == [(rate,)], name


LEAKY = """import dlt


@dlt.source(name="crm")
def crm(password: str = dlt.secrets.value, token: str = dlt.secrets.value):
    raise ValueError(f"cannot log in with {password} and {token}")
"""


def test_what_dlt_finds_itself_is_as_secret_as_the_settings(tmp_path: Path) -> None:
    for file, text in {
        "config/etl.yaml": "sources: {crm: {factory: 'leaky:crm'}}\n",
        "leaky.py": LEAKY,
        ".dlt/secrets.toml": '[sources.crm]\npassword = "p4ss-in-a-file"\n',
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    variables = without_settings(SOURCES__CRM__TOKEN="t0ken-of-a-variable")
    done = run_etl(["run", "--stage", "extract"], tmp_path, variables)
    assert f"cannot log in with {MASK} and {MASK}" in done.stderr
    for place in (tmp_path / "data").rglob("*"):
        held = place.read_bytes() if place.is_file() else b""
        assert b"p4ss-in-a" not in held, place
        assert b"t0ken-of" not in held, place
