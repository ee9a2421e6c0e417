"""What a schema does not see in the Kubernetes manifests: each rule says what breaks it."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from croniter import croniter

from etl.configuration import SECRETS_DIR, load_settings
from etl.errors import ConfigError
from etl.exit_codes import as_kubernetes
from etl.options import parse
from etl.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("dev", "prod", "prod-postgres")
JOBS = ("apply", "retry", "backfill", "migrate")
POLICY = yaml.safe_load(as_kubernetes())["podFailurePolicy"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# A value that any secret setting takes.
SECRET = "postgresql://user:hunter2@db.example/x"

# What the job relies on, or the restricted Pod Security Standard asks for: path, value.
CRONJOB = {
    "concurrencyPolicy": "Forbid",
}
JOB = {
    "completions": 1,
    "parallelism": 1,
    "podReplacementPolicy": "Failed",
    "podFailurePolicy": POLICY,
}
POD = {
    "restartPolicy": "Never",
    "serviceAccountName": "etl",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext.runAsNonRoot": True,
    "securityContext.runAsUser": 10001,
    "securityContext.runAsGroup": 10001,
    "securityContext.fsGroup": 10001,
    "securityContext.fsGroupChangePolicy": "OnRootMismatch",
    "securityContext.seccompProfile.type": "RuntimeDefault",
}
CONTAINER = {
    "name": "etl",
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.privileged": False,
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.capabilities": {"drop": ["ALL"]},
}
NAMESPACE = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
SIZES = {"": 1, "m": 0.001, "Mi": 2**20, "Gi": 2**30}


@cache
def render(folder: str) -> str:
    """What `kubectl apply -k` would send."""
    command = ["kubectl", "kustomize", str(KUBERNETES / folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Manifests:
    """The rendered objects of one overlay or one-off Job."""

    documents: list[dict[str, Any]]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [d for d in self.documents if d["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        (found,) = self.all(kind)
        return found

    @property
    def owner(self) -> dict[str, Any]:
        """The CronJob, or the one-off Job."""
        return (self.all("CronJob") or self.all("Job"))[0]

    @property
    def job(self) -> dict[str, Any]:
        """The Job's spec."""
        spec: dict[str, Any] = self.owner["spec"]
        found: dict[str, Any] = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
        return found

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's spec."""
        found: dict[str, Any] = self.job["template"]["spec"]
        return found

    @property
    def container(self) -> dict[str, Any]:
        """The one container."""
        (found,) = self.pod["containers"]
        return dict(found)

    @property
    def environment(self) -> dict[str, str]:
        """The container's variables."""
        return {e["name"]: e["value"] for e in self.container.get("env", ())}

    @property
    def mounts(self) -> dict[str, dict[str, Any]]:
        """The container's mounts by the name of their volume."""
        return {m["name"]: m for m in self.container["volumeMounts"]}

    @property
    def volumes(self) -> dict[str, dict[str, Any]]:
        """The pod's volumes by name."""
        return {v["name"]: v for v in self.pod["volumes"]}

    @cached_property
    def profile(self) -> str:
        """The configuration that the container gets as a profile."""
        data: dict[str, str] = self.one("ConfigMap")["data"]
        return data[self.mounts["config"]["subPath"]]

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets' files, where the manifest names them."""
        return tuple(i["path"] for i in self.volumes["secrets"]["secret"].get("items", ()))

    def settings(self) -> Settings:
        """The settings as the container would load them."""
        return load(self.profile, tuple(self.environment.items()), self.secret_names)


@cache
def load(
    profile: str, environment: tuple[tuple[str, str], ...], secrets: tuple[str, ...]
) -> Settings:
    """The image's configuration under a profile, variables and secrets."""
    with TemporaryDirectory() as folder:
        project = Path(folder)
        shutil.copytree(ROOT / "config", project / "config")
        (project / "config" / "kubernetes.yaml").write_text(profile, encoding="utf-8")
        (project / "secrets").mkdir()
        for name in secrets:
            (project / "secrets" / name).write_text(SECRET, encoding="utf-8")
        variables = dict(environment)
        used = variables.get("ETL_PROFILE", "default")
        return load_settings(
            project, used, variables | {"ETL_SECRETS_DIR": str(project / "secrets")}
        )


