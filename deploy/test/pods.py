"""The job's pods on a real node: how they run and end, and what the real controllers make of it.

python deploy/test/pods.py KUBECONFIG NAMESPACE   `etl-dev` has the pods that fail, `etl` the others
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from kubelet import Cluster, expect, say, wait_for

UID = 10001
# Seconds in which a run promises to stop, and what a busy machine adds.
GRACE = 15
# What a process in the pod is and may.
PROBE = r"""
import json, os, pathlib
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\t", 1) for line in lines)
def write_to(folder):
    try:
        (folder / "probe").touch()
    except OSError as e:
        return os.strerror(e.errno)
    (folder / "probe").unlink()
secrets = pathlib.Path("/run/secrets/etl")
pathlib.Path("/dev/termination-log").write_text(json.dumps({
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": sorted({v for k, v in status.items() if k.startswith("Cap")}),
    "no new privileges, seccomp": [status["NoNewPrivs"], status["Seccomp"]],
    "writes": {f: write_to(pathlib.Path(f)) for f in ("/app", "/opt/etl", "/data", "/tmp")},
    "secrets": {p.name: oct(p.stat().st_mode)[-3:] for p in secrets.iterdir() if p.name[0] != "."},
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
}))
"""
READ_ONLY = "Read-only file system"
PROBED = {
    "ids": [UID, UID, [UID]],
    "capabilities": ["0000000000000000"],
    "no new privileges, seccomp": ["1", "2"],  # 2: a filter
    "writes": {"/app": READ_ONLY, "/opt/etl": READ_ONLY, "/data": None, "/tmp": None},  # noqa: S108
    "secrets": {"ETL_TARGETS__POSTGRES__DSN": "440"},
    "token": False,
}
# A run that gives up soon, and an address where nobody answers.
QUICK = {
    "ETL_RETRY__ATTEMPTS": "2",
    "ETL_RETRY__FIRST_WAIT_SECONDS": "0.1",
    "ETL_SOURCES__BLUESKY__ATTEMPTS": "2",
}
DEAD_API = QUICK | {
    "ETL_DEMO": "false",
    "ETL_SOURCES__BLUESKY__CLIENT__BASE_URL": "http://127.0.0.1:9/",
}
DEAD_DATABASE = QUICK | {
    "ETL_TARGETS__POSTGRES__DSN": "postgresql://etl@127.0.0.1:9/etl",
    "ETL_SECRETS_DIR": "/run",  # what the files there say would win
}
LITTLE = {"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}}


class Pods(threading.Thread):
    """The last that was known of each pod of a namespace, also of those that are gone."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.known: dict[str, dict[str, Any]] = {}
        self.start()

    def run(self) -> None:
        """Follow them."""
        for pod in self.cluster.watch(self.cluster.pods_at):
            self.known[pod["metadata"]["name"]] = pod

    def of(self, job: str) -> list[dict[str, Any]]:
        """A Job's pods, the oldest first."""
        found = [p for p in list(self.known.values()) if p["metadata"]["labels"]["job-name"] == job]
        return sorted(found, key=lambda p: str(p["metadata"]["creationTimestamp"]))

    def ends(self, job: str) -> list[dict[str, Any]]:
        """How the kubelet says that their containers ended."""
        return [
            s["state"]["terminated"] for p in self.of(job) for s in p["status"]["containerStatuses"]
        ]

    def outcome(self, job: str) -> tuple[str, str, list[int]]:
        """What became of the Job, once it has ended, and the codes of its pods."""
        condition = wait_for(job, partial(self.cluster.outcome, job))
        return condition["type"], condition["reason"], [e["exitCode"] for e in self.ends(job)]

    def last_words(self, job: str) -> dict[str, Any]:
        """Those of the last pod, the same in every pod's status but for the run."""
        messages = [e["message"] for e in self.ends(job)]
        expect(
            [len(m.encode()) <= 4096 for m in messages], [True] * len(messages), "4 KiB of words"
        )
        found: dict[str, Any] = json.loads(messages[-1])
        return found


def judge_failures(cluster: Cluster, pods: Pods) -> None:
    """Code 2, code 4, out of memory; each waits for the volume of the one before."""
    cluster.start("wrong", variables={"ETL_LOG__LEVEL": "LOUD"})
    cluster.start("dead-api", variables=DEAD_API)
    cluster.start("memory", container={"resources": LITTLE}, backoffLimit=1)

    expect(pods.outcome("wrong"), ("Failed", "PodFailurePolicy", [2]), "wrong")
    words = pods.last_words("wrong")
    expect((words["code"], words["class"]), (2, "CONFIG"), "last words")
    say(f"  a wrong setting: code 2, 1 pod, PodFailurePolicy; last words: {words['message']}")

    expect(pods.outcome("dead-api"), ("Failed", "BackoffLimitExceeded", [4, 4, 4]), "dead-api")
    words = pods.last_words("dead-api")
    expect((words["code"], words["class"]), (4, "CONNECTION"), "last words")
    say("  a dead API: code 4, 3 pods, BackoffLimitExceeded; last words:")
    say(f"    {words['message']}")

    expect(pods.outcome("memory"), ("Failed", "BackoffLimitExceeded", [137, 137]), "memory")
    expect({e["reason"] for e in pods.ends("memory")}, {"OOMKilled"}, "memory")
    tail = pods.ends("memory")[-1]["message"].splitlines()[-1]
    expect(json.loads(tail)["level"], "INFO", "the end of the log in place of last words")
    say("  100 MiB of memory: code 137, OOMKilled, counted; the log's end in place of last words")

    cluster.start("after", container={"args": ["run", "--stage", "extract"]})
    expect(pods.outcome("after"), ("Complete", "CompletionsReached", [0]), "after")
    say("  the next extraction into that volume: code 0")


