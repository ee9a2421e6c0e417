"""The recipes of docs/apis.md read such APIs whole: each is run against one, row by row."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.configuration import load_settings
from tests.contract.test_docs import ROOT, blocks
from tests.integration.extracting import extract_once, query, serving

PAGE = (ROOT / "docs" / "apis.md").read_text(encoding="utf-8")
RECIPES = {
    name: block.text
    for block in blocks("yaml")
    if block.page == "apis.md"
    for name in yaml.safe_load(block.text)["sources"]
}
# Each block of Python, and the last file that is named before it.
FILES = {
    re.findall(r"`(\w+\.py)`", before)[-1]: text
    for before, text in re.findall(r"(.*?)^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
}

ISSUES: list[dict[str, Any]] = [
    {"number": n, "id": 10 + n, "updated_at": f"2026-01-0{n}T00:00:00Z"} for n in range(1, 6)
]
INVOICES: list[dict[str, Any]] = [
    {"id": f"in_{n}", "metadata": {"a.b": n, "A b": "x"}} for n in range(1, 6)
]
MEMBERS = [{"id": n} for n in range(1, 251)]
FOUND = [{"id": n} for n in range(1, 8)]
RATES = {"2026-01-01": {"USD": 1.1, "CHF": 0.9}, "2026-01-05": {"USD": 1.2}}
# What raw has to hold: the columns to look at, and the rows.
ROWS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "tracker_raw.issues": ("id", [(i["id"],) for i in ISSUES]),
    "tracker_raw.comments": (
        "id, _issues_number",
        [(100 + i["number"], i["number"]) for i in ISSUES],
    ),
    "payments_raw.invoices": (
        "id, metadata ->> '$.\"a.b\"'",
        [(i["id"], str(n)) for n, i in enumerate(INVOICES, 1)],
    ),
    "payments_raw.lines": (
        "id, _invoices_id",
        [(f"li_{i['id']}_{k}", i["id"]) for i in INVOICES for k in (1, 2)],
    ),
    "contacts_raw.members": ("id", [(m["id"],) for m in MEMBERS]),
    "contacts_raw.found": ("id", [(f["id"],) for f in FOUND]),
    "rates_raw.rates": (
        "day::text, currency, rate",
        [(day, c, rate) for day, rates in RATES.items() for c, rate in rates.items()],
    ),
    "graph_raw.products": ("id", [(f["id"],) for f in FOUND]),
    "desk_raw.tickets": ("id", [(f["id"],) for f in FOUND]),
    "ledger_raw.entries": ("id", [(n,) for n in range(1, 7)]),
    "erp_raw.orders": ("id, changed_at::date::text", [(n, "2026-01-02") for n in range(1, 8)]),
    "exports_raw.orders": ("id, note", [("1", "a, b"), ("2", "two\nlines")]),
}


def answer(path: str, asked: dict[str, Any], headers: dict[str, str]) -> Any:
    """All of the APIs; lists are cut into pages as each of them does."""
    *_, parent, last = ["", *path.strip("/").split("/")]
    if last == "issues":
        page = int(asked.get("page", 1))
        rows = [i for i in ISSUES if i["updated_at"] >= asked["since"]][2 * page - 2 : 2 * page]
        url = f"http://{headers['host']}{path}?since={asked['since']}&page={page + 1}"
        return 200, rows, {"Link": f'<{url}>; rel="next"'} if 2 * page < len(ISSUES) else {}
    if last == "comments":
        return [{"id": 100 + int(parent)}]
    if last in ("invoices", "lines"):
        rows = INVOICES if last == "invoices" else [{"id": f"li_{parent}_{k}"} for k in (1, 2)]
        after = (
            [r["id"] for r in rows].index(asked["starting_after"]) + 1
            if "starting_after" in asked
            else 0
        )
        return {"data": rows[after : after + 2], "has_more": after + 2 < len(rows)}
    if last == "members":
        begin = int(asked["offset"])
        return {
            "members": MEMBERS[begin : begin + int(asked["count"])],
            "total_items": len(MEMBERS),
        }
    if last == "search":
        assert asked["filters"] == [{"field": "status", "value": "active"}]
        begin = int(asked.get("after", 0))
        more = {"paging": {"next": {"after": str(begin + 3)}}} if begin + 3 < len(FOUND) else {}
        return {"results": FOUND[begin : begin + 3], **more}
    if last == "graphql":
        assert asked["query"].startswith("query ($after: String) { products(first: 100, ")
        end = int(asked["variables"]["after"] or 0) + 3
        info = {"endCursor": str(end), "hasNextPage": end < len(FOUND)}
        return {"data": {"products": {"nodes": FOUND[end - 3 : end], "pageInfo": info}}}
    if last == "cursor.json":
        begin = int(asked.get("cursor", 0))
        end = min(begin + 3, len(FOUND))
        told = {"after_cursor": str(end), "end_of_stream": end == len(FOUND)}
        return {"tickets": FOUND[begin:end], **told}
    if last == "entries":
        begin = int(asked.get("$skip", 0))
        if begin == 6:
            return {"@odata.context": "entries"}
        url = f"http://{headers['host']}{path}?$skip={begin + 3}"
        return {"value": FOUND[begin : begin + 3], "@odata.nextLink": url}
    if last == "series":
        return {"rates": {day: r for day, r in RATES.items() if day >= asked["from"]}}
    if last == "orders.csv":
        return 200, b'id,note\r\n1,"a, b"\r\n2,"two\nlines"\r\n', {"Content-Type": "text/csv"}
    return 404, {}, {}


def database(path: Path) -> str:
    """A database with orders; its address."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, changed_at TIMESTAMP)")
        rows = [(f["id"], "2026-01-02 00:00:00.000000") for f in FOUND]
        connection.executemany("INSERT INTO orders VALUES (?, ?)", rows)
        connection.commit()
    return f"sqlite:///{path}"


@pytest.mark.parametrize("source", RECIPES)
def test_recipe_reads_all_rows_and_again_none_twice(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with serving(answer) as api:
        config = RECIPES[source].replace("https://api.example.com/", api.url)
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "etl.yaml").write_text(config, encoding="utf-8")
        tokens = {
            f"ETL_SOURCES__{name.upper()}__CLIENT__AUTH__TOKEN": "t"
            for name, one in yaml.safe_load(config)["sources"].items()
            if "bearer" in str(one)
        }
        if source == "erp":
            tokens["ETL_SOURCES__ERP__ARGUMENTS__CREDENTIALS"] = database(tmp_path / "erp.db")
        settings = load_settings(tmp_path, "default", tokens)
        tables = {t: expected for t, expected in ROWS.items() if t.startswith(f"{source}_raw.")}
        for _ in range(2):
            extract_once(settings)
            for table, (columns, expected) in tables.items():
                rows = query(settings, f"SELECT {columns} FROM {table}")
                assert sorted(rows) == sorted(expected), table


def test_every_recipe_has_rows_to_compare() -> None:
    assert {t.removesuffix("_raw") for t, _, _ in (t.partition(".") for t in ROWS)} == set(RECIPES)
    assert set(FILES) == {"steps.py", "exports.py", "erp.py"}
