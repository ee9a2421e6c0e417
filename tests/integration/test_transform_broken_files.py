"""A file of models that does not load holds back its models and what reads them, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.errors import ConfigError, ExitCode, StageError, TransformError
from etl.job import run_job
from etl.past_runs import last_failed
from etl.planning import apply_plan, show_plan
from etl.project.environment import Project
from etl.records import Failure, Options, RunRecord
from tests.duckdb_files import opened
from tests.integration.projects import ALL, Shop

TABLES = "sqlmesh/external_models/shop.yaml"
TOTALS, NEW = "sqlmesh/models/totals.sql", "sqlmesh/models/new.sql"
PYTHON = """
from sqlmesh import model


@model("marts.{name}", kind="FULL", columns={{"id": "int"}})
def execute(context, **kwargs):
    import pandas as pd

    return pd.DataFrame({{"id": [{value}]}})
"""
SEED = "MODEL (name marts.{name}, kind SEED (path '{name}.csv'), columns (a INT))"
NAMED = "MODEL (name marts.{name}, kind FULL{more}); SELECT {query}"
# What becomes of a file that has marts.totals, which marts.customers reads.
BROKEN = {
    "no SQL": ("SELECT", "SELEC FROM FROM"),
    "name without a schema": ("marts.totals", "totals"),
    "no such column": ("kind FULL", "kind INCREMENTAL_BY_TIME_RANGE (time_column nope)"),
    "no such audit": ("not_null(", "nope("),
}
# Files of models that do not load, of which no model was ever built.
STRANGE: dict[str, str | bytes] = {
    "comment.sql": "-- nothing yet\n",
    "empty.sql": "",
    "latin.sql": "MODEL (name marts.x, kind FULL); SELECT 'M\xfc' AS m".encode("latin-1"),
    "mark.sql": b"\xef\xbb\xbfMODEL (name marts.x, kind FULL); SELECT 1 AS m",
    "two.sql": "MODEL (name a.a, kind FULL); SELECT 1; MODEL (name a.b, kind FULL); SELECT 1",
    "kind.sql": NAMED.format(name="a", more="LL", query="1"),
    "nameless.sql": "MODEL (kind FULL); SELECT 1 AS n",
    "elsewhere.sql": NAMED.format(name="a.b", more="", query="1 AS n"),
    "property.sql": NAMED.format(name="a", more=", colour 'red'", query="1 AS n"),
    "cron.sql": NAMED.format(name="a", more=", cron 'every day'", query="1 AS n"),
    "signal.sql": NAMED.format(name="a", more=", signals (nope())", query="1 AS n"),
    "macro.sql": NAMED.format(name="a", more="", query="@nope(1) AS n"),
    "itself.sql": NAMED.format(name="a", more="", query="n FROM marts.a"),
    "jinja.sql": "MODEL (name marts.x, kind FULL); JINJA_QUERY_BEGIN; SELECT {{ n() }} JINJA_END;",
    "raw.sql": "MODEL (name shop_raw.orders, kind FULL); SELECT 1 AS id",
    "syntax.py": "def f(:\n",
    "package.py": "import no_such_package\n",
    "ending.py": "import sys\nsys.exit(0)\n",
    "seed.sql": SEED.format(name="x"),
}
# Of these any model may be made: nothing is transformed.
SHARED = {
    "sqlmesh/macros/m.py": "def f(:\n",
    "sqlmesh/macros/exits.py": "import sys\nsys.exit(0)\n",
    "sqlmesh/macros/m.sql": "{% macro f(x) %} {{ x ",
    "sqlmesh/signals/__init__.py": "raise ValueError('no')\n",
    "sqlmesh/audits/a.sql": "AUDIT (name a); SELEC FROM FROM",
}


def refuse(act: Callable[[], object]) -> list[str]:
    """What a command ends with."""
    with pytest.raises(StageError) as caught:
        act()
    return [str(e) for e in caught.value.failures]


def totals_are_held_back(shop: Shop, record: RunRecord, file: str = TOTALS) -> Failure:
    """One file does not load: marts.totals and marts.customers stay, marts.items goes on."""
    assert (record.exit_code, record.partial) == (ExitCode.TRANSFORM, True)
    (failure,) = record.failures
    assert str(shop.folder / file) in failure.message
    assert "Traceback" not in failure.message
    assert "\x1b" not in failure.message
    assert failure.hint == "mend the model, then `etl retry`"
    assert {m.name: m.status for m in record.models if m.status != "ok"} == {
        "marts.totals": "held_back",
        "marts.customers": "held_back",
    }
    assert record.warnings == ("marts.totals stays as it was: it is in no file that loads",)
    assert shop.published("items") == [("cup", 2), ("tea", 3)]
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    assert shop.published("customers") == [("ann", False), ("bob", True)]
    return failure


@pytest.mark.parametrize("case", BROKEN)
def test_file_that_does_not_load_holds_back_its_models_and_what_reads_them(
    shop: Shop, case: str
) -> None:
    good, bad = BROKEN[case]
    text, table = shop.text(TOTALS), shop.physical("marts.totals")
    shop.edit(TOTALS, good, bad)
    failure = totals_are_held_back(shop, shop.go_on((3, "eve", 5)))
    assert failure.subject == "models/totals.sql"
    assert shop.physical("marts.totals") == table
    assert refuse(lambda: show_plan(shop.settings, "prod", 0)) == [failure.message]
    assert [f.message for f in shop.go_on(dry_run=True).failures] == [failure.message]
    shop.write(TOTALS, text)
    assert run_job(shop.settings, Options(), resume=last_failed).exit_code == ExitCode.OK
    assert shop.published("totals")[-1] == ("eve", 5)
    assert shop.published("customers")[-1] == ("eve", False)


def test_new_files_that_do_not_load_hold_back_nothing(shop: Shop) -> None:
    for name, content in STRANGE.items():
        data = content if isinstance(content, bytes) else content.encode()
        (shop.folder / "sqlmesh/models" / name).write_bytes(data)
    (shop.folder / "sqlmesh/models/link.sql").symlink_to("link.sql")
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    told = {f.subject: f.message for f in record.failures}
    assert set(told) == {f"models/{name}" for name in (*STRANGE, "link.sql")}
    assert all(str(shop.folder / "sqlmesh" / file) in told[file] for file in told)
    assert "byte order mark" in told["models/mark.sql"]
    assert "latin.sql: 'utf-8' codec can't decode" in told["models/latin.sql"]
    assert {m.name: m.status for m in record.models} == dict.fromkeys(ALL, "ok")
    assert shop.published("totals")[-1] == ("eve", 5)
    assert set(refuse(lambda: show_plan(shop.settings, "prod", 0))) == set(told.values())


def test_files_of_editors_and_file_systems_are_no_models(shop: Shop) -> None:
    models = shop.folder / "sqlmesh/models"
    for name in ("._totals.sql", ".totals.sql.swp", "totals.sql~", "totals.sql.orig"):
        (models / name).write_bytes(b"MODEL (")
    (models / ".#totals.sql").symlink_to("user@host.1:2")  # as Emacs makes it
    (models / "folder.sql").mkdir()
    assert shop.go_on((3, "eve", 5)).exit_code == ExitCode.OK
    assert shop.published("totals")[-1] == ("eve", 5)


@pytest.mark.parametrize("path", SHARED)
def test_what_many_models_are_made_of_stops_the_transformation(shop: Shop, path: str) -> None:
    shop.write(path, SHARED[path])
    record = shop.go_on((3, "eve", 5))
    assert (record.exit_code, record.partial) == (ExitCode.TRANSFORM, False)
    (failure,) = record.failures
    assert str(shop.folder / path) in failure.message
    assert failure.hint
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


@pytest.mark.parametrize(
    "text", ["- name: [\n", "- hello\n", "hello: 1\n", "- {columns: {a: INT}}\n"]
)
def test_file_of_external_models_that_is_none_is_told_before_anything_is_planned(
    shop: Shop, text: str
) -> None:
    shop.write(TABLES, text)
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert failure.exit_code == ExitCode.CONFIG
    assert str(shop.folder / TABLES) in failure.message
    assert [f.message for f in shop.go_on(dry_run=True).failures] == [failure.message]
    with pytest.raises(ConfigError, match=re.escape(failure.message)):
        show_plan(shop.settings, "prod", 0)


@pytest.mark.parametrize("path", ["external_models.yaml", "external_models/a.yaml"])
def test_raw_table_that_two_files_declare_is_told_with_both(shop: Shop, path: str) -> None:
    """As `etl generate` does of a table that `sqlmesh create_external_models` has declared."""
    shop.write(f"sqlmesh/{path}", "- {name: shop_raw.orders, columns: {id: BIGINT}}\n")
    files = ", ".join(
        str(f) for f in sorted([shop.folder / "sqlmesh" / path, shop.folder / TABLES])
    )
    for _ in range(2):  # then both are parsed already
        (failure,) = shop.go_on((3, "eve", 5)).failures
        assert failure.exit_code == ExitCode.TRANSFORM
        assert failure.message == f"shop_raw.orders is declared in two files: {files}"
        assert failure.hint.startswith("take it out of one of them")
    with pytest.raises(TransformError, match=re.escape(files)):
        show_plan(shop.settings, "prod", 0)


def test_files_beside_external_models_are_none(shop: Shop) -> None:
    folder = shop.folder / "sqlmesh/external_models"
    (folder / "README.md").write_text("a: [", encoding="utf-8")
    (folder / ".shop.yaml.swp").write_bytes(b"b0VIM\0\xff")
    (folder / ".#shop.yaml").symlink_to("user@host.1:2")
    for _ in range(2):  # also when nothing has changed
        assert shop.go_on().exit_code == ExitCode.OK
        assert show_plan(shop.settings, "prod", 0)


def test_model_whose_file_was_emptied_is_not_taken_for_removed(shop: Shop) -> None:
    shop.write("sqlmesh/models/items.sql", "")
    record = shop.go_on((3, "eve", 5))
    assert [f.subject for f in record.failures] == ["models/items.sql"]
    assert shop.query("SELECT n FROM marts.items ORDER BY ALL") == [(2,), (2,)]
    assert shop.published("totals")[-1] == ("eve", 5)


# What else has marts.totals, or two that have marts.new or read each other, by file.
TWICE = {
    "SQL": {"sqlmesh/models/copy.sql": "MODEL (name marts.totals, kind FULL); SELECT 1 AS n"},
    "in a circle": {
        "sqlmesh/models/new.sql": NAMED.format(name="new", more="", query="n FROM marts.newer"),
        "sqlmesh/models/newer.sql": NAMED.format(name="newer", more="", query="n FROM marts.new"),
    },
    "Python and SQL": {"sqlmesh/models/copy.py": PYTHON.format(name="totals", value=1)},
    "Python": {
        "sqlmesh/models/new.py": PYTHON.format(name="new", value=1),
        "sqlmesh/models/newer.py": PYTHON.format(name="new", value=2),
    },
}


@pytest.mark.parametrize("case", TWICE)
def test_of_two_files_that_do_not_go_together_neither_is_taken(shop: Shop, case: str) -> None:
    for path, text in TWICE[case].items():
        shop.write(path, text)
    record = shop.go_on((3, "eve", 5))
    if "SQL" in case:
        totals_are_held_back(shop, record)
    (failure,) = record.failures
    assert all(str(shop.folder / path) in failure.message for path in TWICE[case])
    again = shop.go_on((4, "eve", 5))  # what was parsed is now in the cache
    assert {f.exit_code for f in again.failures} == {ExitCode.TRANSFORM}
    assert "marts.new" not in {m.name for m in again.models}
    if case == "in a circle":
        shop.write("sqlmesh/models/newer.sql", NAMED.format(name="newer", more="", query="1 AS n"))
    else:
        (shop.folder / next(iter(TWICE[case]))).unlink()
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.published("totals")[-1] == ("eve", 10)
    if case == "Python":
        assert shop.query("SELECT id FROM marts.new") == [(2,)]


def test_seed_that_has_the_name_of_another_model_stops_the_transformation(shop: Shop) -> None:
    """Which of the two SQLMesh reads first nobody knows, and it does not say the other."""
    shop.write("sqlmesh/models/totals.csv", "a\n1\n")
    shop.write("sqlmesh/models/copy.sql", SEED.format(name="totals"))
    record = shop.go_on((3, "eve", 5))
    assert record.exit_code == ExitCode.TRANSFORM
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]


def test_seed_whose_csv_cannot_be_read_stays_as_it_was(shop: Shop) -> None:
    texts = {"gone": None, "empty": "", "ragged": "a\n1,2\n1,2,3,4\n", "latin": "a\n\xfc\n"}
    models = shop.folder / "sqlmesh/models"
    for name in texts:
        shop.write(f"sqlmesh/models/{name}.csv", "a\n1\n")
        shop.write(f"sqlmesh/models/{name}.sql", SEED.format(name=name))
        reads = f"MODEL (name marts.of_{name}, kind FULL); SELECT a FROM marts.{name}"
        shop.write(f"sqlmesh/models/of_{name}.sql", reads)
    assert shop.go_on().exit_code == ExitCode.OK
    for name, text in texts.items():
        csv = models / f"{name}.csv"
        csv.unlink() if text is None else csv.write_text(text, encoding="latin-1")
    record = shop.go_on((3, "eve", 5))
    told = {f.subject: f.message for f in record.failures}
    assert told.keys() == {f"models/{name}.sql" for name in texts}
    assert "the CSV of its seed: 'utf-8' codec can't decode" in told.pop("models/latin.sql")
    assert all(str(models / f"{Path(f).stem}.csv") in told[f] for f in told)
    held = {m.name for m in record.models if m.status == "held_back"}
    assert held == {f"marts.{of}{name}" for name in texts for of in ("", "of_")}
    assert [shop.query(f"SELECT a FROM marts.{name}") for name in texts] == [[(1,)]] * 4
    assert shop.published("totals")[-1] == ("eve", 5)
    for name in texts:
        shop.write(f"sqlmesh/models/{name}.csv", "a\n2\n")
    assert shop.go_on().exit_code == ExitCode.OK
    assert [shop.query(f"SELECT a FROM marts.of_{name}") for name in texts] == [[(2,)]] * 4


def test_seed_is_read_by_the_types_that_it_declares(shop: Shop) -> None:
    """pandas alone would make 1234 of 01234, and of the long number another beside an empty one."""
    shop.write(
        "sqlmesh/models/x.sql",
        "MODEL (name marts.x, kind SEED (path 'x.csv'), columns (zip TEXT, id BIGINT, n INT));",
    )
    shop.write("sqlmesh/models/x.csv", "Zip,id,n\n01234,9007199254740993,1\n,,\n")
    assert shop.go_on().exit_code == ExitCode.OK
    rows = [("01234", 9007199254740993, 1), (None, None, None)]
    assert shop.query("FROM marts.x ORDER BY n") == rows
    shop.write("sqlmesh/models/x.csv", "Zip,id,n\n01234,9007199254740993,1.5\n")
    (failure,) = shop.go_on((3, "eve", 5)).failures
    assert (failure.exit_code, failure.subject) == (ExitCode.TRANSFORM, "models/x.sql"), "not 2"
    assert shop.query("FROM marts.x ORDER BY n") == rows


def test_words_of_a_seed_that_are_read_as_null_are_told_once(shop: Shop) -> None:
    texts = "kind SEED (path 'x.csv'), columns (code TEXT, name TEXT, n INT)"
    shop.write("sqlmesh/models/x.sql", f"MODEL (name marts.x, {texts});")
    shop.write("sqlmesh/models/y.sql", "MODEL (name marts.y, kind SEED (path 'y.csv'));")
    shop.write("sqlmesh/models/x.csv", "Code,name,n\nNA,Namibia,\nNA,null,NA\n,NaNa,2\n")
    shop.write("sqlmesh/models/y.csv", "code,n\nNA,NA\nDE,2\n")
    record = shop.go_on()
    assert record.exit_code == ExitCode.OK
    told = "words in its CSV were read as NULL: code NA ({}){}; `csv_settings (keep_default_na"
    warnings = sorted(record.warnings)
    assert told.format(2, ", name null (1)") in warnings[0]
    assert told.format(1, "") in warnings[1]
    assert [w.partition(":")[0] for w in warnings] == ["marts.x", "marts.y"]
    assert shop.go_on((3, "eve", 5)).warnings == ()
    shop.edit("sqlmesh/models/x.sql", "'x.csv'", "'x.csv', csv_settings (keep_default_na = TRUE)")
    keep = "csv_settings (keep_default_na = FALSE, na_values = (''))"
    assert keep in warnings[1]
    shop.write("sqlmesh/models/y.csv", "code,n\nNA,\nDE,2\n,3\n")
    shop.edit("sqlmesh/models/y.sql", "'y.csv'", f"'y.csv', {keep}")
    record = shop.go_on((4, "eve", 5))
    assert (record.exit_code, record.warnings) == (ExitCode.OK, ())
    assert shop.query("SELECT code FROM marts.x") == [(None,)] * 3
    assert shop.query("FROM marts.y ORDER BY n") == [("DE", 2), (None, 3), ("NA", None)]


def test_rows_that_came_meanwhile_are_brought_when_staging_is_mended(shop: Shop) -> None:
    staging = "sqlmesh/models/orders.sql"
    text = shop.text(staging)
    shop.write(staging, text.replace("SELECT", "SELEC"))
    record = shop.go_on((3, "eve", 5))
    held = {m.name for m in record.models if m.status == "held_back"}
    assert held == {"staging.stg_shop__orders", "marts.totals", "marts.customers"}
    assert shop.published("items")[-1] == ("tea", 3)
    assert shop.go_on((4, "eve", 5)).exit_code == ExitCode.TRANSFORM
    shop.write(staging, text)
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.published("totals")[-1] == ("eve", 10)


def test_what_would_build_a_broken_model_anew_waits_for_it(shop: Shop) -> None:
    shop.edit("sqlmesh/models/orders.sql", "raw.amount::BIGINT", "(raw.amount + 1)::BIGINT")
    shop.edit(TOTALS, "SELECT", "SELEC")
    record = shop.go_on((3, "eve", 5))
    assert "its change builds marts.customers, marts.totals anew" in " ".join(record.warnings)
    assert shop.published("totals") == [("ann", 50), ("bob", 200)]
    shop.edit(TOTALS, "SELEC ", "SELECT ")
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.published("totals") == [("ann", 51), ("bob", 201), ("eve", 6)]


@pytest.mark.parametrize("way", ["run", "apply", "manual"])
def test_removal_waits_until_every_file_loads(shop: Shop, way: str) -> None:
    """The model may be one of the broken file's."""
    (shop.folder / "sqlmesh/models/items.sql").unlink()
    shop.edit("config/etl.yaml", "  - {model: marts.items, target: marts}\n", "")
    shop.edit(TOTALS, "SELECT", "SELEC")
    if way == "manual":
        shop.edit("config/etl.yaml", "transform:\n", "transform:\n  approve: manual\n")
    shop.bring((3, "eve", 5))
    if way == "apply":
        told = refuse(lambda: apply_plan(shop.settings, "prod", 0))
        assert len(told) == 1
    else:
        (failure,) = shop.go_on().failures
        assert failure.subject == "models/totals.sql"
    assert shop.query("SELECT n FROM marts.items ORDER BY ALL") == [(2,), (2,)]
    assert shop.query("SELECT count(*) FROM marts.totals") == [(2,)]
    shop.edit(TOTALS, "SELEC ", "SELECT ")
    if way == "manual":
        apply_plan(shop.settings, "prod", 0)
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.published("totals")[-1] == ("eve", 5)
    assert "marts.items" not in shop.verdicts()


