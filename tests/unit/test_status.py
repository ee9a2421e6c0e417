"""`etl status` reads files alone and says what a person asks first."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etl.arrival import Arrival
from etl.errors import LoadError, UnreachableError
from etl.records import LoadRun, Options, SourceRun
from etl.report.metrics import as_text, measure
from etl.runs import open_run
from etl.settings import Settings
from etl.status import read_status, show_status
from etl.summary import summarize

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EARLIER = NOW - timedelta(days=3)


def settings_in(folder: Path, freshness: float | None = None) -> Settings:
    source = {"client": {"base_url": "https://a/"}, "resources": ["b"], "freshness": freshness}
    return Settings.model_validate(
        {
            "project": folder,
            "sources": {"api": source},
            "targets": {"out": {"kind": "duckdb", "path": "out.duckdb"}},
            "loads": [{"model": "marts.orders", "target": "out"}],
        }
    )


def brought(rows: int, *load_ids: str) -> SourceRun:
    """What a run's record says of the source."""
    return SourceRun(
        source="api", resource="b", rows=rows, pages=1, requests=1, retries=0, load_ids=load_ids
    )


def test_before_the_first_run_nothing_is_there_and_nothing_is_made(tmp_path: Path) -> None:
    status = read_status(settings_in(tmp_path))
    assert status["runs"] == []
    assert status["sources"][0]["last_extracted_at"] is None
    assert not (tmp_path / "data").exists()
    assert "runs: none yet (etl run)" in show_status(status)


def test_a_failed_run_is_listed_with_its_code_and_failure(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    run = open_run(settings, Options(), str, NOW)
    run.fail(UnreachableError("api: not reached", hint="try later"), "extract")
    record = run.save(NOW)
    shown = show_status(read_status(settings))
    assert f"{run.run_id}  finished 4 CONNECTION" in shown
    assert "api: not reached" in shown
    summary = summarize(record, settings)
    assert "CONNECTION (4)  api: not reached" in summary
    assert "→ try later" in summary
    assert str(run.folder / "run.json") in summary


def test_only_targets_of_loads_are_named_as_the_place_to_look(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.targets["other"] = settings.targets["out"].model_copy(update={"path": "other.duckdb"})
    record = open_run(settings, Options(), str, NOW).save(NOW)
    summary = summarize(record, settings)
    assert f"target     out: {tmp_path / 'data/out.duckdb'}" in summary
    assert "target     other" not in summary


def test_only_a_table_that_stands_at_its_target_is_shown_how_to_look_into(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    run = open_run(settings, Options(), str, NOW)
    (settings.data / "out.duckdb").touch()
    load = LoadRun(model="marts.b", target="out", table="b", strategy="replace", status="held_back")
    run.loads = [load]
    assert "look " not in summarize(run.save(NOW), settings)
    run.loads = [load, load.model_copy(update={"table": "c", "rows_at_target": 1})]
    shown = summarize(run.save(NOW), settings)
    assert "read_only=True).table('c')" in shown
    assert "held back, 1 row (" in shown


def test_a_load_that_failed_is_told_without_numbers_that_nobody_counted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    run = open_run(settings, Options(), str, NOW)
    run.loads = [
        LoadRun(model="marts.b", target="out", table="b", strategy="replace", status="failed")
    ]
    assert "marts.b → out: failed\n" in summarize(run.save(NOW), settings)


def test_pages_that_nobody_counted_are_not_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    run = open_run(settings, Options(), str, NOW)
    unseen = {"pages": None, "requests": None, "retries": None}
    run.sources = [brought(5), brought(5).model_copy(update=unseen | {"resource": "made"})]
    shown = summarize(run.save(NOW), settings)
    assert "api.b: 5 rows, 1 page\n" in shown
    assert "api.made: 5 rows\n" in shown


def test_a_run_that_never_ended_was_killed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    open_run(settings, Options(), str, NOW).save()
    assert read_status(settings)["runs"][0]["status"] == "killed"


def test_waiting_and_quarantined_packages_are_counted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (settings.dlt_dir / "api" / "load" / "normalized" / "1.5").mkdir(parents=True)
    (settings.dlt_dir / "api" / "normalize" / "extracted" / "2.5").mkdir(parents=True)
    (settings.dlt_dir / "api" / "normalize" / "extracted" / ".DS_Store").touch()
    (settings.data / "quarantine" / "api" / "0.5").mkdir(parents=True)
    (settings.dlt_dir / "api" / "load" / "loaded" / "1.4").mkdir(parents=True)
    Arrival(load_ids=("1.4",), tables={}).write(settings.dlt_dir / "api")
    status = read_status(settings)
    (source,) = status["sources"]
    assert source["pending_packages"] == ["1.5", "2.5"]
    assert source["uncounted_packages"] == ["1.4"]
    assert "1 packages not found whole in raw" in show_status(status)
    assert source["quarantined_packages"] == ["0.5"]


def test_a_source_older_than_its_freshness_is_stale(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, freshness=24)
    run = open_run(settings, Options(), str, NOW)
    run.sources.append(brought(1, "1"))
    run.save(NOW)
    status = read_status(settings)
    assert status["sources"][0]["stale"]
    assert "(older than 24 hours)" in show_status(status)


def touch(path: Path, at: datetime, *, is_folder: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if is_folder else path.touch()
    os.utime(path, (at.timestamp(), at.timestamp()))


def test_a_source_that_had_nothing_new_was_read_and_stays_as_old_as_its_rows(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path, freshness=24)
    working = settings.dlt_dir / "api"
    ahead = datetime.now(UTC) + timedelta(days=9)  # as the clock was once
    for load_id, at in {
        "1.5": EARLIER, "1.4": EARLIER - timedelta(days=1), "9.9": ahead,
    }.items():  # fmt: skip
        touch(working / "load" / "loaded" / load_id, at, is_folder=True)
    (working / "load" / "loaded" / "0.1").symlink_to("gone")  # as one that goes meanwhile
    touch(working / "last.json", NOW)
    run = open_run(settings, Options(), str, NOW)
    run.sources.append(brought(0))
    record = run.save(NOW)
    status = read_status(settings)
    (source,) = status["sources"]
    assert source["last_read_at"] == NOW.isoformat()
    assert source["last_extracted_at"] == EARLIER.isoformat()
    assert source["stale"]
    assert (
        f"source api: last read {NOW.isoformat()}, newest package committed {EARLIER.isoformat()} "
        "(older than 24 hours)"
    ) in show_status(status)
    text = as_text(measure(settings, record), str)
    (line,) = re.findall(r"^etl_source_last_commit_timestamp_seconds.*", text, re.MULTILINE)
    assert float(line.split()[-1]) == EARLIER.timestamp()


def test_success_of_the_future_is_not_the_last_one(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    ahead = datetime.now(UTC) + timedelta(days=9)
    open_run(settings, Options(), str, ahead).save(ahead)
    run = open_run(settings, Options(), str, NOW + timedelta(minutes=1))
    run.fail(LoadError("refused"), "load")
    record = run.save(NOW + timedelta(minutes=2))
    text = as_text(measure(settings, record), str)
    assert not re.findall(r"^etl_last_success_timestamp_seconds.*", text, re.MULTILINE)


def test_without_a_working_directory_the_listed_runs_tell(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for load_ids, at in ((("1",), EARLIER), ((), NOW)):
        run = open_run(settings, Options(), str, at)
        run.sources.append(brought(0, *load_ids))
        run.save(at)
    (source,) = read_status(settings)["sources"]
    assert source["last_read_at"] == NOW.isoformat()
    assert source["last_extracted_at"] == EARLIER.isoformat()
