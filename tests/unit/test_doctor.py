"""`etl doctor` finds what would end a run, says what to do, and leaves everything as it was."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
import responses

from etl.arrival import Arrival
from etl.cli import main
from etl.doctor import examine, places
from etl.doctor.findings import Finding, as_json, as_table, verdict
from etl.errors import ExitCode
from etl.libraries import prepare_libraries
from etl.lock import hold_lock
from etl.records import SchemaChange
from etl.settings import Settings

prepare_libraries()

API = "https://api.example.test/v1/"


def settings_in(folder: Path, **more: Any) -> Settings:
    source = {"client": {"base_url": API}, "resources": ["b"]}
    tree = {
        "project": folder,
        "sources": {"api": source},
        "targets": {"out": {"kind": "duckdb", "path": "out.duckdb"}},
        "loads": [{"model": "marts.orders", "target": "out"}],
    }
    (folder / "sqlmesh").mkdir(exist_ok=True)
    return Settings.model_validate(tree | more)


@pytest.fixture(autouse=True)
def api() -> Any:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get(API, status=404)
        yield mock


def found(settings: Settings, area: str) -> list[Finding]:
    return [f for f in examine(settings) if f.area == area]


def test_all_is_well_before_the_first_run_and_nothing_is_made(tmp_path: Path) -> None:
    findings = examine(settings_in(tmp_path))
    assert verdict(findings) is ExitCode.OK
    assert {f.status for f in findings} == {"ok"}
    assert [p.name for p in tmp_path.iterdir()] == ["sqlmesh"]
    shown = as_table(findings)
    assert "source api  " in shown
    assert "answers with 404" in shown
    assert shown.endswith("the job can run here\n")


def test_source_that_is_not_reached_is_code_4(tmp_path: Path, api: responses.RequestsMock) -> None:
    api.replace(responses.GET, API, body=requests.ConnectionError("no route"))
    (source,) = found(settings_in(tmp_path), "source")
    assert (source.status, source.code) == ("failed", ExitCode.CONNECTION)
    assert API in source.message
    assert source.seconds is not None


def test_source_that_dlt_would_not_accept_is_code_2_before_it_is_asked(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    client = {"base_url": API, "auth": {"type": "bearer"}}
    settings = settings_in(tmp_path, sources={"api": {"client": client, "resources": ["b"]}})
    (source,) = found(settings, "source")
    assert (source.status, source.code) == ("failed", ExitCode.CONFIG)
    assert "client.auth.token is missing" in source.message
    assert "ETL_SOURCES__API__CLIENT__AUTH__TOKEN" in source.hint
    assert len(api.calls) == 0


def test_models_that_are_not_there_are_code_2(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "sqlmesh").rmdir()
    (models,) = found(settings, "models")
    assert (models.status, models.code) == ("failed", ExitCode.CONFIG)
    assert "no such folder, and `loads` names marts.orders" in models.message


def test_a_warehouse_that_was_deleted_alone_is_code_6_as_in_a_run(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.data.mkdir()
    duckdb.connect(str(settings.state)).close()
    (warehouse,) = found(settings, "warehouse")
    assert (warehouse.status, warehouse.code) == ("failed", ExitCode.TRANSFORM)
    assert "move state.duckdb away" in warehouse.hint


def test_a_warehouse_that_may_only_be_read_is_code_14(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    settings.data.mkdir()
    duckdb.connect(str(settings.warehouse)).close()
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    (warehouse,) = found(settings, "warehouse")
    assert (warehouse.status, warehouse.code) == ("failed", ExitCode.RESOURCES)
    assert "did another user run the job once?" in warehouse.hint


def test_source_that_is_switched_off_is_not_asked(tmp_path: Path) -> None:
    off = {"client": {"base_url": API}, "resources": ["b"], "enabled": False}
    assert found(settings_in(tmp_path, sources={"api": off}), "source") == []


def test_replay_is_not_asked_because_it_runs_with_the_job(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    (source,) = found(settings_in(tmp_path, demo=True), "source")
    assert source.status == "ok"
    assert len(api.calls) == 0


def test_address_of_a_factory_is_its_argument_or_its_default(
    tmp_path: Path, api: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_doctored.py").write_text(
        f"def rows(base_url='{API}'): ...\ndef other(url): ...\n", encoding="utf-8"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    api.get("https://other.example.test/", status=200)
    tree = {
        "a": {"factory": "own_doctored:rows"},
        "b": {"factory": "own_doctored:rows",
              "arguments": {"base_url": "https://other.example.test/"}},
        "c": {"factory": "own_doctored:other"},
        "d": {"factory": "own_doctored:missing"},
    }  # fmt: skip
    a, b, c, d = found(settings_in(tmp_path, sources=tree), "source")
    assert "answers with 404" in a.message
    assert "answers with 200" in b.message
    assert "names no address" in c.message
    assert d.code is ExitCode.CONFIG


def test_missing_extra_of_a_source_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)
    tree = {"markets": {"factory": "etl.sources.markets:prices"}}
    (source,) = found(settings_in(tmp_path, sources=tree), "source")
    assert source.code is ExitCode.CONFIG
    assert source.hint == "pip install 'etl-job[markets]'"


@pytest.mark.parametrize(
    ("kind", "module", "hint"),
    [("postgres", "psycopg", "etl-job[postgres]"), ("mssql", "pyodbc", "unixodbc")],
)
def test_missing_driver_of_a_target_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str, hint: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if kind == "mssql":
        monkeypatch.setattr(sys, "meta_path", [_Broken(), *sys.meta_path])
        monkeypatch.delitem(sys.modules, module)
    dsn = "mssql://etl:s3cret@127.0.0.1:1/x"
    (target,) = found(settings_in(tmp_path, targets={"out": {"kind": kind, "dsn": dsn}}), "target")
    assert target.code is ExitCode.CONFIG
    assert hint in target.hint
    assert "s3cret" not in str(target)


class _Broken:
    """An import system in which pyodbc finds no libodbc."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pyodbc":
            raise ImportError("libodbc.so.2: cannot open shared object file")