def test_model_that_is_removed_and_still_read_is_told_of_its_reader(shop: Shop) -> None:
    text = shop.text(TOTALS)
    (shop.folder / TOTALS).unlink()
    shop.edit("config/etl.yaml", "  - {model: marts.totals, target: marts}\n", "")
    record = shop.go_on((3, "eve", 5))
    (failure,) = record.failures
    assert failure.message == (
        "marts.customers: it reads marts.totals, which is in no file any more"
    )
    assert shop.query("SELECT count(*) FROM marts.customers") == [(2,)]
    assert shop.published("items")[-1] == ("tea", 3)
    shop.write(TOTALS, text)
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.published("customers")[-1] == ("eve", False)


def test_first_run_builds_what_loads(extracted: Shop) -> None:
    text = extracted.text(TOTALS)
    extracted.write(TOTALS, text.replace("SELECT", "SELEC"))
    below = NAMED.format(name="below", more="", query="* FROM marts.customers")
    extracted.write("sqlmesh/models/below.sql", below)
    record = extracted.go_on()
    assert record.exit_code == ExitCode.TRANSFORM
    # What reads a model that no file has is no failure of its own: the broken one may have it.
    assert [f.subject for f in record.failures] == ["models/totals.sql"]
    held = {m.name for m in record.models if m.status == "held_back"}
    assert held == {"marts.customers", "marts.below"}
    told = "marts.customers is held back: it reads marts.totals, which is in no file that loads"
    assert told in record.warnings
    assert extracted.published("items") == [("cup", 2), ("tea", 2)]
    extracted.write(TOTALS, text)
    assert extracted.go_on().exit_code == ExitCode.OK
    assert extracted.published("customers") == [("ann", False), ("bob", True)]


