"""A new column in one of many tables: what `etl generate` writes anew and `etl plan` names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from etl.cli import main
from etl.project.engine import build_config
from tests.integration.generating import Made

DISPOSITIONS = ("append", "merge", "replace")


def tables(count: int = 6, *, wider: bool = False) -> list[dict[str, Any]]:
    """Six resources, four of them with a list: ten raw tables; `wider`: with a column more."""
    found = []
    for n in range(count):
        row: dict[str, Any] = {"id": n, "name": "x"}
        if n < 4:
            row["items"] = [{"sku": "a"}]
        if wider:
            row["added"] = 1.5
        disposition = DISPOSITIONS[n % 3]
        found.append(
            {"name": f"t{n}", "rows": [row], "write_disposition": disposition, "primary_key": "id"}
        )
    return found


@pytest.mark.slow
def test_new_columns_change_the_files_and_the_plan_of_their_own_models_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path)
    made.extract(*tables())
    assert sum(c.action == "new" for c in made.generate()) == 10 + 6 + 2 + 11
    made.build()
    # One table of each write disposition gets a column; of each there is another that does not.
    wide = [f"t{n}" for n in range(len(DISPOSITIONS))]
    made.extract(*tables(len(wide), wider=True))
    changed = {c.path for c in made.generate() if c.changes}
    assert changed == {
        path
        for t in wide
        for path in (
            f"external_models/made/{t}.yaml",
            f"models/staging/stg_made__{t}.sql",
            f"models/marts/dim_made__{t}.sql",
        )
    }
    capsys.readouterr()
    assert main(["plan", "--project", str(made.folder)]) == 0
    lines = [t for t in capsys.readouterr().out.splitlines() if t.startswith("transform: ")]
    named = {m[1] for t in lines if (m := re.match(r"transform: \S+ (\S+): \+added\b", t))}
    assert named == {
        model
        for t in wide
        for model in (f"made_raw.{t}", f"staging.stg_made__{t}", f"marts.dim_made__{t}")
    }
    rest = [t for t in lines if "+added" not in t and ": evaluate " not in t]
    # Not even the lists, whose audits read their parents.
    assert rest == ["transform: 10 models as before: a run evaluates what is new in raw"]


def test_a_plan_finds_what_a_run_has_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path)
    made.extract(*tables()[:1])
    made.generate()
    made.build()
    cache = made.data / "cache" / "sqlmesh" / "model_definition"
    before = {p.name for p in cache.iterdir()}
    assert before
    assert main(["plan", "--project", str(made.folder)]) == 0
    assert {p.name for p in cache.iterdir()} == before


def test_what_was_parsed_counts_for_any_place_of_the_data_but_not_for_another_dialect(
    tmp_path: Path,
) -> None:
    settings = Made(tmp_path).settings
    moved = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    transform = settings.transform.model_copy(update={"dialect": "postgres"})
    other = settings.model_copy(update={"transform": transform})
    assert build_config(moved).fingerprint == build_config(settings).fingerprint
    assert build_config(other).fingerprint != build_config(settings).fingerprint
