"""Settings of metrics and notifications: what is wrong is told with its key, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from etl.configuration import load_settings
from etl.errors import ConfigError


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    """What is wrong with a configuration."""
    (folder / "config").mkdir()
    (folder / "config/etl.yaml").write_text(text, encoding="utf-8")
    try:
        load_settings(folder, environ=environ)
    except ConfigError as error:
        return [str(p) for p in error.problems]
    return []


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
def test_what_cannot_work_is_told_before_the_run(tmp_path: Path, text: str, said: str) -> None:
    found = problems(tmp_path, text)
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
def test_what_can_work_is_taken(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_all_of_it_comes_from_variables(tmp_path: Path) -> None:
    variables = {
        "ETL_METRICS__TEXTFILE": "etl.prom",
        "ETL_METRICS__PUSHGATEWAY": "http://host:9091",
        "ETL_METRICS__USERNAME": "etl",
        "ETL_METRICS__PASSWORD": "pw",
        "ETL_TRACES__ENDPOINT": "http://host:4318/v1/traces",
        "ETL_TRACES__HEADERS": '{"X-Api-Key": "key"}',
        "ETL_NOTIFY__WEBHOOK": "https://hooks.example/x",
        "ETL_NOTIFY__WHEN": '["recovery"]',
    }
    assert problems(tmp_path, "job: a", **variables) == []
    settings = load_settings(tmp_path, environ=variables)
    assert settings.textfile == tmp_path / "data" / "etl.prom"
    assert settings.metrics.username == "etl"
    assert settings.metrics.password == SecretStr("pw")
    assert settings.traces.endpoint == "http://host:4318/v1/traces"
    assert settings.traces.headers == {"X-Api-Key": SecretStr("key")}
    assert settings.notify.webhook == SecretStr("https://hooks.example/x")
    assert settings.notify.when == ("recovery",)