def test_what_no_file_of_models_makes_holds_back_nothing_beside_a_broken_one(shop: Shop) -> None:
    """A table that somebody made, and one of a database beside the warehouse."""
    other = shop.folder / "other.duckdb"
    shop.query("CREATE SCHEMA hand; CREATE TABLE hand.made AS SELECT 1 AS n")
    with opened(other) as connection:
        connection.execute("CREATE TABLE t AS SELECT 2 AS n")
    shop.write(
        "sqlmesh/models/foreign.sql",
        f"MODEL (name marts.foreign, kind FULL); ATTACH IF NOT EXISTS '{other}'; "
        "SELECT n FROM hand.made UNION ALL SELECT n FROM other.main.t",
    )
    shop.write(NEW, "")
    assert [f.subject for f in shop.go_on().failures] == ["models/new.sql"]
    assert shop.query("SELECT n FROM marts.foreign ORDER BY n") == [(1,), (2,)]


def test_another_environment_does_not_read_what_prod_has_of_a_broken_file(shop: Shop) -> None:
    text = shop.text(TOTALS)
    shop.write(TOTALS, text.replace("SELECT", "SELEC"))
    shop.edit("sqlmesh/models/customers.sql", "amount > 100", "amount > 10")
    record = shop.run("transform", environment="dev")
    assert [f.subject for f in record.failures] == ["models/totals.sql"]
    built = {m.name for m in record.models if m.status == "ok"}
    assert built == {"staging.stg_shop__orders", "staging.stg_shop__orders__items", "marts.items"}
    shop.write(TOTALS, text)
    assert shop.run("transform", environment="dev").exit_code == ExitCode.OK
    assert shop.query("SELECT is_large FROM marts__dev.customers") == [(True,), (True,)]