def test_server_that_is_down_is_code_4(tmp_path: Path) -> None:
    target = {"kind": "postgres", "dsn": "postgresql://etl:s3cret@127.0.0.1:1/x"}
    (finding,) = found(settings_in(tmp_path, targets={"out": target}), "target")
    assert finding.code is ExitCode.CONNECTION
    assert "s3cret" not in as_table([finding])


def test_target_that_no_load_names_is_not_tried(tmp_path: Path) -> None:
    target = {"kind": "postgres", "dsn": "postgresql://127.0.0.1:1/x"}
    (finding,) = found(settings_in(tmp_path, targets={"out": target}, loads=[]), "target")
    assert finding.status == "ok"


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_path_where_something_of_another_kind_stands_is_code_2(tmp_path: Path, kind: str) -> None:
    settings = settings_in(tmp_path, targets={"out": {"kind": kind, "path": "out"}})
    settings.data.mkdir(parents=True)
    place = settings.data / "out"
    if kind == "duckdb":
        place.mkdir()
    else:
        place.touch()
    (finding,) = found(settings, "target")
    assert (finding.code, finding.hint) == (ExitCode.CONFIG, "name another `path`")


def test_folder_that_cannot_be_written_is_code_14(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.duckdb_failures.can_write", lambda folder: False)
    (disk,) = found(settings_in(tmp_path), "disk")
    assert disk.code is ExitCode.RESOURCES


def test_folder_of_a_parquet_target_that_may_not_be_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, targets={"out": {"kind": "parquet", "path": "lake"}})
    (settings.data / "lake").mkdir(parents=True)
    monkeypatch.setattr("etl.duckdb_failures.can_write", lambda folder: folder.name != "lake")
    (target,) = found(settings, "target")
    assert target.code is ExitCode.RESOURCES


