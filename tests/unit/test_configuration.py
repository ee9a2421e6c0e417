"""Every problem of the configuration is told at once, with its place and the nearest valid name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.cli import main
from etl.configuration import load_settings
from etl.errors import ConfigError
from etl.names import nearest
from etl.secrets import reveal
from etl.settings import Settings
from etl.variables import variable_name

ROOT = Path(__file__).parents[2]
SMALL = """
job: small
sources:
  api:
    client: {base_url: "https://api.example/"}
    resources: [orders]
targets:
  out: {kind: duckdb, path: out.duckdb}
loads:
  - {model: marts.orders, target: out}
"""
WIDE = """
job: wide
timeout: 60
log: {level: INFO, retention: 5}
sources:
  api:
    client:
      base_url: https://api.example/
      headers: {X-Api-Key: k1, Accept-Language: en, x_trace.id: t}
      auth: {type: bearer, token: t0ken}
      paginator: {type: offset, limit: 100, stop_after_empty_page: true, factor: 1.5}
    resource_defaults: {endpoint: {params: {"filter[name]": a, created__gte: "2026"}}}
    resources:
      - orders
      - {name: lines, endpoint: {path: "lines/{shop}", params: {tags: [a, b]}}}
    for_each: {shop: [north, south]}
    stamp: {day: snapshot_date}
    rate_limit: {requests: 5, seconds: 1}
    schema_contract: {tables: evolve, data_type: freeze}
    guards: {max_pages: 7}
  made:
    factory: package.module:function
    arguments: {Region: eu, flags: {deep: true}, ids: [1, 2]}
    volume: {min_rows: 1, max_drop: 0.5}
targets:
  out: {kind: duckdb, path: out.duckdb}
  files: {kind: parquet, path: files}
loads:
  - {model: marts.orders, target: out, table: sales.orders, key: [id]}
  - {model: marts.orders, target: files}