def test_models_of_files_that_do_not_load_are_as_they_were(shop: Shop) -> None:
    """To SQLMesh, too: no plan has a reason to change them."""
    shop.write(NEW, "MODEL (name marts.new, kind FULL); SELECT * FROM marts.customers")
    assert shop.go_on().exit_code == ExitCode.OK
    for path in (NEW, "sqlmesh/models/items.sql", "sqlmesh/models/customers.sql"):
        shop.write(path, "")
    project = Project(shop.settings)
    try:
        assert project.kept == {"marts.new", "marts.items", "marts.customers"}
        assert not project.differs()
    finally:
        project.close()


def test_audits_alone_tell_of_a_file_that_does_not_load(shop: Shop) -> None:
    """Whether its models' audits would pass, nobody has asked."""
    shop.edit(TOTALS, "SELECT", "SELEC")
    record = shop.run("audit", "load")
    assert [f.subject for f in record.failures] == ["models/totals.sql"]


def test_with_many_files_that_do_not_load_nothing_is_transformed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.project.files.MOST_LEFT_OUT", 1)
    shop.edit(TOTALS, "SELECT", "SELEC")
    shop.write(NEW, "")
    record = shop.go_on((3, "eve", 5))
    assert (record.exit_code, record.partial) == (ExitCode.TRANSFORM, False)
    assert shop.published("items")[-1] == ("tea", 2)


