"""README and docs/ hold what the code does: tables, commands, snippets, links."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml

from bench.__main__ import benchmarks
from etl.cli import COMMANDS
from etl.configuration import load_settings
from etl.demo.__main__ import _parser as demo_parser
from etl.errors import SEVERITY, ExitCode
from etl.exit_codes import as_markdown
from etl.options import parse
from etl.records import json_schema as record_schema
from etl.settings import TARGET_KINDS
from etl.settings_schema import json_schema, settings_table
from etl.variables import OPTION_VARIABLES
from tests.duckdb_files import opened
from tests.integration.extracting import serving
from tests.processes import run_etl, without_settings
from tests.soak.__main__ import make_parser as soak_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    """A fenced block: its page, language, text, and the file that it is meant to be."""

    page: str
    language: str
    text: str
    file: str


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(
            r"(?:`shop/(\S+)`[^\n]*:\n\n)?^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
        ):
            file, language, body = match.groups()
            if language in languages or not languages:
                found.append(Block(page.name, language, body, file or ""))
    return found


def check_generated(page: str, mark: str, generated: str) -> None:
    """The part between the page's marks is this; UPDATE_DOCS=1 writes it there."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    before, start, rest = text.partition(f"<!-- {mark}:start -->\n")
    old, end, after = rest.partition(f"<!-- {mark}:end -->")
    assert start, f"{page} has no {mark}"
    assert end, f"{page} has no end of {mark}"
    if old != generated and os.environ.get("UPDATE_DOCS"):
        path.write_text(before + start + generated + end + after, encoding="utf-8")
        return
    assert old == generated, f"{page} is behind the code: run this test with UPDATE_DOCS=1"


def modules_table() -> str:
    """Every module with the first sentence of its docstring."""
    lines = ["| module | what it owns |", "|---|---|"]
    for path in sorted((ROOT / "etl").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        name = path.relative_to(ROOT).as_posix().removesuffix("__init__.py")
        assert text, f"{name} does not say what it owns"
        sentence = " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {sentence} |")
    return "\n".join(lines) + "\n"


# -- generated parts -------------------------------------------------------------------------------


def test_the_exit_code_table_is_the_codes_own() -> None:
    check_generated("README.md", "exit-codes", as_markdown())


def test_the_settings_table_is_the_settings_own() -> None:
    check_generated("docs/configuration.md", "settings", settings_table())


def test_the_table_of_modules_is_the_modules_own_words() -> None:
    check_generated("docs/architecture.md", "modules", modules_table())


