"""docs/adopt.md: a dlt script and models of SQLMesh move to a project, with rows and cursors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_docs import ROOT, blocks
from tests.duckdb_files import opened
from tests.integration.extracting import Api, serving
from tests.processes import run_etl, without_settings

PAGE = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
SCRIPT, TAKE_OVER = (b.text for b in blocks("python") if b.page == "adopt.md")
(SETTINGS,) = (b.text for b in blocks("yaml") if b.page == "adopt.md")
MODEL = """MODEL (name crm.big_orders, kind FULL);
SELECT id, total FROM crm_raw.orders WHERE total >= @min_total"""
FIRST: list[dict[str, Any]] = [
    {"id": n, "total": 4 * n, "at": f"2026-03-0{n}T00:00:00Z"} for n in range(1, 6)
]
LATER: list[dict[str, Any]] = [{"id": 2, "total": 0, "at": "2026-03-06T00:00:00Z"}]


class Move:
    """The old script in one folder, the new project in another, and the API of both."""

    def __init__(self, folder: Path, api: Api) -> None:
        self.api, self.old, self.new = api, folder / "old", folder / "new"
        self.orders, self.events = list(FIRST), [1, 2, 3]
        api.answer = self._answer
        self.old.mkdir()
        (self.old / "load_crm.py").write_text(SCRIPT, encoding="utf-8")
        found = {"BASE_URL": api.url, "TOKEN": "t0ken"}
        keys = {f"SOURCES__CRM__{k}": v for k, v in found.items()}
        environment = {**os.environ, **keys, "DLT_DATA_DIR": str(folder / "home")}
        subprocess.run([sys.executable, "load_crm.py"], cwd=self.old, env=environment, check=True)
        done = run_etl(["init", "new"], folder, without_settings())
        assert done.returncode == 0, done.stderr
        (self.new / "load_crm.py").write_text(SCRIPT, encoding="utf-8")
        model = self.new / "sqlmesh" / "models" / "marts" / "big_orders.sql"
        model.write_text(MODEL, encoding="utf-8")
        self.configure(SETTINGS)

    def _answer(self, path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
        assert headers["authorization"] == "Bearer t0ken"
        since = asked.get("since", "")
        if path == "/orders":
            return [o for o in self.orders if o["at"] >= since]
        if path == "/events":
            days = {n: f"2026-03-0{n}T00:00:00Z" for n in self.events}
            return [{"id": n, "at": at} for n, at in days.items() if at >= since]
        return [{"id": f"{path.split('/')[2]}-{k}"} for k in (1, 2)]

    def configure(self, text: str) -> None:
        text = text.replace("https://api.example.com/", self.api.url)
        (self.new / "config" / "etl.yaml").write_text(text, encoding="utf-8")

    def take_over(self) -> None:
        (self.new / "data").mkdir()
        (self.new / "take_over.py").write_text(TAKE_OVER, encoding="utf-8")
        (given,) = re.findall(r"`python take_over.py ([^`]*)`", PAGE)
        command = [sys.executable, "take_over.py", *given.split()]
        subprocess.run(command, cwd=self.new, check=True)

    def run(self) -> tuple[int, str]:
        variables = without_settings(ETL_SOURCES__CRM__ARGUMENTS__TOKEN="t0ken")
        done = run_etl(["run"], self.new, variables)
        return done.returncode, done.stderr

    def rows(self, sql: str) -> list[Any]:
        with opened(self.new / "data" / "warehouse.duckdb", read_only=True) as connection:
            return sorted(connection.execute(sql).fetchall())


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    with serving(lambda *_: None) as api:
        yield Move(tmp_path, api)


@pytest.mark.slow
def test_script_and_models_go_on_with_the_rows_and_cursors_that_are_there(move: Move) -> None:
    move.take_over()
    for orders, events in (([], []), (LATER, [4])):
        move.orders += orders
        move.events += events
        move.api.asked.clear()
        code, told = move.run()
        assert code == 0, told
        since = {path: asked["since"] for path, asked, _ in move.api.asked if "since" in asked}
        if not orders:
            assert "goes on from what the warehouse holds" in told
            assert since == {"/orders": "2026-03-05T00:00:00Z", "/events": "2026-03-03T00:00:00Z"}
        assert move.rows("SELECT id FROM crm_raw.events") == [(n,) for n in move.events]
        assert move.rows("SELECT id FROM crm_raw.orders") == [(o["id"],) for o in FIRST]
        assert len(move.rows("SELECT id FROM crm_raw.lines")) == 10
        assert move.rows("SELECT id FROM crm.big_orders") == [(3,), (4,), (5,)]


@pytest.mark.slow
def test_script_alone_begins_anew(move: Move) -> None:
    code, told = move.run()
    assert code == 0, told
    since = {path: asked["since"] for path, asked, _ in move.api.asked[-20:] if "since" in asked}
    assert since == dict.fromkeys(["/orders", "/events"], "2026-01-01T00:00:00Z")
    assert move.rows("SELECT id FROM crm_raw.orders") == [(o["id"],) for o in FIRST]


@pytest.mark.slow
def test_source_of_another_name_takes_nothing_over(move: Move) -> None:
    script = move.new / "load_crm.py"
    script.write_text(SCRIPT.replace('name="crm"', 'name="sales"'), encoding="utf-8")
    move.take_over()
    code, told = move.run()
    assert code == 2
    assert "raw's tables were loaded as dlt's source crm" in told
