"""Each mart that ships has a grain and a unit test, and each model a blocking audit."""

from __future__ import annotations

import pytest
import yaml
from sqlglot import exp
from sqlmesh.core.model import SqlModel

from tests.shipped_models import SQLMESH, shipped_model

PATHS = sorted((SQLMESH / "models").glob("*/*.sql"))
MODELS = [f"{path.parent.name}/{path.stem}" for path in PATHS]
MARTS = [name for name in MODELS if name.startswith("marts/")]


def blocking_audits(model: SqlModel) -> set[str]:
    """Their names; what the model says of blocking goes before what the audit does."""
    return {
        audit.name
        for audit, arguments in model.audits_with_args
        if arguments.get("blocking", exp.convert(audit.blocking)) == exp.true()
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_blocking_audit(name: str) -> None:
    assert "not_null" in blocking_audits(shipped_model(name))


@pytest.mark.parametrize("name", MARTS)
def test_every_mart_has_a_grain_that_an_audit_holds(name: str) -> None:
    mart = shipped_model(name)
    assert mart.grains
    assert blocking_audits(mart) & {"unique_combination_of_columns", "days_unique"}


def test_every_mart_has_a_unit_test() -> None:
    files = (SQLMESH / "tests").glob("*.yaml")
    tests = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    tested = {test["model"] for file in tests for test in file.values()}
    assert {name.replace("/", ".") for name in MARTS} - tested == set()