@pytest.mark.parametrize("place", ["etl.lock", "runs", "dlt/api/load", "cache/sqlmesh"])
def test_what_belongs_to_another_user_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Somebody ran the job as root once."""
    settings = settings_in(tmp_path)
    for name in (place, "lost+found"):  # which is of the file system
        (settings.data / name).mkdir(parents=True)
    theirs = {settings.data / place, settings.data / "lost+found"}
    monkeypatch.setattr("os.access", lambda path, mode: path not in theirs)
    (disk,) = found(settings, "disk")
    assert disk.code is ExitCode.RESOURCES
    assert f"{place}: this user may not write it" in disk.message
    assert "chown -R" in disk.hint


def test_disk_that_is_nearly_full_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOW_DISK_BYTES", 1 << 60)
    (disk,) = found(settings_in(tmp_path), "disk")
    assert (disk.status, disk.code) == ("warning", ExitCode.OK)


def test_lock_of_a_run_at_work_is_code_8_and_its_files_are_left_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.data.mkdir()
    with duckdb.connect(str(settings.warehouse)) as held, hold_lock(settings, 0) as note:
        held.execute("SELECT 1")
        note("20260102T030405Z-abc")
        findings = examine(settings)
    assert verdict(findings) is ExitCode.LOCKED
    (lock,) = (f for f in findings if f.area == "lock")
    assert "20260102T030405Z-abc" in lock.message
    (warehouse,) = (f for f in findings if f.area == "warehouse")
    assert "in use" in warehouse.message


def test_damaged_warehouse_is_found(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.data.mkdir()
    settings.warehouse.write_bytes(b"no database" * 1000)
    (finding,) = found(settings, "warehouse")
    assert finding.code is ExitCode.CONNECTION


def test_packages_left_behind_are_warnings(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (settings.dlt_dir / "api/load/normalized/1.5").mkdir(parents=True)
    (settings.data / "quarantine/api/1.4").mkdir(parents=True)
    (settings.dlt_dir / "api/load/loaded/1.3").mkdir(parents=True)
    Arrival(load_ids=("1.3",), tables={}).write(settings.dlt_dir / "api")
    poison, pending, uncounted = found(settings, "packages")
    assert "1 in quarantine: 1.4" in poison.message
    assert "1 wait for their commit: 1.5" in pending.message
    assert "1.3 was not found whole in raw" in uncounted.message
    assert {poison.status, pending.status, uncounted.status} == {"warning"}
    assert verdict([poison, pending]) is ExitCode.OK


def test_most_severe_finding_gives_the_code() -> None:
    findings = [
        Finding("a", "", "failed", "x", code=ExitCode.CONNECTION),
        Finding("b", "", "failed", "y", "do z", code=ExitCode.AUTH),
        Finding("c", "", "ok", "z"),
    ]
    assert verdict(findings) is ExitCode.AUTH
    assert as_json(findings)["exit_name"] == "AUTH"
    assert "→ do z" in as_table(findings)
    assert "a run would end with 13 AUTH" in as_table(findings)


def test_command_prints_json_and_returns_the_code(
    tmp_path: Path, api: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/etl.yaml").write_text(
        f"sources: {{api: {{client: {{base_url: '{API}'}}, resources: [b]}}}}", encoding="utf-8"
    )
    assert main(["doctor", "--project", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 0
    assert {f["area"] for f in report["findings"]} == {
        "disk", "lock", "warehouse", "state", "packages", "source",
    }  # fmt: skip
    api.replace(responses.GET, API, body=requests.ConnectionError())
    assert main(["doctor", "--project", str(tmp_path)]) == 4
    assert "FAIL" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_drift_that_runs_told_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    settings.data.mkdir()
    duckdb.connect(str(settings.warehouse)).close()
    (drift,) = found(settings, "drift")
    assert drift.status == "ok"
    change = SchemaChange(kind="new", table="b", column="c")
    monkeypatch.setattr("etl.stages.drift.read_drift", lambda settings: [("api", change)])
    (drift,) = found(settings, "drift")
    assert (drift.subject, drift.status, drift.code) == ("api", "warning", ExitCode.OK)
    assert "b" in drift.message
