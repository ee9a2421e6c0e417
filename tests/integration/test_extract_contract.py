"""Schema contracts: what breaks one ends with SCHEMA, is put away, and poisons no later run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.demo import Fault, Replay
from etl.errors import SchemaError
from tests.integration.extracting import (
    bluesky,
    count,
    extract_once,
    failure_of,
    failures_of,
    pending,
    query,
    settings_of,
)

ACTOR = "bulk-200.test"
NEW = Fault("extra_field", field="elo", value=1, page=2)
RETYPED = Fault("extra_field", field="indexedAt", value="whenever", page=2)


@pytest.mark.parametrize(
    ("contract", "ending"),
    [
        ("freeze", ".typed-jsonl"),
        ("freeze", ".gz"),
        ({"columns": "freeze"}, ".typed-jsonl"),
        ({"tables": "freeze", "columns": "freeze"}, ".typed-jsonl"),
    ],
)
def test_new_column_breaks_a_frozen_contract(
    replay: Replay, tmp_path: Path, contract: Any, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody lets dlt compress its files."""
    monkeypatch.setenv("DATA_WRITER__DISABLE_COMPRESSION", str(ending != ".gz"))
    source = bluesky(replay.base_url, ACTOR, schema_contract=contract)
    settings = settings_of(tmp_path, {"bluesky": source})
    extract_once(settings)
    replay.faults = [NEW]
    failure = failure_of(settings, SchemaError)
    assert "bluesky: followers.elo: the contract on columns (freeze)" in failure.message
    [kept] = (settings.data / "quarantine" / "bluesky").iterdir()
    assert {f.suffix for f in kept.rglob("followers.*")} == {ending}
    assert count(settings, "bluesky_raw.followers") == 200
    assert pending(settings, "bluesky") == []

    replay.faults = []  # the data is mended
    extract_once(settings)
    assert count(settings, "bluesky_raw.followers") == 400


@pytest.mark.parametrize("mended", [None, "evolve"])
def test_mended_contract_lets_the_next_run_pass(
    replay: Replay, tmp_path: Path, mended: Any
) -> None:
    frozen = settings_of(
        tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR, schema_contract="freeze")}
    )
    extract_once(frozen)
    replay.faults = [NEW]
    failures_of(frozen)
    failures_of(frozen)
    more = {} if mended is None else {"schema_contract": mended}
    extract_once(settings_of(tmp_path, {"bluesky": bluesky(replay.base_url, ACTOR, **more)}))
    assert count(frozen, "bluesky_raw.followers") == 400
    assert query(frozen, "SELECT count(elo) FROM bluesky_raw.followers") == [(100,)]


def test_changed_type_breaks_a_frozen_contract(replay: Replay, tmp_path: Path) -> None:
    source = bluesky(replay.base_url, ACTOR, schema_contract={"data_type": "freeze"})
    settings = settings_of(tmp_path, {"bluesky": source})
    extract_once(settings)
    replay.faults = [RETYPED]
    failure = failure_of(settings, SchemaError)
    assert "followers.indexed_at" in failure.message


def test_contract_holds_a_factory_source_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frozen_source.py").write_text(
        "import dlt\n\ndef make(extra):\n"
        "    return dlt.resource([{'id': 1, **extra}], name='things', write_disposition='append')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def settings(**extra: Any) -> Any:
        return settings_of(
            tmp_path,
            {
                "things": {
                    "factory": "frozen_source:make",
                    "arguments": {"extra": extra},
                    "schema_contract": "freeze",
                }
            },
        )

    extract_once(settings())
    failure_of(settings(b=1), SchemaError)
    assert count(settings(), "things_raw.things") == 1