def problems(manifests: Manifests) -> list[str]:
    """All that is wrong; a rule that cannot even look is a problem as well."""
    found = []
    for rule in RULES:
        try:
            found += [f"{rule.__name__}: {p}" for p in rule(manifests)]
        except ConfigError as e:
            found += [f"{rule.__name__}: {p}" for p in e.problems or (e,)]
        except (KeyError, ValueError, TypeError, AttributeError) as e:
            found.append(f"{rule.__name__}: {type(e).__name__}: {e}")
    return found


# -- rules -----------------------------------------------------------------------------------------


def has_values(m: Manifests) -> Iterator[str]:
    """What the job and Pod Security rely on."""
    tables = [(JOB, m.job), (POD, m.pod), (CONTAINER, m.container)]
    if m.all("CronJob"):
        tables += [(CRONJOB, m.one("CronJob")["spec"])]
    for table, node in tables:
        for path, expected in table.items():
            found: Any = node
            for key in path.split("."):
                found = found.get(key) if isinstance(found, dict) else None
            if found != expected:
                yield f"{path} is {found}, not {expected}"


def has_one_namespace(m: Manifests) -> Iterator[str]:
    """All stand in one namespace, which refuses what is not restricted."""
    names = {d["metadata"].get("namespace") for d in m.documents if d["kind"] != "Namespace"}
    if m.all("Namespace"):
        space = m.one("Namespace")["metadata"]
        names.add(space["name"])
        if space["labels"] != NAMESPACE:
            yield f"the namespace's labels are {space['labels']}"
    if len(names) != 1 or None in names:
        yield f"namespaces {names}"


def policy_can_be_accepted(m: Manifests) -> Iterator[str]:
    """The API server wants lists sorted and unique, a container that exists, no 0 among `In`."""
    for rule in m.job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes is None:
            continue
        if codes["values"] != sorted(set(codes["values"])):
            yield f"not sorted and unique: {codes['values']}"
        if codes["containerName"] not in {c["name"] for c in m.pod["containers"]}:
            yield f"no container {codes['containerName']}"
        if codes["operator"] == "In" and 0 in codes["values"]:
            yield "0 is no failure"


def leaves_time(m: Manifests) -> Iterator[str]:
    """The run's own deadline and every retry end before Kubernetes ends them."""
    timeout, grace = m.settings().timeout, m.pod["terminationGracePeriodSeconds"]
    if timeout is None:
        yield "the run has no timeout of its own"
        return
    retries = m.job["backoffLimit"]
    need = (retries + 1) * (timeout + grace) + sum(10 * 2**n for n in range(retries))
    if not need < m.job["activeDeadlineSeconds"]:
        yield f"activeDeadlineSeconds {m.job['activeDeadlineSeconds']}, needs more than {need:g}"
    if not 15 <= grace <= 120:  # a run needs 10 to stop
        yield f"terminationGracePeriodSeconds {grace}"
    if not (0 if "command" in m.container else 1) <= retries <= 6:
        yield f"backoffLimit {retries}: what may pass is not tried again, or for ever"
    if m.job["ttlSecondsAfterFinished"] < 3600:
        yield "a finished Job is gone before anybody looked"


def is_scheduled(m: Manifests) -> Iterator[str]:
    """The schedule and its time zone are ones; a late start is not a missed one."""
    for cron in m.all("CronJob"):
        spec = cron["spec"]
        if not croniter.is_valid(spec["schedule"]) or spec["schedule"].startswith(
            ("TZ=", "CRON_TZ=")
        ):
            yield f"schedule {spec['schedule']}"
        ZoneInfo(spec["timeZone"])
        if not 60 <= spec["startingDeadlineSeconds"] <= 24 * 3600:
            yield f"startingDeadlineSeconds {spec['startingDeadlineSeconds']}"
        if spec.get("suspend"):
            yield "suspended"
        if min(spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) < 1:
            yield "no history is kept"