def test_history_whose_file_does_not_load_keeps_its_rows(shop: Shop) -> None:
    history = (
        "MODEL (name marts.history, kind SCD_TYPE_2_BY_COLUMN (unique_key id, columns [amount])); "
        "SELECT id, amount FROM staging.stg_shop__orders"
    )
    shop.write(NEW, history)
    assert shop.go_on().exit_code == ExitCode.OK
    rows, table = shop.query("FROM marts.history"), shop.physical("marts.history")
    shop.write(NEW, history.replace("SELECT", "SELEC"))
    assert shop.go_on((3, "eve", 5)).exit_code == ExitCode.TRANSFORM
    shop.write(NEW, history)
    assert shop.go_on().exit_code == ExitCode.OK
    assert shop.physical("marts.history") == table
    assert set(shop.query("FROM marts.history")) > set(rows)


def test_selected_models_go_on_beside_a_broken_file(shop: Shop) -> None:
    shop.edit(TOTALS, "SELECT", "SELEC")
    shop.write(NEW, "MODEL (name marts.new, kind FULL); SELEC 1")
    shop.publish("marts.new")
    record = shop.go_on((3, "eve", 5), select=("marts.items",))
    assert {f.subject for f in record.failures} == {"models/totals.sql", "models/new.sql"}
    assert shop.published("items")[-1] == ("tea", 3)
    whole = shop.go_on()
    assert whole.exit_code == ExitCode.TRANSFORM
    assert {f.exit_code for f in whole.failures} == {ExitCode.TRANSFORM}
    # It may be in one of them.
    assert shop.go_on(select=("marts.new",)).exit_code == ExitCode.TRANSFORM
