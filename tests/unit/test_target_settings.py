"""What belongs to a file and what to a server: said before the run, with the key that is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from etl.configuration import load_settings
from etl.errors import ConfigError
from etl.secrets import redactor
from etl.settings import TARGET_KINDS, Settings, Target
from etl.targets import FILE_TARGETS, SERVER_TARGETS
from etl.targets.mssql.address import read_address
from etl.targets.postgres.server import connected


def problems(folder: Path, target: str, more: str = "") -> list[str]:
    """What is wrong with a target `t`, and a load that goes there; `more` are settings of its."""
    (folder / "config").mkdir(exist_ok=True)
    text = f"targets:\n  t: {target}\nloads:\n  - {{model: marts.a, target: t{more}}}\n"
    (folder / "config/etl.yaml").write_text(text, encoding="utf-8")
    try:
        load_settings(folder, environ={})
    except ConfigError as error:
        return [str(p) for p in error.problems]
    return []


def test_each_kind_of_target_is_described_and_can_be_published_to() -> None:
    assert set(get_args(Target.model_fields["kind"].annotation)) == TARGET_KINDS.keys()
    files = {name for name, kind in TARGET_KINDS.items() if kind.needs == "path"}
    assert files == FILE_TARGETS.keys()
    assert SERVER_TARGETS.keys() == TARGET_KINDS.keys() - files


def test_targets_are_there_without_dlt_and_what_the_extras_bring() -> None:
    missing = "import sys; sys.modules.update(dict.fromkeys(('dlt', 'numpy', 'psycopg', 'pyodbc')))"
    subprocess.run([sys.executable, "-c", f"{missing}; import etl.stages.load"], check=True)


@pytest.mark.parametrize(
    ("target", "more", "said"),
    [
        ("{kind: postgres}", "", "targets.t.dsn: is missing"),
        ("{kind: duckdb}", "", "targets.t.path: is missing"),
        ("{kind: dlt}", "", "targets.t.destination: is missing"),
        ("{kind: dlt, destination: x, path: y}", "", "targets.t.path: has no effect"),
        ("{kind: duckdb, path: y, options: {a: 1}}", "", "targets.t.options: has no effect"),
        ("{kind: postgres, dsn: 'x=1', path: y}", "", "targets.t.path: has no effect"),
        ("{kind: parquet, path: y, dsn: 'x=1'}", "", "targets.t.dsn: has no effect"),
        ("{kind: duckdb, path: y}", ", primary_key: false", "loads.0.primary_key: has no effect"),
        ("{kind: parquet, path: y}", ", indexes: [[a]]", "loads.0.indexes: has no effect"),
        (
            "{kind: parquet, path: y, default_schema: a}",
            "",
            "targets.t.default_schema: has no effect",
        ),
        ("{kind: postgres, dsn: 'x=1'}", ", strategy: upsert", "loads.0.strategy"),
    ],
)
def test_what_does_not_fit_the_kind_is_told(
    tmp_path: Path, target: str, more: str, said: str
) -> None:
    found = problems(tmp_path, target, more)
    assert any(said in p for p in found), found


@pytest.mark.parametrize(
    "connect",
    [lambda: read_address("rubbish", "t"), lambda: connected("rubbish", "t").__enter__()],
    ids=["mssql", "postgres"],
)
def test_how_an_address_is_written_is_not_masked(connect: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        connect()
    assert "user:password@host:" in redactor()(caught.value.hint)


def test_what_fits_is_taken(tmp_path: Path) -> None:
    more = ", strategy: merge, key: [a], columns: [a, b], indexes: [[b]]"
    for kind in ("postgres", "mssql"):
        assert problems(tmp_path, f"{{kind: {kind}, dsn: 'host=x', default_schema: a}}", more) == []
    assert problems(tmp_path, "{kind: dlt, destination: x, default_schema: a}") == []


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_strategies_and_columns_are_for_files_too(tmp_path: Path, kind: str) -> None:
    more = ", strategy: append_once, key: [a], columns: [a, b]"
    assert problems(tmp_path, f"{{kind: {kind}, path: y}}", more) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{data}/warehouse.duckdb", "`warehouse.duckdb` in data_dir is the job's own"),
        ("own.duckdb", "`warehouse.duckdb` in data_dir is the job's own"),
        ("../DATA/dlt/x", "`dlt` in data_dir is the job's own"),
        ("{data}/marts.duckdb", "is the path of target t too"),
        ("./Marts.duckdb", "is the path of target t too"),
        ("link.duckdb", "is the path of target t too"),
        ("here/marts.duckdb", "is the path of target t too"),
        ("elsewhere/marts.duckdb", ""),
    ],
)
def test_a_target_has_a_file_of_its_own(tmp_path: Path, path: str, said: str) -> None:
    """By what the path leads to: it would replace the other's, and all that was ever extracted."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "own.duckdb").symlink_to("warehouse.duckdb")
    (data / "link.duckdb").symlink_to("marts.duckdb")
    (data / "here").symlink_to(".")
    target = "{kind: duckdb, path: marts.duckdb}\n  u: {kind: parquet, path: %s}"
    found = problems(tmp_path, target % path.format(data=data))
    assert found == ([f"config/etl.yaml: targets.u.path: {said}"] if said else [])


