"""A canary wherever a secret can be configured is found in nothing that a run leaves."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import yaml

from etl.demo import Fault
from tests.contract.process import Finished, Job, Models, new_job

CANARIES = {
    "token": "canary-token-0123456789",
    "password": "canary/pass word+@1",
    "header": "canary-header-äöü-0123",
    "parameter": "canary-parameter-0123",
    "file": "canary-file-0123456789",
    "query": "canary-query-0123456789",
    "argument": "canary-argument-0123",
}
FACTORY = """
import dlt

def rows(password):
    @dlt.resource(name="rows", write_disposition="append")
    def rows():
        raise ValueError(f"cannot log in with {password}")
        yield {}
    return rows
"""


@contextmanager
def secretive_job(folder: Path) -> Iterator[Job]:
    """A job with a canary wherever a secret can stand."""
    with new_job(folder, token=CANARIES["token"], models=Models.MUTUALS) as job:
        secrets = folder / "secrets"
        secrets.mkdir()
        # A second source: its password stands in the URL, its secret header in a file.
        host = job.replay.base_url.removeprefix("http://")
        config = yaml.safe_load((folder / "config/etl.yaml").read_text())
        bluesky = config["sources"]["bluesky"]
        bluesky["client"]["auth"] = {"type": "bearer", "token": CANARIES["token"]}
        bluesky["client"]["headers"] = {"X-Custom": "to be replaced", "Accept": "application/json"}
        for resource in bluesky["resources"]:
            resource["endpoint"]["params"]["api_key"] = CANARIES["parameter"]
        user = f"http://user:{quote(CANARIES['password'], safe='')}@{host}"
        other = json.loads(json.dumps(bluesky))
        other["client"]["base_url"] = user
        other["client"]["auth"] = {"type": "http_basic", "username": "user", "password": "x"}
        other["client"]["headers"] = {"X-Other": CANARIES["header"].encode().decode("latin-1")}
        config["sources"]["other"] = other
        # A third: its key stands in each URL, under a name that tells nothing.
        keyed = json.loads(json.dumps(bluesky))
        key = {"type": "api_key", "name": "k", "location": "query", "api_key": CANARIES["query"]}
        keyed["client"]["base_url"], keyed["client"]["auth"] = job.replay.base_url, key
        config["sources"]["keyed"] = keyed
        (folder / "quoting.py").write_text(FACTORY)
        arguments = {"password": CANARIES["argument"]}
        config["sources"]["made"] = {"factory": "quoting:rows", "arguments": arguments}
        (folder / "config/etl.yaml").write_text(yaml.safe_dump(config))
        (secrets / "sources__bluesky__client__headers__x-custom").write_text(CANARIES["file"])
        (secrets / "etl_sources__other__client__auth__password").write_text(CANARIES["password"])
        job.variables["ETL_SECRETS_DIR"] = str(secrets)
        job.variables["ETL_LOG__LEVEL"] = "DEBUG"
        yield job


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with secretive_job(tmp_path) as job:
        yield job


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A good run, and the job that it is of."""
    with secretive_job(tmp_path_factory.mktemp("good")) as job:
        done = job.run("--json", "--source", "bluesky")
        assert done.code == 0, done.err
        yield done


def forms() -> set[bytes]:
    """Every canary as it may be written: plain, escaped, encoded."""
    found = set()
    for canary in CANARIES.values():
        for text in (
            canary, quote(canary), quote(canary, safe=""), quote_plus(canary),
            json.dumps(canary)[1:-1], base64.b64encode(canary.encode()).decode(),
            base64.b64encode(f"user:{canary}".encode()).decode(),
        ):  # fmt: skip
            found.add(text.encode())
    return found


def assert_clean(job: Job, *outputs: str) -> None:
    texts = {f"output {i}": text.encode() for i, text in enumerate(outputs)}
    for path in job.data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            texts[str(path.relative_to(job.data))] = path.read_bytes()
    for left in ("log.jsonl", "run.json", "report.html"):
        assert any(name.endswith(left) for name in texts)
    leaks = [(name, form) for name, text in texts.items() for form in forms() if form in text]
    assert leaks == []


def run(job: Job) -> Finished:
    return job.run("--json", "--source", "bluesky", "--stage", "extract")


def test_the_canaries_are_really_sent(done: Finished) -> None:
    sent = done.job.replay.requests[0]
    assert sent.headers["authorization"] == f"Bearer {CANARIES['token']}"
    assert sent.headers["x-custom"] == CANARIES["file"]
    assert sent.query["api_key"] == CANARIES["parameter"]


def test_a_good_run_leaves_no_secret(done: Finished) -> None:
    assert_clean(done.job, done.out, done.err)


@pytest.mark.parametrize("kind", ["404", "401", "503", "truncated", "html", "disconnect"])
def test_a_failed_run_leaves_no_secret(job: Job, kind: str) -> None:
    job.replay.faults = [Fault(kind, page=2)]
    done = run(job)
    assert done.code != 0
    assert_clean(job, done.out, done.err)


def test_a_password_in_the_url_is_never_shown(job: Job) -> None:
    # The replay wants the token: this source is refused with 401, its URL is in the message.
    done = job.run("--json", "--source", "other", "--stage", "extract")
    assert done.code == 13
    assert_clean(job, done.out, done.err)


@pytest.mark.parametrize("source", ["keyed", "made"])
def test_what_dlt_keeps_of_a_failure_is_not_left(job: Job, source: str) -> None:
    left = job.data / "dlt" / "gone" / "trace.pickle"  # of an earlier version, and its source too
    left.parent.mkdir(parents=True)
    left.write_text(CANARIES["query"])
    done = job.run("--json", "--source", source, "--stage", "extract")
    assert done.code != 0
    assert (job.data / "dlt" / source / "state.json").is_file(), done.err  # dlt was at work
    assert_clean(job, done.out, done.err)


def test_no_command_shows_a_secret(done: Finished) -> None:
    outputs = []
    for command, *arguments in (
        ["status", "--json"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["report", "--html"],
    ):
        shown = done.job.run(*arguments, command=command)
        assert shown.code == 0, shown.err
        outputs += [shown.out, shown.err]
    assert_clean(done.job, *outputs)


def test_a_wrong_configuration_shows_no_secret(job: Job) -> None:
    job.edit("config/etl.yaml", "resources:", "resourcess:")
    done = job.run()
    assert done.code == 2
    assert not [f for f in forms() if f in (done.out + done.err).encode()]
