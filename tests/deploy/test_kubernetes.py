"""The Kubernetes manifests keep their rules, and no change of them goes unseen."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import (
    DOCKERFILE,
    JOBS,
    KUBERNETES,
    OVERLAYS,
    POD,
    POLICY,
    ROOT,
    Manifests,
    problems,
    render,
)

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not here; deploy/test/kubernetes installs it",
)
# Leaves that a user may turn as he likes: no rule can know the right value.
FREE = (
    r"metadata\.labels", r"metadata\.name$", r"labels\.app\.kubernetes\.io/component",
    r"HistoryLimit$", r"\.schedule$", r"\.timeZone$",
    r"ttlSecondsAfterFinished$", r"startingDeadline",
    r"activeDeadlineSeconds$", r"terminationGracePeriodSeconds$", r"backoffLimit$",
    r"resources\.(requests|limits)", r"sizeLimit$", r"\.image$", r"storage$", r"^data\.",
    r"egress\.\d+\.(to|ports\.\d+\.protocol)", r"^apiVersion$", r"^kind$",
)  # fmt: skip


def read(text: str) -> Manifests:
    return Manifests(list(yaml.safe_load_all(text)))


def folders() -> list[str]:
    return [f"overlays/{o}" for o in OVERLAYS] + [f"jobs/{j}" for j in JOBS]


def test_the_written_policy_is_the_generated_one() -> None:
    """Without kubectl too: the file itself."""
    cron = yaml.safe_load((KUBERNETES / "base" / "cronjob.yaml").read_text(encoding="utf-8"))
    assert cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"] == POLICY


def test_the_pod_runs_as_the_images_user() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    assert (int(user[1]), int(user[2])) == (
        POD["securityContext.runAsUser"],
        POD["securityContext.runAsGroup"],
    )


def test_every_folder_with_a_kustomization_is_tested() -> None:
    found = {str(p.parent.relative_to(KUBERNETES)) for p in KUBERNETES.rglob("kustomization.yaml")}
    assert found == {*folders(), "base", "jobs/base"}


@needs_kubectl
@pytest.mark.parametrize("folder", folders())
def test_the_rules_hold(folder: str) -> None:
    assert problems(read(render(folder))) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_off_jobs_follow_the_overlay_that_they_name(tmp_path: Path, overlay: str) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    base = tmp_path / "kubernetes" / "jobs" / "base" / "kustomization.yaml"
    base.write_text(base.read_text().replace("overlays/prod ", f"overlays/{overlay} "))
    cron = read(render(f"overlays/{overlay}"))
    for job in JOBS:
        once = read(render(str(tmp_path / "kubernetes" / "jobs" / job)))
        assert problems(once) == []
        assert {d["kind"] for d in once.documents} == {"ConfigMap", "Job"}
        same = copy.deepcopy(once.job)
        same["template"]["spec"]["containers"][0]["args"] = cron.container["args"]
        if job == "migrate":
            del same["template"]["spec"]["containers"][0]["command"]
            same["backoffLimit"] = cron.job["backoffLimit"]
        assert same == cron.job
        assert once.owner["metadata"]["namespace"] == cron.owner["metadata"]["namespace"]


@needs_kubectl
def test_the_documented_wait_outlasts_the_job() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (hours,) = re.findall(r"wait --for=\S+ --timeout=(\d+)h job/etl-retry", text)
    assert int(hours) * 3600 > read(render("jobs/retry")).job["activeDeadlineSeconds"]


@needs_kubectl
@pytest.mark.parametrize("folder", ["overlays/prod-postgres", "jobs/migrate"])
def test_no_change_of_a_value_goes_unseen(folder: str) -> None:
    """Each value of the manifests, but for those a user may choose: changed, and taken away."""
    manifests = read(render(folder))
    unseen = []
    tried = 0
    for number, document in enumerate(manifests.documents):
        for path in leaves(document):
            name = ".".join(map(str, path))
            if any(re.search(pattern, name) for pattern in FREE):
                continue
            for change in (other, None):
                tried += 1
                documents = copy.deepcopy(manifests.documents)
                node: Any = documents[number]
                for key in path[:-1]:
                    node = node[key]
                if change is None:
                    del node[path[-1]]
                else:
                    node[path[-1]] = change(node[path[-1]])
                if not problems(Manifests(documents)):
                    unseen.append(
                        f"{document['kind']} {name} {'removed' if change is None else node}"
                    )
    assert unseen == []
    assert tried > 150


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value}x"


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all scalars."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def at(*path: Any, value: Any) -> tuple[tuple[Any, ...], Any]:
    return path, value


JOB = ("spec", "jobTemplate", "spec")
CONTAINER = (*JOB, "template", "spec", "containers", 0)
RULES = (*JOB, "podFailurePolicy", "rules")
WRONG = {
    "a list that is not sorted": at(*RULES, 2, "onExitCodes", "values", value=[8, 4, 9]),
    "a code twice": at(*RULES, 2, "onExitCodes", "values", value=[4, 4, 8]),
    "rules in another order": at(*RULES, value=list(reversed(POLICY["rules"]))),
    "an own deadline longer than the Job's": at(*JOB, "activeDeadlineSeconds", value=3600),
    "no retries at all": at(*JOB, "backoffLimit", value=0),
    "no time to stop": at(*JOB, "template", "spec", "terminationGracePeriodSeconds", value=5),
    "gone at once": at(*JOB, "ttlSecondsAfterFinished", value=0),
    "a schedule of 6 o'clock on the 32nd": at("spec", "schedule", value="0 6 32 * *"),
    "a schedule with a zone": at("spec", "schedule", value="TZ=UTC 0 6 * * *"),
    "a zone that is none": at("spec", "timeZone", value="Europe/Londn"),
    "a late start is a missed one": at("spec", "startingDeadlineSeconds", value=5),
    "suspended": at("spec", "suspend", value=True),
    "a probe": at(*CONTAINER, "livenessProbe", value={"exec": {"command": ["etl", "status"]}}),
    "a variable that is no setting": at(
        *CONTAINER, "env", 0, value={"name": "ETL_TIMEOUTT", "value": "3"}
    ),
    "a setting with a wrong value": at(
        *CONTAINER, "env", 0, value={"name": "ETL_LOG__LEVEL", "value": "LOUD"}
    ),
    "an option that is none": at(*CONTAINER, "args", value=["run", "--stagee", "load"]),
    "a list that the API server would not store": at(
        *JOB, "template", "spec", "tolerations", value=[]
    ),
    "a shell": at(*CONTAINER, "command", value=["sh", "-c", "etl run"]),
    "the newest image": at(*CONTAINER, "image", value="registry.example/etl:latest"),
    "a digest of nothing": at(*CONTAINER, "image", value="etl"),
    "too little memory": at(*CONTAINER, "resources", "limits", "memory", value="512Mi"),
    "more asked than allowed": at(*CONTAINER, "resources", "requests", "memory", value="4Gi"),
    "no limit of memory": at(*CONTAINER, "resources", "limits", value={"ephemeral-storage": "1Gi"}),
    "a volume that nobody mounts": at(
        *JOB, "template", "spec", "volumes", 1, value={"name": "cache", "emptyDir": {}}
    ),
}  # fmt: skip


@needs_kubectl
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cronjob_is_noticed(name: str) -> None:
    path, value = WRONG[name]
    manifests = read(render("overlays/prod-postgres"))
    node: Any = manifests.one("CronJob")
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert problems(manifests)


@needs_kubectl
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timeout: 3600", "timeout: 4000"),
        ("timeout: 3600", "timeoutt: 3600"),
        ("log: {format: json}", "log: {format: text}"),
        ("kind: postgres,", "kind: parquet,"),
    ],
)
def test_a_wrong_profile_is_noticed(old: str, new: str) -> None:
    manifests = read(render("overlays/prod-postgres"))
    data = manifests.one("ConfigMap")["data"]
    assert old in data["kubernetes.yaml"]
    data["kubernetes.yaml"] = data["kubernetes.yaml"].replace(old, new)
    assert problems(manifests)