def judge_pod(cluster: Cluster, pods: Pods) -> None:
    """Who the job is in there, and what it may."""
    cluster.start("probe", container={"command": ["/opt/etl/bin/python", "-c", PROBE]})
    expect(pods.outcome("probe")[2], [0], "probe")
    found = pods.last_words("probe")
    for what, wanted in PROBED.items():
        expect(found[what], wanted, what)
    say(
        "  uid, gid, group 10001; no capability, no new privileges, seccomp; the root is read-only,"
    )
    say("  /data and /tmp are not; the secret is a file of mode 440; no service account's token")


def judge_stops(cluster: Cluster, pods: Pods) -> None:
    """The next day's run is evicted, deleted, and ends well; a second Job waits for its volume."""
    cluster.start("stopped", variables={"ETL_DEMO_DATE": "2026-01-02"})
    pod = reach(cluster, pods, "stopped", 1, '"stage": "transform"')
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    evicting = datetime.now(UTC)
    cluster.ask("POST", f"{cluster.pods_at}/{pod}/eviction", eviction)
    pod = reach(cluster, pods, "stopped", 2, '"stage": "extract"')
    expect(cluster.job("stopped")["status"].get("failed", 0), 0, "failed by an eviction")
    deleting = datetime.now(UTC)
    cluster.ask("DELETE", f"{cluster.pods_at}/{pod}")
    reach(cluster, pods, "stopped", 3, '"stage": "extract"')
    expect(cluster.job("stopped")["status"]["failed"], 1, "failed by a deletion")
    cluster.start("second", container={"args": ["status"]})
    why = wait_for("a second pod waits", partial(waiting, pods, "second"))
    expect(pods.outcome("stopped"), ("Complete", "CompletionsReached", [143, 143, 0]), "stopped")
    evicted, deleted, last = pods.of("stopped")
    expect([disrupted(p) for p in (evicted, deleted, last)], [True, False, False], "disrupted")
    say(f"  evicted: code 143 within {stopping(evicted, evicting)} s, not counted")
    say(f"  deleted: code 143 within {stopping(deleted, deleting)} s, counted")
    say("  the third pod went on from there: code 0")
    expect(pods.outcome("second"), ("Complete", "CompletionsReached", [0]), "second")
    say("  a second Job meanwhile: pending, then code 0. Its pod's condition said:")
    say(f"    {why}")


def judge_dead_database(cluster: Cluster, pods: Pods) -> None:
    """Counted as what a retry may help; `etl retry` has something to do then."""
    load = {"args": ["run", "--stage", "load"]}
    cluster.start("dead-database", container=load, variables=DEAD_DATABASE, backoffLimit=0)
    expect(pods.outcome("dead-database"), ("Failed", "BackoffLimitExceeded", [4]), "dead-database")
    words = pods.last_words("dead-database")
    expect((words["code"], words["stage"], words["subject"]), (4, "load", "postgres"), "last words")
    say("  a dead database: code 4, counted; last words:")
    say(f"    {words['message']}")


def reach(cluster: Cluster, pods: Pods, job: str, number: int, line: str) -> str:
    """The name of the Job's pod of this number, once it wrote such a line."""

    def found() -> str | None:
        names = [str(p["metadata"]["name"]) for p in pods.of(job)]
        return names[-1] if len(names) == number and line in cluster.log(names[-1]) else None

    name: str = wait_for(f"pod {number} of {job} writes {line}", found)
    return name


def waiting(pods: Pods, job: str) -> str:
    """Why the Job's pod has no node."""
    messages = [
        c.get("message", "") for p in pods.of(job) for c in p["status"].get("conditions", [])
    ]
    return next((m.partition(". ")[0] for m in messages if "ReadWriteOncePod" in m), "")


def disrupted(pod: dict[str, Any]) -> bool:
    """Whether Kubernetes itself says that the pod's end was none of its own."""
    return any(c["type"] == "DisruptionTarget" for c in pod["status"]["conditions"])


def stopping(pod: dict[str, Any], asked: datetime) -> int:
    """Whole seconds in which its process ended then, at most."""
    end = pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    seconds = int((datetime.fromisoformat(end) - asked).total_seconds()) + 1  # it is a whole one
    expect(seconds <= GRACE, True, f"{seconds} s for a clean stop")
    return seconds


JUDGES: dict[str, tuple[Callable[[Cluster, Pods], None], ...]] = {
    "etl-dev": (judge_failures,),
    "etl": (judge_pod, judge_stops, judge_dead_database),
}


def main() -> None:
    """One namespace's pods."""
    cluster = Cluster(Path(sys.argv[1]), sys.argv[2])
    pods = Pods(cluster)
    for judge in JUDGES[sys.argv[2]]:
        judge(cluster, pods)


if __name__ == "__main__":
    main()