"""

Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    def make(text: str = SMALL, **profiles: str) -> Path:
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "etl.yaml").write_text(text, encoding="utf-8")
        for name, overlay in profiles.items():
            (tmp_path / "config" / f"{name}.yaml").write_text(overlay, encoding="utf-8")
        return tmp_path

    return make


def problems(folder: Path, profile: str = "default", **environ: str) -> list[str]:
    """The lines that the user sees."""
    with pytest.raises(ConfigError) as caught:
        load_settings(folder, profile, environ)
    return [str(p) for p in caught.value.problems]


def load(folder: Path, profile: str = "default", **environ: str) -> Settings:
    return load_settings(folder, profile, environ)


def test_what_a_file_lacks_is_not_told_of_a_variable_beside_it(project: Project) -> None:
    folder = project("sources: {api: {client: {baseurl: 'http://a.test/'}, resources: [a]}}")
    assert problems(folder, ETL_SOURCES__API__CLIENT__AUTH__TOKEN="x") == [
        "config/etl.yaml: sources.api.client.base_url: is missing (is baseurl meant to be it?)"
    ]
    (told,) = problems(folder, ETL_SOURCES__API__CLIENT="{baseurl: 'http://b.test/'}")
    assert told.startswith("ETL_SOURCES__API__CLIENT: sources.api.client.base_url: is missing (")


def test_the_variable_of_an_option_that_is_misspelt_is_told(project: Project) -> None:
    folder = project("{}")
    assert problems(folder, ETL_PROFIL="prod", ETL_WAIT_LOC="9") == [
        "ETL_PROFIL: no option has this variable (did you mean ETL_PROFILE?)",
        "ETL_WAIT_LOC: no option has this variable (did you mean ETL_WAIT_LOCK?)",
    ]
    assert load(folder, ETL_HOME="/srv/etl", ETL_PORT="1", ETL_PROFILE="default").job == "etl"


# -- every problem at once -------------------------------------------------------------------------


def test_every_problem_is_told_at_once_with_file_key_and_nearest_name(project: Project) -> None:
    folder = project(
        """
        jobb: x
        _env_file: .env
        timeout: soon
        log: {lvel: INFO, format: jason, rotation: banana}
        sources:
          Api-1: {client: {base_ur: "https://a/"}, resources: [a, a]}
          empty: {}
          both: {client: {base_url: "https://a/"}, resources: [a], factory: "m:f"}
          made: {factory: "m:f", for_each: {x: [a]}, guards: {max_pages: 7}}
          rest: {client: {base_url: "https://a/"}, arguments: {a: 1}}
          each:
            client: {base_url: "https://a/"}
            resources: [{name: a, endpoint: "a/{actor}"}]
            for_each: {acter: [x], none: []}
        transform: {dialect: duckbd}
        targets:
          out: {kind: duckdb, path: out.duckdb}
          again: {kind: parquet, path: ./x/../OUT.duckdb}
          own: {kind: duckdb, path: warehouse.duckdb}
        loads:
          - {model: marts.a, target: outt}
          - {model: marts.b, target: out}
          - {model: marts.b, target: out}
          - {model: other.B, target: out}
          - {model: nodot, target: out}
        """
    )
    text = "\n".join(problems(folder, ETL_LOG__RETENTON="5"))
    for line in (
        "config/etl.yaml: jobb: no such setting (did you mean job?)",
        "config/etl.yaml: _env_file: is no setting",
        "config/etl.yaml: timeout: input should be a valid number",
        "config/etl.yaml: log.lvel: no such setting (did you mean level?)",
        "log.format: input should be 'auto', 'json' or 'text' (did you mean json?)",
        "config/etl.yaml: log.rotation: is no size: write 500 KB, 100 MB or 1 GB",
        "ETL_LOG__RETENTON: log.retenton: no such setting (did you mean retention?)",
        "sources.Api-1: a name has lower-case letters, digits and _ only (as in api_1)",
        "sources.Api-1.client.base_url: is missing (is base_ur meant to be it?)",
        "sources.Api-1.resources.1: `a` stands here twice",
        "sources.empty: needs `client` and `resources` (a REST API), or `factory` (Python)",
        "sources.both: has both `client` and `factory`",
        "sources.made.for_each: has no effect on a source that `factory` makes",
        "sources.made.guards: has no effect on a source that `factory` makes",
        "sources.rest.resources: is empty: name at least one",
        "sources.rest.arguments: has an effect only with `factory`",
        "sources.each.for_each.acter: no resource uses {acter} (did you mean actor?)",
        "sources.each.for_each.none: is empty: no resource would run",
        "transform.dialect: no dialect is called `duckbd` (did you mean duckdb?)",
        "targets.again.path: is the path of target out too",
        "targets.own.path: `warehouse.duckdb` in data_dir is the job's own",
        "loads.0.target: no target is called `outt` (did you mean out?)",
        "loads.2: marts.b goes to target out twice",
        "loads.3: marts.b goes to table B of target out already",
        "loads.4.model: write schema.model, such as marts.orders",
    ):
        assert line in text
    assert len(text.splitlines()) == 25


@pytest.mark.parametrize(
    ("folder", "sign"), [("ann's", "'"), ("50%", "%"), ("country=us", "="), ("what?", "?")]
)
def test_data_lies_where_dlt_and_duckdb_find_its_files(
    project: Project, folder: str, sign: str
) -> None:
    """Below country=us DuckDB reads `us` for each country, with no word."""
    [told] = problems(project(), ETL_DATA_DIR=f"/srv/{folder}/data")
    assert told.startswith(f"ETL_DATA_DIR: data_dir: /srv/{folder}/data has {sign} in it")


def test_a_problem_names_the_layer_that_set_the_value(project: Project, tmp_path: Path) -> None:
    folder = project(SMALL, nightly="log: {level: LOUD}\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "ETL_LOG__FORMAT").write_text("xml\n")
    (secrets / "zzzz").write_text("x")
    lines = problems(folder, "nightly", ETL_SECRETS_DIR=str(secrets), ETL_RETRY__ATTEMPTS="-1")
    assert lines == [
        f"{secrets}/zzzz: no setting is called `zzzz`",
        "config/nightly.yaml: log.level: input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        f"{secrets}/ETL_LOG__FORMAT: log.format: input should be 'auto', 'json' or 'text'",
        "ETL_RETRY__ATTEMPTS: retry.attempts: input should be greater than 0",
    ]


@pytest.mark.parametrize(("name", "better"), [("a__b", "a_b"), ("a_", "a"), ("a__b__", "a_b")])
def test_a_source_is_named_as_its_raw_schema_will_be(
    project: Project, name: str, better: str
) -> None:
    folder = project(f"sources: {{{name}: {{factory: 'm:f'}}}}\n")
    [line] = problems(folder)
    assert line == (
        f"config/etl.yaml: sources.{name}: dlt writes several _ of a name as one, and none at its "
        f"end (as in {better})"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("job: a\njob: b\n", "config/etl.yaml:2: a key stands here twice"),
        ("job: [a\n", "config/etl.yaml:2: expected ',' or ']', but got '<stream end>'"),
        ("\tjob: a\n", "config/etl.yaml:1: a tab: YAML indents with spaces"),
        ("- a\n", "config/etl.yaml: is not a mapping of settings"),
        ("just text", "config/etl.yaml: is not a mapping of settings"),
        ("job: a\ndemo_date: 2026-99-99\n", "config/etl.yaml:2: a date or time that does not"),
        ("job: &a [*a]\n", "config/etl.yaml: is nested more than 40 levels deep"),
        ("1: x\n", "config/etl.yaml: 1: a key must be text (write it in quotes)"),
        ('job: "a\\0b"\n', "config/etl.yaml: job: holds a character that no text may hold"),
        ("job: yes\n", "config/etl.yaml: job: must be text (write it in quotes)"),
        ("timeout: .inf\n", "config/etl.yaml: timeout: input should be a finite number"),
        ("data_dir: ''\n", "config/etl.yaml: data_dir: is no path of a file or folder"),
        ("log: 5\n", "config/etl.yaml: log: must be a group of settings (its keys: format, level"),
        ("loads: {a: 1}\n", "config/etl.yaml: loads: must be a list (as in [a, b])"),
        ("project: x\n", "config/etl.yaml: project: is no setting"),
    ],
)  # fmt: skip
def test_what_no_setting_can_be_is_one_line(project: Project, text: str, line: str) -> None:
    assert line in "\n".join(problems(project(text)))


def test_a_file_that_grows_out_of_its_aliases_is_refused(project: Project) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert problems(project(bomb)) == [
        "config/etl.yaml: has more than 100,000 values (aliases counted)"
    ]


def test_anchors_and_merge_keys_work(project: Project) -> None:
    text = SMALL + "log: &log {level: DEBUG}\nretry: {attempts: 7}\n"
    text = text.replace(
        "resources: [orders]", "resources: [{<<: &r {name: orders}, table_name: o}]"
    )
    settings = load(project(text))
    assert settings.log.level == "DEBUG"
    assert settings.sources["api"].resources == ({"name": "orders", "table_name": "o"},)


def test_bytes_that_are_no_text_are_one_line(project: Project) -> None:
    folder = project()
    (folder / "config" / "etl.yaml").write_bytes("job: caf\u00e9\n".encode("latin-1"))
    assert problems(folder) == ["config/etl.yaml: is not UTF-8 text (byte 8)"]
    (folder / "config" / "etl.yaml").write_bytes(b"job: a\0b\n")
    assert "forbids" in problems(folder)[0] or "special" in problems(folder)[0]


def test_a_byte_order_mark_is_no_problem(project: Project) -> None:
    folder = project()
    (folder / "config" / "etl.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load(folder).job == "small"


def test_a_name_that_was_begun_is_nearer_than_one_of_the_same_length() -> None:
    names = ["marts.calendar", "marts.dim_shop__orders"]
    assert nearest("marts.dim", names) == "did you mean marts.dim_shop__orders?"
    assert nearest("marts.calender", names) == "did you mean marts.calendar?"
    assert nearest("", names) == "known: marts.calendar, marts.dim_shop__orders"


def test_an_unknown_profile_names_the_nearest(project: Project) -> None:
    with pytest.raises(ConfigError, match="not found") as caught:
        load(project(SMALL, nightly=""), "nightyl")
    assert caught.value.hint == "did you mean nightly?"


def test_several_profiles_lie_on_top_of_each_other_in_their_order(project: Project) -> None:
    folder = project(SMALL, a="timeout: 1\ndata_dir: of_a\n", b="timeout: 2\n")
    assert (load(folder, "a,b").timeout, str(load(folder, "a,b").data_dir)) == (2, "of_a")
    assert (load(folder, "b,a").timeout, load(folder, "a,b").profile) == (1, "a,b")
    with pytest.raises(ConfigError, match="profile `c`"):
        load(folder, "a,c")
    for name in ("a,", ",a", "a,,b", "../a"):
        with pytest.raises(ConfigError, match="not the name"):
            load(folder, name)


# -- where a run is told --------------------------------------------------------------------------

GATEWAY = "pushgateway: 'http://host:9091'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics: {textfile: etl.txt}", "metrics.textfile: must end with .prom"),
        ("metrics: {textfile: runs/etl.prom}", "metrics.textfile: `runs` in data_dir is the job's"),
        ("metrics: {pushgateway: 'host:9091'}", "metrics.pushgateway: write http://host:port"),
        (
            "metrics: {pushgateway: 'http://etl:canary@host:9091'}",
            "metrics.pushgateway: write http://host:port",
        ),
        ("metrics: {username: etl, password: canary}", "has an effect only with `pushgateway`"),
        (f"metrics: {{{GATEWAY}, username: etl}}", "metrics.password: is missing"),
        (f"metrics: {{{GATEWAY}, password: canary}}", "metrics.username: is missing"),
        ("metrics: {timeout_seconds: 600}", "metrics.timeout_seconds"),
        ("traces: {endpoint: 'collector:4318'}", "traces.endpoint: write http://host:port"),
        ("traces: {headers: {api-key: canary}}", "traces.headers: has an effect only with"),
        ("notify: {webhook: canary.example/x}", "notify.webhook: is no address"),
        ("notify: {when: [success]}", "notify.when.0"),
    ],
)
def test_a_place_that_nobody_can_be_told_at_is_a_problem(
    project: Project, text: str, said: str
) -> None:
    found = problems(project(text))
    assert any(said in p for p in found), found
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "text",
    [
        "metrics: {textfile: /var/lib/node_exporter/etl.prom}",
        f"metrics: {{{GATEWAY}, username: etl, password: pw, timeout_seconds: 1}}",
        "metrics: {pushgateway: 'https://host/prefix/'}",
        "traces: {endpoint: 'https://host/v1/traces', headers: {api-key: secret}}",
        "notify: {webhook: 'https://hooks.example/services/T/B/x', when: [failure]}",
    ],
)
def test_a_place_that_can_be_told_at_is_taken(project: Project, text: str) -> None:
    load(project(text))


# -- secrets stay secret ---------------------------------------------------------------------------

CANARY = "hunter2canary"


@pytest.mark.parametrize(
    "value",
    [
        f"*{CANARY}", f"!{CANARY} x", f"&{CANARY}", f"%{CANARY}", f"@{CANARY}", f"[{CANARY}",
        f'"{CANARY}', f"'{CANARY}' {CANARY}", f"{{{CANARY}: }}: {CANARY}", f"{CANARY}: {CANARY}",
        f"!!{CANARY} x", f"!{CANARY}!x y", f'"\\{CANARY}"', f"[{CANARY}, {{a: {CANARY}}}]",
        f"|{CANARY}", f"? {CANARY}", f"!!binary {CANARY}\u00fc", f"!!set {{{CANARY}}}",
        f'"{CANARY}\\0"', f"!!int {CANARY}", f"!!timestamp {CANARY}", f"!!float {CANARY}",
    ],
)  # fmt: skip
def test_no_error_shows_a_secrets_value(
    project: Project, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace(
        '{base_url: "https://api.example/"}',
        f"\n      base_url: https://api.example/\n      auth:\n        token: {value}",
    )
    code = main(["config", "show", "--project", str(project(text))])
    out = capsys.readouterr()
    assert code in (0, 2)
    assert CANARY not in out.out + out.err
    assert "Traceback" not in out.err


def test_wrong_values_of_secrets_are_not_shown(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "ETL_TIMEOUT").write_text(CANARY)
    (secrets / "ETL_LOADS").write_text(f"[{CANARY}")
    monkeypatch.setenv("ETL_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("ETL_SOURCES", CANARY)
    monkeypatch.setenv("ETL_LOG__LEVEL", CANARY)
    monkeypatch.setenv("ETL_JOB", CANARY + " ")
    monkeypatch.setenv("ETL_TRANSFORM__START", CANARY)
    assert main(["config", "show", "--project", str(project())]) == 2
    out = capsys.readouterr()
    assert CANARY not in out.out + out.err
    assert len(out.err.splitlines()) == 7


# -- environment -----------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every path of the tree that holds no group; lists as wholes, too."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
        return
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    yield path, value


def other(path: tuple[Any, ...], value: Any) -> Any:  # noqa: C901  one line for each kind of value
    """Another valid value for the setting."""
    special = {
        "schema_contract": "freeze", "approve": "manual", "level": "ERROR", "format": "json",
        "dialect": "postgres", "kind": "parquet", "start": date(2021, 2, 3), "factory": "a.b:c",
        "rotation": "5 MB",
    }  # fmt: skip
    if path[-1] in special:
        return special[path[-1]]
    if path[-2:-1] == ("stamp",):
        return "snapshot_date"
    if path[0] == "loads" and path[-1] == "model":
        return f"other.model_{path[1]}"
    if path[0] == "loads" and path[-1] == "target":
        return value
    if path[0] == "loads" and len(path) <= 2:
        return value
    if path[-1] == "resources" or (path[-2:-1] == ("resources",) and isinstance(value, dict)):
        return value
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, list):
        return [*value, *(value[:1] or ["x"])] if path[-2:-1] != ("for_each",) else [*value, "more"]
    if isinstance(value, dict):
        return value
    if "{shop}" in str(value) or "{actor}" in str(value):
        return f"{value}/x"
    return f"{value}x"


def dig(settings: Settings, path: tuple[Any, ...]) -> Any:
    node: Any = reveal(settings.model_dump(mode="python"))
    for key in path:
        node = node[key]
    return [str(node)] if isinstance(node, Path) else node


@pytest.mark.parametrize("which", ["shipped", "wide", "defaults"])
def test_every_leaf_can_be_set_by_its_variable(project: Project, which: str) -> None:
    text = (ROOT / "config" / "etl.yaml").read_text() if which == "shipped" else WIDE
    folder = project(text)
    if which == "defaults":
        full = load(folder).model_dump(mode="json", exclude={"sources", "targets", "loads"})
        # What is None needs a value that only its own tests know.
        groups = {
            k: {n: x for n, x in v.items() if x is not None} if isinstance(v, dict) else v
            for k, v in full.items()
        }
        tree = {k: v for k, v in groups.items() if v is not None and k != "demo_date"}
    else:
        tree = yaml.safe_load(text)
    count = 0
    for path, value in leaves(tree):
        if which == "defaults" and isinstance(path[-1], int):
            continue  # an item of a list that no file has
        wanted = other(path, value)
        text = str(wanted) if isinstance(wanted, str | date) else json.dumps(wanted)
        if path[-1] == "kind" and wanted == value:
            wanted = text = "duckdb"
        name = variable_name(path)
        assert name.replace("_", "").isalnum(), name
        assert name.isupper(), name
        found = dig(load(folder, **{name: text}), path)
        if isinstance(found, tuple):
            found = list(found)
        if isinstance(found, list) and isinstance(wanted, str):
            found = found[0]
        if path[0] == "loads" and len(path) <= 2:
            count += 1  # items come back with their defaults: that they load is enough
            continue
        if isinstance(found, float):
            assert found == wanted, name
        else:
            assert json.dumps(found, default=str) == json.dumps(wanted, default=str), name
        count += 1
    assert count > 10


def test_a_variable_adds_what_no_file_has(project: Project) -> None:
    settings = load(
        project(),
        ETL_SOURCES__API__CLIENT__HEADERS__AUTHORIZATION="Bearer abc",
        ETL_SOURCES__NEW__FACTORY="a.b:c",
        ETL_SOURCES__NEW__ARGUMENTS='{"n": 1}',
        ETL_LOADS__1__MODEL="marts.lines",
        ETL_LOADS__1__TARGET="out",
        ETL_TRANSFORM__PII="[email, name]",
        ETL_TRANSFORM__APPROVE="manual",
        ETL_SOURCES__API__SCHEMA_CONTRACT="freeze",
        ETL_TIMEOUT="",
    )
    client = settings.sources["api"].client or {}
    assert client["headers"]["authorization"].get_secret_value() == "Bearer abc"
    assert settings.sources["new"].arguments == {"n": 1}
    assert [x.model for x in settings.loads] == ["marts.orders", "marts.lines"]
    assert settings.transform.pii == ("email", "name")
    assert settings.sources["api"].schema_contract == "freeze"
    assert settings.timeout is None


def test_a_list_made_of_variables_alone_keeps_the_order_of_its_numbers(project: Project) -> None:
    text = SMALL[: SMALL.index("loads:")]
    variables = {f"ETL_LOADS__{n}__MODEL": f"marts.m{n}" for n in range(12)}
    variables |= {f"ETL_LOADS__{n}__TARGET": "out" for n in range(12)}
    loads = load(project(text), **variables).loads
    assert [x.model for x in loads] == [f"marts.m{n}" for n in range(12)]


def test_a_variable_of_sqlmeshs_keeps_the_type_that_it_has_in_the_file(project: Project) -> None:
    text = WIDE + "transform: {variables: {rate: 7, region: eu, days: [1]}}\n"
    given = {"RATE": "8", "REGION": "9", "DAYS": "[2]"}
    settings = load(
        project(text), **{f"ETL_TRANSFORM__VARIABLES__{k}": v for k, v in given.items()}
    )
    assert settings.transform.variables == {"rate": 8, "region": "9", "days": [2]}


def test_text_that_looks_like_yaml_stays_text_where_text_stands(project: Project) -> None:
    settings = load(
        project(WIDE),
        ETL_SOURCES__API__CLIENT__AUTH__TOKEN="[not: yaml",
        ETL_SOURCES__MADE__ARGUMENTS__REGION="123",
        ETL_SOURCES__MADE__ARGUMENTS__PASSWORD="{abc}",
    )
    assert (settings.sources["api"].client or {})["auth"][
        "token"
    ].get_secret_value() == "[not: yaml"
    arguments = reveal(settings.sources["made"].arguments)
    assert (arguments["Region"], arguments["password"]) == ("123", "{abc}")


def test_kubernetes_service_variables_break_nothing(project: Project) -> None:
    variables: dict[str, str] = {}
    for service in ("ETL", "ETL_SOURCES", "ETL_LOG", "ETL_DEMO", "ETL_DATA_DIR", "ETL_JOB"):
        variables |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "80",
            f"{service}_SERVICE_PORT_HTTP": "80",
            f"{service}_PORT": "tcp://10.0.0.1:80",
            f"{service}_PORT_80_TCP": "tcp://10.0.0.1:80",
            f"{service}_PORT_80_TCP_PROTO": "tcp",
            f"{service}_PORT_80_TCP_PORT": "80",
            f"{service}_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    assert load(project(), **variables).job == "small"


def test_a_variable_that_nearly_names_a_setting_is_an_error(project: Project) -> None:
    assert problems(project(), ETL_DATADIR="x", ETL_NOSUCH__KEY="y") == [
        "ETL_DATADIR: no setting is called `datadir` (did you mean data_dir?)",
        "ETL_NOSUCH__KEY: no setting is called `nosuch`",
    ]


# -- secrets directory -----------------------------------------------------------------------------


def test_secrets_win_over_the_environment_and_may_be_links(
    project: Project, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "..2026").mkdir(parents=True)
    name = "ETL_SOURCES__API__CLIENT__AUTH__TOKEN"
    (secrets / "..2026" / name).write_text(" from file \n")
    (secrets / "..data").symlink_to("..2026")
    (secrets / name).symlink_to(f"..data/{name}")
    (secrets / "sources__api__client__headers__x_api_key").write_text("k9")
    settings = load(
        project(WIDE), ETL_SECRETS_DIR=str(secrets), ETL_SOURCES__API__CLIENT__AUTH__TOKEN="env"
    )
    client = reveal(settings.sources["api"].client)
    assert client["auth"]["token"] == " from file "
    assert client["headers"]["X-Api-Key"] == "k9"


def test_a_folder_of_secrets_that_is_named_and_not_there_is_told(
    project: Project, tmp_path: Path
) -> None:
    """A slip in a manifest would otherwise be a credential that nobody misses until it is used."""
    folder, gone = project(), str(tmp_path / "secretz")
    told = f"ETL_SECRETS_DIR: {gone}: cannot be read: No such file or directory"
    assert problems(folder, ETL_SECRETS_DIR=gone) == [told]
    # systemd sets both; it need not make the folder of a service that has no credentials.
    load(folder, ETL_SECRETS_DIR=gone, CREDENTIALS_DIRECTORY=gone)
    file = str(folder / "config" / "etl.yaml")
    assert problems(folder, ETL_SECRETS_DIR=file) == [
        f"ETL_SECRETS_DIR: {file}: cannot be read: Not a directory"
    ]


# -- show and schema -------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--all"], ["--json"], ["--all", "--json"]])
@pytest.mark.parametrize("text", [SMALL, WIDE])
def test_config_show_is_valid_and_round_trips(
    project: Project,
    text: str,
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = project(text)
    before = load(folder).model_dump(mode="json")
    assert main(["config", "show", "--project", str(folder), *flags]) == 0
    shown = capsys.readouterr().out
    assert "t0ken" not in shown
    assert "k1" not in shown
    again = load(project(shown))
    assert again.model_dump(mode="json") == before
