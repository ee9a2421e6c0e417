"""What Kubernetes keeps of a failed container: one JSON object, short, and free of secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.cli import main
from etl.errors import ConfigError, ExitCode, Problem, SchemaError, UnreachableError
from etl.termination import CUT, LIMIT, describe_error, describe_run, encode, leave_message
from tests.run_records import record


def test_the_most_severe_failure_is_told() -> None:
    busy = UnreachableError("answered 503", subject="shop.orders")
    broken = SchemaError("new column x", subject="bluesky", hint="look")
    told = describe_run(record(busy, broken, exit_code=10, partial=True))
    assert told == {
        "code": 10, "class": "SCHEMA", "run_id": "20260102T000000Z-000001", "job": "shop",
        "stage": "extract", "subject": "bluesky", "message": "new column x", "cause": "",
        "hint": "look", "retryable": False, "partial": True, "more_failures": 1,
    }  # fmt: skip


def test_a_run_that_ended_well_tells_nothing() -> None:
    assert describe_run(record()) is None


def test_every_problem_of_the_configuration_is_a_cause() -> None:
    error = ConfigError(
        "2 problems", problems=(Problem("config/etl.yaml", "job: x", "y"), Problem("ETL_A", "no"))
    )
    assert describe_error(error)["cause"] == "config/etl.yaml: job: x (y); ETL_A: no"


def test_the_cause_behind_an_error_is_named() -> None:
    error = UnreachableError("cannot reach it")
    error.__cause__ = ConnectionRefusedError("refused")
    assert describe_error(error)["cause"] == "ConnectionRefusedError: refused"


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["message", "cause", "hint", "subject", "job"]),
        st.builds(
            lambda text, n: text * n,
            st.text(st.characters(), max_size=20),  # control characters and lone surrogates too
            st.integers(1, 3000),
        ),
    )
)
def test_it_is_json_of_4_kib_whatever_the_texts_are(texts: dict[str, str]) -> None:
    data = encode({"code": 4, **texts})
    assert len(data) <= LIMIT
    assert json.loads(data)["code"] == 4


def test_only_what_is_too_long_is_cut_and_no_more_than_needed() -> None:
    data = encode({"code": 4, "message": "short", "cause": "x" * 10_000})
    told = json.loads(data)
    assert told["message"] == "short"
    assert told["cause"].endswith("x" + CUT)
    assert len(data) > LIMIT - 10


def test_the_file_is_written_in_place(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    file.write_text("x" * 9000)
    before = file.stat().st_ino
    assert leave_message(file, {"code": 4}) == ""
    assert json.loads(file.read_bytes()) == {"code": 4}
    assert file.stat().st_ino == before


def test_its_absence_changes_nothing_but_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETL_TERMINATION_LOG", str(tmp_path / "no" / "termination-log"))
    assert main(["run", "--project", str(tmp_path / "nowhere")]) == ExitCode.CONFIG
    assert "No such file or directory" in capsys.readouterr().err


def test_an_error_without_a_run_is_described_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "termination-log"
    monkeypatch.setenv("ETL_TERMINATION_LOG", str(file))
    folder = "https://ann:hunter2@db.example/x"
    assert main(["run", "--project", folder]) == ExitCode.CONFIG
    told = json.loads(file.read_bytes())
    assert (told["code"], told["class"]) == (2, "CONFIG")
    assert "no such folder" in told["message"]
    assert "`etl init` makes one" in told["hint"]
    assert "hunter2" not in file.read_text()


def test_a_wrong_option_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "termination-log"
    monkeypatch.setenv("ETL_TERMINATION_LOG", str(file))
    assert main(["run", "--no-such-option"]) == ExitCode.CONFIG
    told = json.loads(file.read_bytes())
    assert (told["code"], told["hint"]) == (2, "etl run --help")
    assert told["message"] == "no such option or argument: --no-such-option"
    file.unlink()
    assert main(["--help"]) == ExitCode.OK
    assert not file.exists()
