"""Raw tables and settings that come from a plain dlt script or a plain SQLMesh project."""

from __future__ import annotations

from pathlib import Path

import dlt
import pytest

from etl.errors import ConfigError
from etl.secrets import MASK
from etl.settings import Settings
from tests.duckdb_files import opened
from tests.integration.extracting import (
    context,
    count,
    extract_once,
    failure_of,
    query,
    settings_of,
)
from tests.integration.projects import Shop
from tests.processes import run_etl, without_settings

ROWS = [{"id": n, "at": f"2026-01-0{n}"} for n in (1, 2, 3)]


def reading_as(name: str, resource: str = "events", table: str = "events") -> dlt.sources.DltSource:
    """A factory: events by a cursor, in a dlt source of this name."""

    @dlt.resource(name=resource, table_name=table, primary_key="id", write_disposition="append")
    def events(at: object = dlt.sources.incremental("at")) -> object:
        yield ROWS

    return dlt.source(lambda: events, name=name)()


def keyed(token: str = dlt.secrets.value) -> dlt.sources.DltSource:
    """Used by its name below: a factory whose credentials dlt looks for itself."""
    return reading_as(token)


keyed_source = dlt.source(keyed, name="keyed")


@pytest.mark.parametrize("full_refresh", [False, True])
def test_dlt_source_of_another_name_is_refused_where_rows_stand(
    tmp_path: Path, full_refresh: bool
) -> None:
    """Its cursors are kept under its name: all would be read and appended again."""
    source = {"factory": f"{__name__}:reading_as", "arguments": {"name": "crm"}}
    settings = settings_of(tmp_path, {"py": source})
    for _ in range(2):
        extract_once(settings)
    source["arguments"] = {"name": "sales"}
    settings = settings_of(tmp_path, {"py": source})
    failure = failure_of(settings, ConfigError, context(settings, full_refresh=full_refresh))
    assert failure.message.startswith("py: raw's tables were loaded as dlt's source crm, and this")
    assert '@dlt.source(name="crm")' in failure.hint
    assert count(settings, "py_raw.events") == 3


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"table": "log"}, "the rows of events went to events and would go to log, which"),
        ({"resource": "log"}, "the rows of events were read as events: as log all would"),
    ],
)
def test_cursor_and_table_that_come_apart_are_refused(
    tmp_path: Path, named: dict[str, str], said: str
) -> None:
    def reads(**names: str) -> Settings:
        source = {"factory": f"{__name__}:reading_as", "arguments": {"name": "crm"} | names}
        return settings_of(tmp_path, {"py": source})

    for _ in range(2):
        extract_once(reads())
    failure = failure_of(reads(**named), ConfigError)
    assert failure.message.startswith(f"py: {said}")
    extract_once(reads(**named), context(reads(**named), full_refresh=True))
    extract_once(reads(**named))
    assert count(reads(), f"py_raw.{named.get('table', 'events')}") == 3


def test_raw_of_a_pipeline_of_another_name_is_told_with_what_helps(tmp_path: Path) -> None:
    source = {"factory": f"{__name__}:reading_as", "arguments": {"name": "crm"}}
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
