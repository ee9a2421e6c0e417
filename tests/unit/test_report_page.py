"""The report: all that a record tells is on the page, and nothing on it can act or be loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from etl.errors import DataQualityError
from etl.past_runs import find_run
from etl.records import RunRecord
from etl.report.page import make_bars, make_page, write_page
from etl.settings import Settings
from tests.run_records import full, record

VOID = {"meta", "link", "img", "br", "hr", "input"}
CELLS = {"td", "th", "dt", "dd", "p", "li"}
EVIL = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """The page as a browser takes it: its text, its tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", list[str](), list[tuple[str, str | None]]()
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " " if tag in CELLS else ""
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """Its text in one line."""
        return " ".join(self.text.split())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"job": "shop", "data_dir": tmp_path})


def test_all_that_the_record_tells_is_on_the_page(settings: Settings) -> None:
    words = Page(make_page(settings, full())).words
    for told in (
        "shop 3 DATA_QUALITY", "What did not depend on the failure was published.",
        "audit not_null failed on marts.a → mend it", "the clock was ahead",
        "began (UTC) 2026-01-02 00:00:00, took 50.0 s", "1,234 rows in 3 pages",
        "2 compared, 1 differ", "1 passed, 1 failed", "1 held back, 1 published",
        "shop orders 1,234 3 4 1 17.5", "new column orders.tax",
        "discarded 7 rows because of orders.x",
        "api-raw shop_raw.orders 17.5 1,234 1,233", "raw-staging staging.a 17.5 5 5",
        "marts.a FULL failed 1 9 2.000", "marts.idle VIEW held back 0 0.000",
        "not_null on marts.a: failed, 42 rows", "SELECT * FROM a WHERE b IS NULL", "id b 5 None",
        "marts.b pg public.b merge published 11 22 33 4,444", "etl-job 1.2.3",
        "model marts.a 2.0 s failed",
    ):  # fmt: skip
        assert told in words


@pytest.mark.parametrize(("seen", "told"), [(1, "1,234 rows in 3 pages"), (0, "1,234 rows counts")])
def test_pages_that_nobody_counted_are_not_told(settings: Settings, seen: int, told: str) -> None:
    (source,) = full().sources
    unseen = source.model_copy(
        update={"rows": 0, "pages": None, "requests": None, "retries": None, "resource": "made"}
    )
    sources = (source, unseen) if seen else (unseen.model_copy(update={"rows": 1234}),)
    words = Page(make_page(settings, full().model_copy(update={"sources": sources}))).words
    assert told in words
    assert "None pages" not in words


def test_what_the_world_sent_cannot_act(settings: Settings) -> None:
    """Names, messages, samples and queries are of APIs, libraries and databases."""
    error = DataQualityError(EVIL, subject=EVIL, hint=EVIL)
    error.sample = ({EVIL: EVIL},)
    audit = {"model": EVIL, "name": EVIL, "blocking": True, "status": "failed", "failing_rows": 1,
             "sql": EVIL, "sample": [{EVIL: EVIL}]}  # fmt: skip
    page = Page(make_page(settings, record(error, warnings=[EVIL], audits=[audit], job=EVIL)))
    assert page.words.count(EVIL) >= 10
    assert not {"script", "img", "link", "iframe", "form"} & set(page.tags)
    names = [name for name, _ in page.attributes]
    assert not [n for n in names if n.startswith("on") or n == "src"]
    policy = [v for name, v in page.attributes if name == "content" and v and "default-src" in v]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"status": "running", "exit_code": None, "exit_name": None, "finished_at": None},
        # A record of an earlier version: no times.
        {"stages": [{"name": "extract", "status": "ok", "attempts": 1, "seconds": 1}]},
    ],
)
def test_record_that_tells_little_has_a_page(settings: Settings, given: dict[str, Any]) -> None:
    page = Page(make_page(settings, record(**given)))
    assert ("not ended" in page.words) == (given.get("status") == "running")
    assert "Time" not in page.words


def test_time_line_begins_with_the_first_and_ends_with_the_last() -> None:
    bars = make_bars(full())
    assert [(b.kind, b.name, b.start, b.width) for b in bars] == [
        ("stage", "extract", 0, 20), ("source", "shop", 0, 18), ("model", "marts.a", 40, 4),
        ("stage", "load", 80, 20), ("target", "pg", 80, 20),
    ]  # fmt: skip


def test_load_that_failed_has_no_numbers_that_nobody_counted(settings: Settings) -> None:
    load = {"model": "marts.a", "target": "pg", "table": "a", "strategy": "merge"}
    page = Page(make_page(settings, full(loads=[{**load, "status": "failed"}])))
    assert "marts.a pg a merge failed 0.000" in page.words


def test_earlier_runs_of_the_environment_stand_beside(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(number: int, environment: str = "prod") -> RunRecord:
        run = full(
            run_id=f"20260102T00000{number}Z-00000{number}", environment=environment,
            started_at=datetime(2026, 1, number, tzinfo=UTC),
            sources=[{"source": "shop", "resource": "orders", "rows": 100 * number, "pages": 1,
                      "requests": 1, "retries": 0}],
        )  # fmt: skip
        folder = settings.runs / run.run_id
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
        return run

    keep(1), keep(2), keep(3, "dev")
    run = keep(4)
    keep(5)
    page = Page(make_page(settings, run))
    assert [v for name, v in page.attributes if name == "href"] == [
        "../20260102T000002Z-000002/report.html", "../20260102T000001Z-000001/report.html",
    ]  # fmt: skip
    assert "shop orders 400 200 1 1 0" in page.words
    path = write_page(settings, find_run(settings, run.run_id))
    assert path == settings.runs / run.run_id / "report.html"
    assert path.read_text(encoding="utf-8") == make_page(settings, run)
    # Of an earlier run, too: not only where it is among the newest.
    monkeypatch.setattr("etl.report.page.EARLIER", 1)
    page = Page(make_page(settings, run))
    assert "../20260102T000002Z-000002/report.html" in [v for _, v in page.attributes]