@pytest.mark.parametrize(
    ("second", "load", "said"),
    [
        ("{kind: postgres, dsn: 'host=x'}", "target: u", "marts.a goes to table a of target t"),
        ("{kind: postgres, dsn: 'host=x'}", "target: t, table: public.a", "of target t already"),
        (
            "{kind: duckdb, path: u}",
            "target: u, table: main.a}\n  - {model: third.a, target: u",
            "of target u already",
        ),
        ("{kind: postgres, dsn: 'host=x', default_schema: b}", "target: u", ""),
        ("{kind: postgres, dsn: 'host=y'}", "target: u", ""),
        ("{kind: dlt, destination: x, options: {a: 1}}", "target: u", ""),
    ],
)
def test_a_table_of_a_server_has_one_load(
    tmp_path: Path, second: str, load: str, said: str
) -> None:
    """The last one would take the other's place, each time; also through another target."""
    targets = "{kind: postgres, dsn: 'host=x'}\n  u: " + second
    found = problems(tmp_path, targets, "}\n  - {model: other.a, " + load)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_options_of_a_destination_hide_their_secrets(tmp_path: Path) -> None:
    target = "{kind: dlt, destination: postgres, options: {credentials: 'postgresql://a:b@c/d'}}"
    more = ", strategy: merge, key: [a], columns: [a, b]"
    assert problems(tmp_path, target, more) == []
    settings = load_settings(tmp_path, environ={})
    assert "postgresql://a:b@c/d" not in repr(settings)
    assert "a:b" not in redactor(settings)("at postgresql://a:b@c/d")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://etl:p%40ss-word@db/x",
        "host=db user=etl password=p@ss-word",
        "host=db password='p@ss-word' user=etl",
        "postgresql://db/x?user=etl&password=p%40ss-word",
    ],
)
def test_password_of_an_address_is_masked_when_it_stands_alone(tmp_path: Path, dsn: str) -> None:
    assert problems(tmp_path, f'{{kind: postgres, dsn: "{dsn}"}}') == []
    settings = load_settings(tmp_path, environ={})
    assert "p@ss-word" not in redactor(settings)(f"cannot log in with p@ss-word at {dsn}")


def test_a_load_goes_to_the_models_bare_name_or_the_table_given() -> None:
    loads = Settings.model_validate(
        {"loads": [{"model": "marts.a", "target": "x"},
                   {"model": "marts.a", "target": "x", "table": "s.b"}]}
    ).loads  # fmt: skip
    assert [x.target_table for x in loads] == ["a", "s.b"]
