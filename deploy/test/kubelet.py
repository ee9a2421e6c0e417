"""The kubelet's part at a real API server, and how a test asks the server."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import yaml

# On a pod: the code that it ends with, or that its node refuses it. Others run until ended.
ENDS_WITH, REFUSED = "test/exit-code", "refused"
PATIENCE = 150.0


def say(text: str) -> None:
    """A line of the transcript."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def expect(found: Any, wanted: Any, what: str) -> None:
    """Stop with a line when it is something else."""
    if found != wanted:
        raise SystemExit(f"FAILED: {what}: {found!r} instead of {wanted!r}")


def wait_for(what: str, ask: Callable[[], Any]) -> Any:
    """The first answer that is true; the controllers work when they do."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.2)
    raise SystemExit(f"FAILED: {what}: not within {PATIENCE:g} s")


class Cluster:
    """The API server, and the Jobs and pods of one namespace in it."""

    def __init__(self, kubeconfig: Path, namespace: str = "etl") -> None:
        self.pods_at = f"/api/v1/namespaces/{namespace}/pods"
        self.jobs_at = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self.cronjob_at = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/etl"
        self.events_at = f"/api/v1/namespaces/{namespace}/events"
        access = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self.server = access["clusters"][0]["cluster"]["server"]
        self.session = requests.Session()
        self.session.trust_env = False  # loopback needs no proxy
        self.session.verify = access["clusters"][0]["cluster"]["certificate-authority"]
        self.session.headers["Authorization"] = f"Bearer {access['users'][0]['user']['token']}"

    def ask(self, verb: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """One request; an empty answer when nothing is there."""
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        answer = self.session.request(
            verb,
            self.server + path,
            json=body,
            params=query,
            headers={"Content-Type": kind},
            timeout=30,
        )
        if answer.status_code == requests.codes.not_found:
            return {}
        if not answer.ok:
            raise RuntimeError(f"{verb} {path}: {answer.status_code} {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """What is there, and then whatever changes or goes, for as long as it takes."""
        answer = self.session.get(self.server + path, params={"watch": "1"}, stream=True)
        for line in answer.iter_lines(chunk_size=None):
            yield json.loads(line)["object"]

    def log(self, pod: str) -> str:
        """What the pod has written so far."""
        answer = self.session.get(f"{self.server}{self.pods_at}/{pod}/log", timeout=30)
        return answer.text if answer.ok else ""

    def start(
        self,
        name: str,
        ends_with: str | None = None,
        container: dict[str, Any] | None = None,
        variables: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        """The CronJob's Job, once, with other values of its spec; the CronJob does not own it."""
        spec = self.ask("GET", self.cronjob_at)["spec"]["jobTemplate"]["spec"] | changes
        if ends_with is not None:
            spec["template"]["metadata"]["annotations"] = {ENDS_WITH: ends_with}
        (job,) = spec["template"]["spec"]["containers"]
        job |= container or {}
        job["env"] += [{"name": n, "value": v} for n, v in (variables or {}).items()]
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        self.ask("POST", self.jobs_at, body)

    def job(self, name: str) -> dict[str, Any]:
        """The Job as it stands."""
        return self.ask("GET", f"{self.jobs_at}/{name}")

    def pods(self, job: str = "") -> list[dict[str, Any]]:
        """A Job's pods, or all, the oldest first."""
        selector = {"labelSelector": f"job-name={job}"} if job else {}
        found: list[dict[str, Any]] = self.ask("GET", self.pods_at, **selector)["items"]
        return sorted(found, key=lambda p: str(p["metadata"]["creationTimestamp"]))

    def running(self, job: str) -> dict[str, Any]:
        """The Job's pod that nobody has ended yet."""
        found: dict[str, Any] = wait_for(
            f"{job} has a pod",
            lambda: next((p for p in self.pods(job) if p["status"]["phase"] == "Pending"), None),
        )
        return found

    def end(self, pod: dict[str, Any], code: int) -> None:
        """What a kubelet writes once the container's process has ended."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        ended = {"exitCode": code, "startedAt": now, "finishedAt": now}
        if code:
            ended |= {"reason": "Error", "message": json.dumps({"code": code})}
        container = {
            "name": "etl",
            "image": "etl",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": ended},
        }
        phase = "Failed" if code else "Succeeded"
        self.report(pod, {"phase": phase, "containerStatuses": [container]})

    def report(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        """Write a pod's status, as only its kubelet does."""
        self.ask("PATCH", f"{self.pods_at}/{pod['metadata']['name']}/status", {"status": status})

    def outcome(self, job: str) -> dict[str, Any] | None:
        """The condition that ended the Job."""
        conditions: list[dict[str, Any]] = self.job(job)["status"].get("conditions", [])
        return next((c for c in conditions if c["type"] in {"Complete", "Failed"}), None)


def end_pods(cluster: Cluster, stopped: threading.Event) -> None:
    """End each pod that says how it ends."""
    while not stopped.wait(0.2):
        for pod in cluster.pods():
            code = pod["metadata"].get("annotations", {}).get(ENDS_WITH)
            if code is None or pod["status"]["phase"] != "Pending":
                continue
            if code == REFUSED:
                cluster.report(pod, {"phase": "Failed", "reason": "OutOfmemory"})
            else:
                cluster.end(pod, int(code))
