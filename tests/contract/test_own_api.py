"""A new user with an API of their own: some YAML, three commands, right models, no line of SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.library import SOURCE, Library, Row, books, branches, loans, open_library
from tests.duckdb_files import opened
from tests.processes import run_etl, without_settings

MART = "{{model: marts.dim_library__{0}, target: marts}}"


class Project:
    """A project made by `etl init`, with the library as its source."""

    def __init__(self, folder: Path, library: Library) -> None:
        self.folder = folder / "mine"
        self.etl("init", "mine", cwd=folder)
        config = self.folder / "config" / "etl.yaml"
        text = config.read_text(encoding="utf-8")
        assert "\nsources: {}\n" in text
        text = text.replace("\nsources: {}\n", SOURCE.format(url=library.url))
        marts = "".join(f"\n  - {MART.format(t)}" for t in ("books", "branches"))
        config.write_text(text.rstrip("\n") + marts + "\n", encoding="utf-8")

    def etl(self, *arguments: str, cwd: Path | None = None) -> str:
        """A command as a process, which must end with 0; its standard output."""
        done = run_etl(arguments, cwd or self.folder, without_settings())
        assert done.returncode == 0, f"etl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def run(self, *stages: str) -> dict[str, Any]:
        """A whole run, or some stages; its record."""
        named = [word for stage in stages for word in ("--stage", stage)]
        record: dict[str, Any] = json.loads(self.etl("run", "--json", *named))
        return record

    def rows(self, sql: str, file: str = "warehouse.duckdb") -> list[tuple[Any, ...]]:
        """What a query finds, sorted."""
        with opened(self.folder / "data" / file, read_only=True) as connection:
            return sorted(connection.execute(sql).fetchall())


def values(rows: list[Row], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The columns of rows, sorted; the first one is a key."""
    return sorted(tuple(row.get(c) for c in columns) for row in rows)


def expect(project: Project, day: int) -> None:
    """Compare every generated model and the published marts with plain Python."""
    kept = [b for b in books(day) if not b["deleted"]]
    tables: dict[str, tuple[list[Row], tuple[str, ...]]] = {
        "books": (kept, ("id", "title", "price", *(["language"] if day == 2 else []))),
        "loans": (loans(day), ("number", "book", "member", *(["desk"] if day == 2 else []))),
        "branches": (branches(day), ("town", "seats")),
    }
    for table, (rows, columns) in tables.items():
        expected = values(rows, columns)
        for model in (f"staging.stg_library__{table}", f"marts.dim_library__{table}"):
            assert project.rows(f"SELECT {', '.join(columns)} FROM {model}") == expected, model
        if table != "loans":
            sql = f"SELECT {', '.join(columns)} FROM dim_library__{table}"
            assert project.rows(sql, "marts.duckdb") == expected
    copies = [
        (c["shelf"], c["is_worn"], n, b["id"]) for b in kept for n, c in enumerate(b["copies"])
    ]
    sql = """
        SELECT c.shelf, c.is_worn, c._dlt_list_idx, b.id
        FROM staging.stg_library__books__copies AS c
        LEFT JOIN staging.stg_library__books AS b ON c._dlt_parent_id = b._dlt_id
    """
    assert project.rows(sql) == sorted(copies)


@pytest.mark.slow
def test_an_api_of_ones_own_becomes_right_audited_incremental_models_without_sql(
    tmp_path: Path,
) -> None:
    assert len(SOURCE.strip().splitlines()) <= 16
    with open_library() as library:
        project = Project(tmp_path, library)
        project.etl("run", "--stage", "extract")
        written = project.etl("generate")
        assert written.count(": new") == 14
        record = project.run("transform", "audit", "load")
        expect(project, 1)
        kinds = {m["name"].partition(".")[2]: m["kind"] for m in record["models"]}
        assert kinds["stg_library__books"] == "INCREMENTAL_BY_UNIQUE_KEY"
        assert kinds["stg_library__books__copies"] == "INCREMENTAL_BY_UNIQUE_KEY"
        assert kinds["stg_library__loans"] == "INCREMENTAL_BY_TIME_RANGE"
        assert kinds["stg_library__branches"] == "FULL"
        assert {a["model"] for a in record["audits"]} >= {m["name"] for m in record["models"]}
        assert {a["status"] for a in record["audits"]} == {"passed"}

        library.day = 2
        project.run()
        changed = project.etl("generate")
        for name in ("stg_library__books", "dim_library__books", "stg_library__loans"):
            assert f"{name}.sql: updated" in changed
        assert "branches.sql" not in changed
        project.run()
        expect(project, 2)
        assert project.etl("generate") == "14 unchanged\n"