@pytest.mark.parametrize(
    ("file", "schema"),
    [("config/etl.schema.json", json_schema), ("etl/run.schema.json", record_schema)],
)
def test_the_committed_schemas_are_the_codes_own(
    file: str, schema: Callable[[], dict[str, Any]]
) -> None:
    """UPDATE_DOCS=1 writes them."""
    path, own = ROOT / file, schema()
    jsonschema.Draft202012Validator.check_schema(own)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(json.dumps(own, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == own


@pytest.mark.parametrize("name", ["etl.yaml", "demo.yaml", "postgres.yaml", "sqlserver.yaml"])
def test_the_shipped_configuration_fits_the_schema(name: str) -> None:
    text = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=etl.schema.json\n")
    check_configuration(text)


def test_the_profile_of_sql_server_publishes_every_mart_of_the_demo() -> None:
    """As docs/sqlserver.md says; test_postgres.py looks at the other server's profile."""
    demo = load_settings(ROOT, "demo", {})
    dsn = {"ETL_TARGETS__SQLSERVER__DSN": "mssql://etl:x@db/analytics"}
    both = load_settings(ROOT, "demo,sqlserver", dsn)
    assert both.sources == demo.sources
    tables = {x.model: x.table for x in both.loads}
    assert tables.keys() == {x.model for x in demo.loads}
    assert {x.target for x in both.loads} == {"sqlserver"}
    assert tables.pop("marts.stock_metrics") == "dbo.Dim_Stock_Metrics"
    assert set(tables.values()) == {None}


def check_configuration(text: str) -> None:
    tree = json.loads(json.dumps(yaml.safe_load(text), default=str))
    jsonschema.Draft202012Validator(json_schema()).validate(tree)


def test_the_table_of_targets_has_every_kind() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = text.partition("| `kind` of a target |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(TARGET_KINDS)


def test_every_setting_has_a_meaning() -> None:
    for line in settings_table().splitlines()[2:]:
        assert all(cell.strip() for i, cell in enumerate(line.split(" | ")) if i in {0, 1, 3}), line


def test_operations_say_what_to_do_for_each_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (\d+ [A-Z_]+)\n\n([^#]+)", text, re.MULTILINE))
    assert list(paragraphs) == [f"{int(c)} {c.name}" for c in ExitCode]
    assert all(len(p) > 15 for p in paragraphs.values())


def test_the_decision_on_severity_has_the_codes_order() -> None:
    (page,) = (ROOT / "docs" / "adr").glob("0003-*.md")
    line = next(x for x in page.read_text(encoding="utf-8").splitlines() if x.startswith("143, "))
    assert [int(n) for n in re.findall(r"\d+", line)] == [int(c) for c in SEVERITY if c]


def test_the_readme_lists_every_option_of_etl_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`(--[a-z-]+)", text.split("## Options of `etl run`")[1].split("\n## ")[0])
    )
    names = {f"--{n.replace('_', '-')}" for n in vars(parse(["run"], {}))} - {
        "--parser",
        "--command",
    }
    assert listed - {"--wait-lock"} == names - {"--wait-lock"}


def test_the_readme_lists_every_file_of_the_data_directory() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is in `data/`")[1]
    for name in (
        "warehouse.duckdb",
        "marts.duckdb",
        "state.duckdb",
        "dlt/",
        "quarantine/",
        "etl.lock",
    ):
        assert f"`{name}`" in section


def test_architecture_names_every_module() -> None:
    (house,) = [b.text for b in blocks("text") if b.page == "architecture.md"]
    named = set(re.findall(r"[a-z_]+", house))
    modules = {p.stem for p in (ROOT / "etl").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert {m for m in modules if not m.startswith("__")} <= named


def test_every_module_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"`(etl/[\w/]*(?:/|\.py))`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


# -- links and commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", text):
        if "://" not in target:
            there = (page.parent / target) if target else page
            assert there.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
                assert anchor in anchors, f"{target}#{anchor}"


@pytest.mark.parametrize("block", blocks("shell"), ids=lambda b: f"{b.page}:{b.text[:20]!r}")
def test_every_command_exists(block: Block) -> None:
    for line in block.text.splitlines():
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        check_command(words)


def check_command(words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program in {"etl", ".venv/bin/etl"}:
        parse(rest, {})
    elif rest[:2] == ["-m", "etl.demo"]:
        demo_parser({}).parse_args(rest[2:])
    elif rest[:2] == ["-m", "bench"]:
        assert rest[2] in benchmarks()
    elif rest[:2] == ["-m", "tests.soak"]:
        soak_parser().parse_args(rest[2:])
    elif program == "cd":
        assert (ROOT / rest[0]).is_dir()
    elif program == "docker":
        services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
        assert rest[:2] == ["compose", "run"]
        assert rest[-1] in services
    elif program == ".venv/bin/python":
        assert rest[0] == "-c"
        ast.parse(rest[1])
    elif program == ".venv/bin/sqlmesh":
        from sqlmesh.cli.main import cli

        assert rest[:2] == ["-p", "sqlmesh"]
        cli.commands[rest[2]].make_context(rest[2], rest[3:])
    elif program == ".venv/bin/pip":
        package, _, extra = rest[1].partition("==")[0].rstrip("]").partition("[")
        assert rest[0] == "install"
        assert extra in (metadata.metadata(package).get_all("Provides-Extra") or [])
        assert "==" not in rest[1] or rest[1].endswith(f"=={metadata.version(package)}")
    elif program == "export":
        check_variable(*rest[0].split("=", 1))
    else:
        assert program in {"echo", "mkdir", "printf"}, program


def check_variable(name: str, text: str) -> None:
    """It names a setting or an option, and the shipped configuration takes it."""
    if name.removeprefix("ETL_") not in OPTION_VARIABLES and "__SHOP__" not in name:
        load_settings(ROOT, "default", {name: text})


def test_every_option_that_a_text_mentions_exists() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = text.partition("## What it does not do")[0]
        for command in re.findall(r"`(etl [a-z][^`]*)`", text):
            words = [w for w in shlex.split(command) if "…" not in w]
            if " ".join(words[1:]) in COMMANDS:
                continue  # the name alone; what it needs besides is not the point
            if words[1] == "plan" or "NAME" not in command:
                parse(words[1:] if words[1:] != ["lineage"] else ["lineage", "marts.x"], {})
        for command in re.findall(r"`python -m etl\.demo ([^`]*)`", text):
            parser: argparse.ArgumentParser = demo_parser({})
            parser.parse_args(shlex.split(command.replace(" N", " 0")))


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda b: f"{b.page}:{b.text[:20]!r}")
def test_every_configuration_fits_the_schema(block: Block) -> None:
    if block.file.startswith("sqlmesh/"):
        assert all(table["columns"] for table in yaml.safe_load(block.text))
    else:
        check_configuration(block.text)


@pytest.mark.parametrize("block", blocks("sql"), ids=lambda b: b.file)
def test_every_query_parses(block: Block) -> None:
    from sqlglot import exp
    from sqlmesh.core.dialect import parse as parse_sql

    model, query = parse_sql(block.text, default_dialect="duckdb")
    assert type(model).__name__ == "Model"
    assert isinstance(query, exp.Query)
    described = {p.name: p.args["value"] for p in model.expressions}["column_descriptions"]
    assert query.named_selects == [e.this.name for e in described.expressions]


def test_no_block_goes_untested() -> None:
    assert {b.language for b in blocks()} <= {"shell", "yaml", "sql", "text", "mermaid", "python"}
    assert all(b.file for b in blocks("sql"))
    # Run by test_apis.py and test_adopt.py.
    assert {b.page for b in blocks("python")} == {"apis.md", "adopt.md"}


# -- your own API in five minutes ------------------------------------------------------------------

PRODUCTS = [{"id": n, "name": f"tea {n}", "price_eur": n / 2} for n in range(1, 251)]


def answer(path: str, asked: dict[str, str], headers: dict[str, str]) -> Any:
    """The README's API: /v1/products?limit=100&cursor=…, for who has the token."""
    if headers["authorization"] != "Bearer s3cret-t0ken" or path != "/v1/products":
        return 401, {"error": "who are you?"}, {}
    begin = int(asked.get("cursor", 0))
    end = begin + int(asked["limit"])
    more = {"next": str(end)} if end < len(PRODUCTS) else {}
    return {"products": PRODUCTS[begin:end], **more}


@pytest.fixture
def shop() -> Iterator[str]:
    with serving(answer) as api:
        yield f"{api.url}v1/"


@pytest.mark.slow
def test_the_readmes_own_api_runs_end_to_end(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {b.file: b.text for b in blocks() if b.file}
    assert len(files) == 5  # the README's, and three models of docs/models.md
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    environment = without_settings(
        ETL_SOURCES__SHOP__CLIENT__BASE_URL=shop,
        ETL_SOURCES__SHOP__CLIENT__AUTH__TOKEN="s3cret-t0ken",
    )
    for command in (["run", "--stage", "extract"], ["generate"]):
        done = run_etl([*command, "--project", str(tmp_path)], tmp_path, environment)
        assert done.returncode == 0, done.stderr
    for expected, ended in ((500, []), (750, [(1, 0.5)])):
        if ended:
            monkeypatch.setitem(PRODUCTS[0], "price_eur", 9.75)
        done = run_etl(["run", "--json", "--project", str(tmp_path)], tmp_path, environment)
        assert done.returncode == 0, done.stderr
        # The record, and nothing else, on standard output; it fits its published schema.
        record = json.loads(done.stdout)
        jsonschema.Draft202012Validator(record_schema()).validate(record)
        stored = (tmp_path / "data" / "runs" / "latest" / "run.json").read_text(encoding="utf-8")
        assert json.loads(stored) == record
        assert "s3cret" not in done.stdout + done.stderr
        assert record["sources"][0]["rows"] == 250
        assert any(r["between"] == "raw-staging" for r in record["reconciliations"])
        with opened(tmp_path / "data" / "warehouse.duckdb", read_only=True) as c:
            staged = c.sql("FROM staging.stg_shop__products").count("*").fetchall()
            assert staged == [(expected,)]
            newest = c.sql("SELECT product_id, product_name, price_eur FROM marts.products")
            assert sorted(newest.fetchall()) == [tuple(p.values()) for p in PRODUCTS]
            assert c.sql("FROM marts.price_changes").count("*").fetchall() == [(250,)]
            held = c.sql("SELECT * EXCLUDE (valid_from) FROM marts.price_history").fetchall()
        assert sorted((i, price) for i, price, until in held if until is None) == [
            (p["id"], p["price_eur"]) for p in PRODUCTS
        ]
        assert [(i, price) for i, price, until in held if until] == ended
        with opened(tmp_path / "data" / "marts.duckdb", read_only=True) as c:
            rows = c.sql("SELECT product_id, product_name, price_eur FROM prices_daily ORDER BY 1")
            assert rows.fetchall() == [tuple(p.values()) for p in PRODUCTS]
            assert c.sql("FROM marts.prices_daily").count("*").fetchall() == [(250,)]