def has_no_probes(m: Manifests) -> Iterator[str]:
    """A batch job ends; probes would kill it while it computes."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports"):
        if name in m.container:
            yield name
    if "initContainers" in m.pod:
        yield "initContainers"


def runs_the_command(m: Manifests) -> Iterator[str]:
    """The arguments are ones of the command line; a migration is SQLMesh's own command."""
    command = m.container.get("command")
    if command is not None or m.owner["metadata"]["name"] == "etl-migrate":
        place, logs = f"{workdir()}/sqlmesh", variable("HOME")
        if (command, m.container["args"]) != (
            ["sqlmesh"],
            ["-p", place, "--log-file-dir", logs, "migrate"],
        ):
            yield f"the image's entrypoint is replaced by {command}"
        return
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            parsed = parse(m.container["args"], m.environment)
        except SystemExit:
            yield said.getvalue()
        else:
            if parsed.command not in {"run", "retry", "plan"}:
                yield f"{parsed.command} is no work"


def is_configured(m: Manifests) -> Iterator[str]:
    """Every variable is a setting or an option; the profile is where the program looks."""
    for name in m.environment:
        if not name.startswith("ETL_"):
            yield f"{name} is none of ours"
    settings = m.settings()
    place = f"{workdir()}/config/{settings.profile}.yaml"
    mount = m.mounts["config"]
    if (mount["mountPath"], mount.get("readOnly")) != (place, True):
        yield f"the profile is mounted at {mount['mountPath']}, not read-only at {place}"
    if m.volumes["config"]["configMap"] != {"name": m.one("ConfigMap")["metadata"]["name"]}:
        yield "the profile's ConfigMap is another one"
    if settings.log.format != "json":
        yield f"log.format is {settings.log.format}"


def reads_every_secret(m: Manifests) -> Iterator[str]:
    """Each secret's file is where the program looks, and named like a setting."""
    mount = m.mounts["secrets"]
    if (mount["mountPath"], mount.get("readOnly")) != (str(SECRETS_DIR), True):
        yield f"secrets at {mount['mountPath']}"
    secret = m.volumes["secrets"]["secret"]
    if secret["defaultMode"] != 0o440:
        yield f"secrets' mode is {secret['defaultMode']:o}"
    if secret["secretName"] != "etl-secrets":
        yield f"secret {secret['secretName']}, the documentation says etl-secrets"
    if secret["optional"] != (not m.secret_names):
        yield "a secret that is named must be there, and only such a one"
    m.settings()
    needed = {
        f"ETL_TARGETS__{name.upper()}__DSN"
        for name, target in load(
            m.profile, (("ETL_PROFILE", "kubernetes"),), m.secret_names
        ).targets.items()
        if target.kind == "postgres"
    }
    if set(m.secret_names) != needed:
        yield f"secrets {m.secret_names}, the configuration needs {needed}"
    for item in secret.get("items", ()):
        if item["key"] != item["path"]:
            yield f"{item['key']} becomes {item['path']}"


def leaves_last_words(m: Manifests) -> Iterator[str]:
    """The failure is described where the kubelet reads."""
    path = m.environment.get("ETL_TERMINATION_LOG")
    if path is None or m.container["terminationMessagePath"] != path:
        yield f"{path} is not {m.container['terminationMessagePath']}"


def mounts_what_it_writes(m: Manifests) -> Iterator[str]:
    """Every volume is mounted and the other way round; the writable ones are data and home."""
    if set(m.mounts) != set(m.volumes) or len(m.mounts) != len(m.container["volumeMounts"]):
        yield f"volumes {set(m.volumes)}, mounts {set(m.mounts)}"
    places = {variable("ETL_DATA_DIR"): "persistentVolumeClaim", variable("HOME"): "emptyDir"}
    for place, kind in places.items():
        names = [n for n, mount in m.mounts.items() if mount == {"name": n, "mountPath": place}]
        if len(names) != 1 or kind not in m.volumes[names[0]]:
            yield f"{place} is no writable {kind}"
    claim = m.volumes["data"]["persistentVolumeClaim"]["claimName"]
    for volume in m.all("PersistentVolumeClaim"):
        if volume["metadata"]["name"] != claim:
            yield f"no claim {claim}"
        if volume["spec"]["accessModes"] != ["ReadWriteOncePod"]:
            yield "two pods could write to the volume"
    if claim != "etl-data":
        yield f"claim {claim}"


