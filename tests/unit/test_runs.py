"""The run on disk: record, lock, the runs of the past."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import filelock
import pytest
from pydantic import SecretStr

from etl.errors import AuthError, ConfigError, DataQualityError, LoadError, LockedError
from etl.lock import hold_lock, is_locked, lock_holder
from etl.names import STAGE_NAMES, StageName
from etl.past_runs import drop_old_runs, find_run, last_failed, past_runs
from etl.records import (
    LoadRun,
    Options,
    Reconciliation,
    SourceRun,
    Stage,
    StageStatus,
)
from etl.runs import Run, new_run_id, open_run, reopen_run, utc_now
from etl.secrets import redactor
from etl.settings import Log, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=tmp_path, log=Log(retention=3))


def start(settings: Settings, minute: int = 0) -> Run:
    return open_run(settings, Options(), str, NOW + timedelta(minutes=minute))


def test_a_saved_record_reads_back_as_it_was(settings: Settings) -> None:
    run = start(settings)
    run.sources.append(SourceRun(source="a", resource="t", rows=3, pages=1, requests=1, retries=0))
    saved = run.save(NOW)
    assert [*past_runs(settings)] == [saved]
    assert (settings.runs / "latest").resolve() == run.folder


def test_a_running_record_has_no_exit_code(settings: Settings) -> None:
    assert start(settings).save().exit_code is None


def test_secrets_never_reach_the_record_and_the_record_stays_readable(settings: Settings) -> None:
    canary = 'cana"ry\\12 ü'
    run = open_run(settings, Options(), redactor([SecretStr(canary), SecretStr("finished")]), NOW)
    run.fail(AuthError(f"401 for https://u:{canary}@h/?token=abcdefgh and {canary!r}"), "extract")
    record = run.save(NOW)
    text = (run.folder / "run.json").read_text(encoding="utf-8")
    for form in (canary, json.dumps(canary)[1:-1], "abcdefgh"):
        assert form not in text
        assert form not in record.model_dump_json()
    assert next(past_runs(settings)).status == "finished"


def test_a_run_is_partial_when_something_was_published_all_the_same(settings: Settings) -> None:
    run = start(settings)
    run.loads.append(
        LoadRun(model="m.a", target="t", table="a", strategy="replace", status="published")
    )
    assert not run.record().partial
    run.fail(DataQualityError("b"), "transform")
    assert run.record().partial


def test_unreadable_records_are_left_out(settings: Settings) -> None:
    good, bad = start(settings), start(settings, 1)
    good.save(NOW)
    (bad.folder / "run.json").write_text("{half")
    assert [r.run_id for r in past_runs(settings)] == [good.run_id]


def test_retention_keeps_the_newest(settings: Settings) -> None:
    runs = [start(settings, m) for m in range(5)]
    drop_old_runs(settings, runs[-1].run_id)
    kept = sorted(p.name for p in settings.runs.iterdir() if p.is_dir() and not p.is_symlink())
    assert kept == sorted(r.run_id for r in runs[2:])


def test_clock_that_was_moved_back_hides_no_run(settings: Settings) -> None:
    later = [start(settings, m) for m in range(5)]
    for run in later:
        run.save(NOW)
    last = start(settings, -60)
    last.fail(LoadError("refused"), "load")
    last.save(NOW)
    drop_old_runs(settings, last.run_id)
    assert last_failed(settings).run_id == last.run_id


def test_runs_of_the_future_are_older_than_those_of_today(settings: Settings) -> None:
    """They were made while the clock was ahead; else they would be the newest until then."""
    future = open_run(settings, Options(), str, datetime.now(UTC) + timedelta(days=9))
    today = [start(settings, m) for m in range(3)]
    for run in (future, *today):
        run.save(NOW)
    assert [r.run_id for r in past_runs(settings)] == [
        *(r.run_id for r in reversed(today)),
        future.run_id,
    ]
    drop_old_runs(settings, today[-1].run_id)
    assert not future.folder.exists()


def test_there_is_nothing_to_retry_before_the_first_and_after_a_good_run(
    settings: Settings,
) -> None:
    with pytest.raises(ConfigError, match="no run"):
        last_failed(settings)
    start(settings).save(NOW)
    with pytest.raises(ConfigError, match="ended with 0"):
        last_failed(settings)


def test_a_retry_keeps_the_profile(settings: Settings) -> None:
    """Another one has other targets: its loads would not be among the stages that run again."""
    other = settings.model_copy(update={"profile": "postgres"})
    run = open_run(other, Options(), str, utc_now())
    run.fail(LoadError("refused"), "load")
    run.save(utc_now())
    with pytest.raises(ConfigError, match="profile postgres") as refused:
        last_failed(settings)
    assert refused.value.hint == "etl retry --profile postgres"
    assert last_failed(other).run_id == run.run_id


def test_file_system_without_links_has_a_latest_run_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    times = [datetime(2026, 1, 2, hour, tzinfo=UTC) for hour in (1, 2)]
    for run in [open_run(settings, Options(), str, at) for at in times]:
        run.fail(ConfigError("wrong"))
        run.save(run.started_at)
    assert find_run(settings, "latest").started_at == times[-1]
    assert last_failed(settings).started_at == times[-1]


def test_latest_that_a_backup_made_a_folder_is_a_link_again(settings: Settings) -> None:
    latest = settings.runs / "latest"
    latest.mkdir(parents=True)
    (latest / "run.json").touch()
    run = open_run(settings, Options(), str, utc_now())
    assert latest.is_symlink()
    assert latest.resolve() == run.folder


def test_a_run_that_died_can_be_retried(settings: Settings) -> None:
    run = start(settings)
    run.save()
    assert last_failed(settings).run_id == run.run_id


def test_fields_that_a_later_version_added_make_no_run_unreadable(settings: Settings) -> None:
    run = start(settings)
    run.stages.append(Stage(name="extract", status="ok", attempts=1, seconds=1))
    run.fail(LoadError("refused"), "load")
    saved = run.save(NOW)
    later = json.loads((run.folder / "run.json").read_text())
    later["weather"] = later["stages"][0]["weather"] = later["options"]["weather"] = "rain"
    (run.folder / "run.json").write_text(json.dumps(later))
    assert [*past_runs(settings)] == [saved]
    assert last_failed(settings) == saved


def test_a_reopened_run_keeps_its_id_and_what_was_done(settings: Settings) -> None:
    run = start(settings)
    run.stages.append(Stage(name="extract", status="ok", attempts=1, seconds=1))
    run.stages.append(Stage(name="transform", status="failed", attempts=1, seconds=1))
    run.fail(DataQualityError("bad", subject="m"), "transform")
    last = run.save(NOW)
    again = reopen_run(settings, last, str)
    assert (again.run_id, again.attempt) == (run.run_id, 2)
    assert [s.name for s in again.stages] == ["extract"]
    assert again.failures == []


@pytest.mark.parametrize("failed", ["extract", "load"])
def test_a_retry_that_reads_sources_is_of_its_own_day(settings: Settings, failed: str) -> None:
    """An API tells how things stand when it is asked, not when somebody wanted to ask."""
    run = start(settings)
    for name in STAGE_NAMES[: STAGE_NAMES.index(failed)]:
        run.stages.append(Stage(name=name, status="ok", attempts=1, seconds=1))
    run.fail(LoadError("refused"), failed)
    again = reopen_run(settings, run.save(NOW), str)
    assert again.started_at == run.started_at
    assert again.snapshot_date == (utc_now() if failed == "extract" else run.started_at).date()
    assert again.record().snapshot_date == again.snapshot_date.isoformat()


@pytest.mark.parametrize(
    ("failed", "subject", "kept"),
    [
        ("extract", "b", ["a_raw.t"]),
        ("transform", "m", ["a_raw.t", "b_raw.t"]),
        ("load", "m", ["a_raw.t", "b_raw.t", "staging.stg_a__t"]),
    ],
)
def test_a_reopened_run_keeps_the_counts_of_what_it_does_not_do_again(
    settings: Settings, failed: StageName, subject: str, kept: list[str]
) -> None:
    run = start(settings)
    for name in STAGE_NAMES:
        status: StageStatus = "partial" if name == failed else "ok"
        run.stages.append(Stage(name=name, status=status, attempts=1, seconds=1))
    run.sources += [
        SourceRun(source=s, resource="t", rows=1, pages=1, requests=1, retries=0) for s in "ab"
    ]
    run.reconciliations += [
        Reconciliation(between=between, subject=counted, load_id="1", expected=1, found=1)
        for between, counted in (
            ("api-raw", "a_raw.t"), ("api-raw", "b_raw.t"), ("raw-staging", "staging.stg_a__t"),
        )
    ]  # fmt: skip
    run.fail(DataQualityError("bad", subject=subject), failed)
    again = reopen_run(settings, run.save(NOW), str)
    assert [r.subject for r in again.reconciliations] == kept


@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        ({"extract": "partial", "transform": "ok", "audit": "ok", "load": "ok"}, []),
        ({"extract": "ok", "transform": "partial", "audit": "ok", "load": "ok"}, ["extract"]),
        # The order in which they ended is that of several attempts.
        ({"extract": "ok", "audit": "ok", "load": "ok", "transform": "partial"}, ["extract"]),
        ({"extract": "ok", "transform": "ok", "audit": "ok"}, ["extract", "transform", "audit"]),
    ],
)
def test_a_stage_after_one_that_failed_runs_again_though_it_ended_well(
    settings: Settings, statuses: dict[StageName, StageStatus], kept: list[str]
) -> None:
    run = start(settings)
    for name, status in statuses.items():
        run.stages.append(Stage(name=name, status=status, attempts=1, seconds=1))
    assert [s.name for s in reopen_run(settings, run.save(NOW), str).stages] == kept


def test_the_lock_is_held_once_and_names_its_holder(settings: Settings) -> None:
    with hold_lock(settings, 0) as note:
        note("run-1")
        assert is_locked(settings)
        with pytest.raises(LockedError, match=rf"run-1 \(pid {os.getpid()} on "):
            hold_lock(settings, 0).__enter__()
    assert not is_locked(settings)
    assert lock_holder(settings) == {}


def test_the_lock_of_a_killed_holder_is_free(settings: Settings) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from etl.settings import Settings;"
        "from etl.lock import hold_lock; s = Settings(project=Path(sys.argv[1]));"
        "hold_lock(s, 0).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(settings.project)], check=False)
    assert not is_locked(settings)
    with hold_lock(settings, 0):
        assert is_locked(settings)


def test_note_of_a_killed_run_of_another_container_is_no_lock(settings: Settings) -> None:
    with hold_lock(settings, 0):
        pass
    for host in ("gone-pod", socket.gethostname()):  # PID 1 of a container is always alive
        note = {"pid": os.getpid(), "host": host, "since": "2026-01-02T12:00:00+00:00"}
        (settings.data / "etl.lock.json").write_text(json.dumps(note))
        assert not is_locked(settings)


def test_asking_for_the_lock_keeps_no_run_from_it(settings: Settings) -> None:
    settings.data.mkdir(parents=True)
    asking = filelock.FileLock(settings.data / "etl.lock", thread_local=False)
    asking.acquire()
    timer = threading.Timer(0.2, asking.release)
    timer.start()
    with hold_lock(settings, 0):
        assert is_locked(settings)
    timer.join()


def test_a_held_lock_is_told_even_when_the_note_is_broken(settings: Settings) -> None:
    with hold_lock(settings, 0):
        (settings.data / "etl.lock.json").write_text("{")
        with pytest.raises(LockedError, match="not written its name"):
            hold_lock(settings, 0).__enter__()


def test_run_ids_sort_by_time() -> None:
    later = NOW + timedelta(seconds=1)
    assert new_run_id(NOW) < new_run_id(later)
    assert new_run_id(NOW) != new_run_id(NOW)
