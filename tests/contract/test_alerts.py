"""What deploy/ says of classes, metrics, settings and codes is what the code says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.configuration import load_settings
from etl.errors import ExitCode
from etl.exit_codes import as_systemd
from etl.report.metrics import METRICS, metrics_table
from etl.variables import OPTION_VARIABLES
from tests.contract.test_docs import check_generated

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
CLASSES = {c.name for c in ExitCode if c}
MAY_PASS = {c.name for c in ExitCode if c.retryable}
OURS = {m.name: {"etl_job", *m.labels} for m in METRICS}


def load(name: str) -> Any:
    """A YAML file of deploy/."""
    return yaml.safe_load((ROOT / "deploy" / name).read_text(encoding="utf-8"))


def rules() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    groups = load("prometheus/rules.yml")["groups"]
    return {r["alert"]: r for g in groups for r in g["rules"] if "alert" in r}


def classes_in(text: str) -> set[str]:
    """The classes that a selector or matcher names."""
    found = re.findall(r'class=~?"([A-Z_|]+)"', text)
    return {name for group in found for name in group.split("|")}


# -- Prometheus ------------------------------------------------------------------------------------


def test_every_class_has_its_alert_by_whether_a_retry_helps() -> None:
    assert classes_in(rules()["EtlRunFailed"]["expr"]) == CLASSES - MAY_PASS
    assert classes_in(rules()["EtlRunFailedForHours"]["expr"]) == MAY_PASS


def test_every_class_has_one_receiver() -> None:
    routed: list[str] = []
    for route in load("prometheus/alertmanager.yml")["route"]["routes"]:
        routed += classes_in(" ".join(route["matchers"]))
    assert sorted(routed) == sorted(CLASSES)


def test_every_route_and_inhibition_names_alerts_that_exist() -> None:
    config = load("prometheus/alertmanager.yml")
    receivers = {r["name"] for r in config["receivers"]}
    assert {config["route"]["receiver"]} | {r["receiver"] for r in config["route"]["routes"]} == (
        receivers
    )
    text = (PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8")
    for group in re.findall(r'alertname=~?"([^"]+)"', text):
        for pattern in group.split("|"):
            assert any(re.fullmatch(pattern, name) for name in rules()), pattern


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    fires: set[str] = set()
    stays: set[str] = set()
    for path in PROMETHEUS.glob("*_test.yml"):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else stays).add(case["alertname"])
    assert fires == stays == set(rules())


def test_every_alert_says_how_bad_and_what_to_do() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(rule["annotations"]) == {"summary", "description"}, name


@pytest.mark.parametrize("name", ["rules.yml", "grafana.json", "rules_test.yml"])
def test_every_metric_that_is_named_exists_with_its_labels(name: str) -> None:
    text = (PROMETHEUS / name).read_text(encoding="utf-8").replace('\\"', '"')
    recorded = set(re.findall(r"record: (\S+)", (PROMETHEUS / "rules.yml").read_text()))
    text = re.sub("|".join(map(re.escape, recorded)), "", text)
    used = set(re.findall(r"\betl_\w+", text)) - {"etl_job"}
    assert used
    assert used <= set(OURS)
    for metric, selector in re.findall(r"\b(etl_\w+)\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)(?==)", selector)) <= OURS[metric], metric


def test_the_dashboard_shows_every_metric() -> None:
    board = json.loads((PROMETHEUS / "grafana.json").read_text(encoding="utf-8"))
    shown = " ".join(t["expr"] for p in board["panels"] for t in p["targets"])
    assert set(re.findall(r"\betl_\w+", shown)) - {"etl_job"} == set(OURS)
    places = [tuple(p["gridPos"].values()) for p in board["panels"]]
    assert len(set(places)) == len(places)
    assert len({p["id"] for p in board["panels"]}) == len(places)


def test_the_documented_metrics_and_alerts_are_those_that_exist() -> None:
    check_generated("docs/alerts.md", "metrics", metrics_table())
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `Etl")]
    assert {n for row in rows for n in re.findall(r"`(Etl\w+)`", row)} == set(rules())


# -- schedulers ------------------------------------------------------------------------------------


def units() -> str:
    return (ROOT / "deploy/systemd/etl.service").read_text(encoding="utf-8")


def test_the_unit_restarts_what_the_table_says() -> None:
    assert as_systemd() in units()
    again, never = (
        {int(n) for n in re.findall(r"\d+", line)} for line in as_systemd().splitlines()[1:]
    )
    assert again == {int(c) for c in ExitCode if c.retryable}
    assert again | never == {int(c) for c in ExitCode if c}
    assert not again & never


def test_the_unit_hands_in_secrets_and_names_what_exists() -> None:
    text = units()
    assert "LoadCredential=ETL:" in text
    assert "Environment=ETL_SECRETS_DIR=%d\n" in text
    failure = re.search(r"OnFailure=(.*)@%n", text)
    assert failure
    assert (ROOT / "deploy/systemd" / f"{failure[1]}@.service").exists()


@pytest.mark.parametrize(
    "path", ["cron/etl", "systemd/etl.service", "github/etl.yml"], ids=lambda p: p.split("/")[0]
)
def test_every_variable_of_a_scheduler_is_a_setting(path: str) -> None:
    text = (ROOT / "deploy" / path).read_text(encoding="utf-8")
    stated = "\n".join(x for x in text.splitlines() if not x.lstrip().startswith("#"))
    named = re.findall(r'\b(ETL_[A-Z_]+)[=:] ?"?([^"\n]*)', stated)
    assert named
    for name, value in named:
        if name.removeprefix("ETL_") not in OPTION_VARIABLES:
            load_settings(ROOT, "default", {name: value})


def test_the_crontab_is_one_line_that_calls_the_job() -> None:
    text = (ROOT / "deploy/cron/etl").read_text(encoding="utf-8")
    lines = [x for x in text.splitlines() if x and x[0] != "#" and "=" not in x.split()[0]]
    (line,) = lines
    *when, user, command = line.split(maxsplit=6)
    assert all(re.fullmatch(r"[\d*,/-]+", field) for field in when)
    assert user == "etl"
    # A pipe would hide the exit code; a redirection, the mail.
    assert re.fullmatch(r"cd /opt/etl && \.venv/bin/etl run [\w -]*", command)


def test_the_workflow_leaves_the_job_time_to_stop_and_pins_what_it_uses() -> None:
    flow = load("github/etl.yml")
    job = flow["jobs"]["run"]
    assert job["timeout-minutes"] * 60 > int(job["env"]["ETL_TIMEOUT"])
    assert flow[True]["schedule"][0]["cron"].count(" ") == 4  # YAML 1.1 reads `on` as true
    assert not flow["concurrency"]["cancel-in-progress"]
    text = (ROOT / "deploy/github/etl.yml").read_text(encoding="utf-8")
    uses = re.findall(r"uses: (.*)", text)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", use) for use in uses)
    # The same versions as our own workflow's, which is kept up to date.
    own = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert all(use in own for use in uses if "checkout" in use or "setup-python" in use)