def is_bounded(m: Manifests) -> Iterator[str]:
    """Requests within limits; memory and disk cannot be taken from the neighbours."""
    asked, most = m.container["resources"]["requests"], m.container["resources"]["limits"]
    if set(asked) != {"cpu", "memory", "ephemeral-storage"}:
        yield f"requests {set(asked)}"
    if set(most) != {"memory", "ephemeral-storage"}:  # a limit of CPU only makes a batch job slow
        yield f"limits {set(most)}"
    if any(size(asked[name]) > size(most[name]) for name in most):
        yield "requests exceed limits"
    if size(most["memory"]) < 2**30:
        yield "less memory than docs/deploy.md found to be enough"
    if size(m.volumes["tmp"]["emptyDir"]["sizeLimit"]) > size(most["ephemeral-storage"]):
        yield "/tmp may be larger than the pod"


def is_closed(m: Manifests) -> Iterator[str]:
    """The network policy takes hold of the job's pods and lets nobody in."""
    labels = m.job["template"]["metadata"]["labels"]
    for policy in m.all("NetworkPolicy"):
        spec = policy["spec"]
        wanted = spec["podSelector"]["matchLabels"]
        if not wanted or wanted.items() - labels.items():
            yield f"{wanted} does not select {labels}"
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"] or "ingress" in spec:
            yield "somebody may come in, or everything out"
        ports = {p["port"] for rule in spec["egress"] for p in rule["ports"]}
        kinds = {target.kind for target in m.settings().targets.values()}
        if ports != {53, 443} | ({5432} if "postgres" in kinds else set()):
            yield f"ports {ports} for targets {kinds}"
        for rule in spec["egress"]:
            if not rule["ports"]:
                yield "all ports"
    for account in m.all("ServiceAccount"):
        if account["metadata"]["name"] != m.pod["serviceAccountName"]:
            yield f"no service account {m.pod['serviceAccountName']}"
        if account["automountServiceAccountToken"] is not False:
            yield "the account's token is mounted"


def is_stored_as_sent(m: Manifests) -> Iterator[str]:
    """The API server stores an empty list as none: each `kubectl apply` would change it again."""

    def empty_lists(node: Any, path: str) -> Iterator[str]:
        if node == []:
            yield f"{path} is empty"
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            if isinstance(value, dict | list):
                yield from empty_lists(value, f"{path}.{key}")

    for document in m.documents:
        yield from empty_lists(document, document["kind"])


def is_pinned(m: Manifests) -> Iterator[str]:
    """The image has a version; it is the one of this source."""
    name, _, tag = m.container["image"].rpartition(":")
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if not name or version is None or tag != version[1]:
        yield f"image {m.container['image']}"
    if m.container["imagePullPolicy"] != "IfNotPresent":
        yield f"imagePullPolicy {m.container['imagePullPolicy']}"


RULES: tuple[Callable[[Manifests], Iterator[str]], ...] = (
    has_values, has_one_namespace, policy_can_be_accepted, leaves_time, is_scheduled, has_no_probes,
    runs_the_command, is_configured, reads_every_secret, leaves_last_words, mounts_what_it_writes,
    is_bounded, is_closed, is_stored_as_sent, is_pinned,
)  # fmt: skip


# -- what the image says ---------------------------------------------------------------------------


def variable(name: str) -> str:
    """An ENV of the Dockerfile."""
    found = re.search(rf"\b{name}=(\S+)", DOCKERFILE)
    assert found, name
    return found[1]


def workdir() -> str:
    """The last WORKDIR of the Dockerfile, where the project is."""
    return str(re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)[-1])


def size(text: str) -> float:
    """A Kubernetes quantity as a number."""
    found = re.fullmatch(r"(\d+)(\w*)", str(text))
    if found is None:
        raise ValueError(f"quantity {text}")
    return int(found[1]) * SIZES[found[2]]
