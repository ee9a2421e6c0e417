"""Each run leaves its report, and `etl report` writes it again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from etl.records import RunRecord
from tests.integration.projects import Shop


def test_a_run_leaves_its_report_whatever_its_code(shop: Shop) -> None:
    shop.edit("sqlmesh/models/totals.sql", "SUM(amount)", "-SUM(amount)")
    done = shop.etl("run", ETL_LOG__FORMAT="text")
    assert done.returncode == 3
    page = (shop.data / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    assert "3 DATA_QUALITY" in page
    assert "forall" in page
    run = (shop.data / "runs" / "latest" / "run.json").read_text(encoding="utf-8")
    (failed,) = [m for m in RunRecord.model_validate_json(run).models if m.status == "failed"]
    assert failed.seconds > 0
    # The summary says where it is.
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("report ")]
    assert Path(line.split()[1]).read_text(encoding="utf-8") == page


def test_report_of_any_run_is_written_again(shop: Shop) -> None:
    assert shop.etl("run").returncode == 0
    runs = sorted(p.name for p in (shop.data / "runs").glob("2*"))
    for run in runs:
        (shop.data / "runs" / run / "report.html").unlink()
    assert shop.etl("report").stdout == f"{shop.data / 'runs' / runs[-1] / 'report.html'}\n"
    assert shop.etl("report", runs[0]).returncode == 0
    pages = {r: (shop.data / "runs" / r / "report.html").read_text(encoding="utf-8") for r in runs}
    assert all(run in page for run, page in pages.items())
    assert shop.etl("report", "--html").stdout == pages[runs[-1]]


def test_run_that_is_not_there_is_code_2(shop: Shop) -> None:
    (run,) = (p.name for p in (shop.data / "runs").glob("2*"))
    done = shop.etl("report", run[:-1])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no run {run[:-1]}\n     → did you mean {run}?" in done.stderr
    assert shop.etl("report", "../runs/latest").returncode == 2
    (shop.data / "runs" / run / "run.json").write_text("{")
    assert "cannot be read" in shop.etl("report").stderr


def test_report_of_no_run_is_code_2(fresh: Shop) -> None:
    done = fresh.etl("report")
    assert done.returncode == 2
    assert "there is no run yet\n     → etl run" in done.stderr


@pytest.mark.parametrize("broken", ["page", "template"])
def test_report_that_cannot_be_written_changes_no_code(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    if broken == "page":
        monkeypatch.setattr("etl.report.page.make_page", fail)
    else:  # it is read when the module is imported
        monkeypatch.setitem(sys.modules, "etl.report.page", None)
    assert shop.run().exit_code == 0
    log = (shop.data / "runs" / "latest" / "log.jsonl").read_text(encoding="utf-8")
    assert "the report was not written" in log
