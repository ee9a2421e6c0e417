"""deploy/compose: what it says fits the settings, the image, and itself."""

from __future__ import annotations

import re
from string import Template
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from etl.configuration import load_settings
from etl.options import parse
from etl.stop import GRACE_SECONDS
from tests.processes import ROOT

FOLDER = ROOT / "deploy/compose"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services as Compose reads them, the password filled in."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"${\1}", text)
    found: dict[str, Any] = yaml.safe_load(Template(text).substitute(POSTGRES_PASSWORD="s3cret"))
    assert found["volumes"].keys() == {
        volume.partition(":")[0] for s in found["services"].values() for volume in s["volumes"]
    }
    services: dict[str, dict[str, Any]] = found["services"]
    return services


def test_the_job_s_variables_are_settings_that_hold(services: dict[str, dict[str, Any]]) -> None:
    variables = services["job"]["environment"]
    options = parse(["run"], variables)
    settings = load_settings(ROOT, options.profile, variables)  # an unknown variable is an error
    target = settings.targets["postgres"]
    assert target.dsn is not None
    assert target.dsn.get_secret_value() == variables["ETL_TARGETS__POSTGRES__DSN"]
    assert {load.target for load in settings.loads} == {"postgres"}


def test_the_address_is_that_of_the_other_service(services: dict[str, dict[str, Any]]) -> None:
    address = urlsplit(services["job"]["environment"]["ETL_TARGETS__POSTGRES__DSN"])
    server = services[address.hostname or ""]
    given = server["environment"]
    assert (address.username, address.password) == (
        given["POSTGRES_USER"],
        given["POSTGRES_PASSWORD"],
    )
    assert address.path == "/" + given["POSTGRES_DB"]
    assert server["ports"] == [f"127.0.0.1:{address.port}:{address.port}"]
    assert server["image"].startswith("postgres:")
    assert services["job"]["depends_on"] == {address.hostname: {"condition": "service_healthy"}}
    asked = server["healthcheck"]["test"][1].split()
    assert asked[1:] == [
        "--username", given["POSTGRES_USER"], "--dbname", given["POSTGRES_DB"],
    ]  # fmt: skip


def test_the_image_is_built_here_with_the_driver(services: dict[str, dict[str, Any]]) -> None:
    build = services["job"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    ((argument, extra),) = build["args"].items()
    assert f"ARG {argument}=" in DOCKERFILE
    assert f"for extra in ${argument};" in DOCKERFILE
    locked = (ROOT / f"requirements/{extra}.txt").read_text(encoding="utf-8")
    assert re.search(r"^psycopg==", locked, re.MULTILINE)
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "!requirements" in context
    assert "**/.env" in context  # it holds the password
    data = services["job"]["volumes"][0].partition(":")[2]
    assert f"ETL_DATA_DIR={data}\n" in DOCKERFILE
    assert f'VOLUME ["{data}"]' in DOCKERFILE


def test_docker_waits_longer_than_the_job_may_take_to_stop(
    services: dict[str, dict[str, Any]],
) -> None:
    # The run has GRACE_SECONDS, then it is ended. On a busy machine Docker's own ten are too few.
    assert float(services["job"]["stop_grace_period"].removesuffix("s")) >= 2 * GRACE_SECONDS
