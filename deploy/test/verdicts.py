"""In place of a kubelet: pods end with every exit code, and the real controllers judge their Jobs.

python deploy/test/verdicts.py KUBECONFIG CODES   codes as `etl exit-codes --format json` has them
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from kubelet import REFUSED, Cluster, end_pods, expect, say, wait_for

# Neither is in the table: the kernel's kill for memory, and a code that nobody knows.
OUT_OF_MEMORY, UNKNOWN = 137, 99


def judge_codes(cluster: Cluster, table: list[dict[str, Any]]) -> None:
    """Every code of the table, out of memory and an unknown one: what became of the Job."""
    retries = cluster.ask("GET", cluster.cronjob_at)["spec"]["jobTemplate"]["spec"]["backoffLimit"]
    again = {c["code"] for c in table if c["retryable"]} | {OUT_OF_MEMORY}
    waits: list[tuple[float, ...]] = []
    for code in (*(c["code"] for c in table), OUT_OF_MEMORY, UNKNOWN):
        name = f"code-{code}"
        condition = wait_for(name, partial(cluster.outcome, name))
        pods = cluster.pods(name)
        found = (condition["type"], condition["reason"], len(pods))
        if code == 0:
            expect(found, ("Complete", "CompletionsReached", 1), name)
        elif code in again:
            expect(found, ("Failed", "BackoffLimitExceeded", retries + 1), name)
            waits.append(pauses(pods))
        else:
            expect(found, ("Failed", "PodFailurePolicy", 1), name)
            index = 3 if code == UNKNOWN else 1
            expect(
                f"FailJob rule at index {index}" in condition["message"], True, condition["message"]
            )
        say(f"  code {code:3}  {condition['type']:8}  {condition['reason']:20}  {len(pods)} pods")
    for number, column in enumerate(zip(*waits, strict=True)):
        expect(min(column) >= 10 * 2**number - 1, True, f"retry {number + 1} after {column}")
        say(f"  retry {number + 1} came {written(column)} s after the end")
    condition = wait_for(REFUSED, partial(cluster.outcome, REFUSED))
    pods = cluster.pods(REFUSED)
    expect((condition["reason"], len(pods)), ("BackoffLimitExceeded", retries + 1), REFUSED)
    say(f"  refused by the node, no code: {condition['reason']}, {len(pods)} pods")


def written(seconds: Sequence[float]) -> str:
    """The least and the most, or the only one."""
    return " to ".join(str(n) for n in sorted({round(min(seconds)), round(max(seconds))}))


def pauses(pods: list[dict[str, Any]]) -> tuple[float, ...]:
    """Seconds from a pod's end to the start of the next one."""
    ends = [p["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] for p in pods]
    starts = [p["metadata"]["creationTimestamp"] for p in pods]
    return tuple(
        (datetime.fromisoformat(start) - datetime.fromisoformat(end)).total_seconds()
        for end, start in zip(ends, starts[1:], strict=False)
    )


def judge_evictions(cluster: Cluster) -> None:
    """An evicted pod is replaced once it ended, however often, and counts for nothing."""
    retries = cluster.ask("GET", cluster.cronjob_at)["spec"]["jobTemplate"]["spec"]["backoffLimit"]
    cluster.ask(
        "POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
    )
    cluster.start("evicted")
    pod = cluster.running("evicted")
    waits = []
    for _ in range(retries + 1):
        path = f"{cluster.pods_at}/{pod['metadata']['name']}"
        name = {"metadata": {"name": pod["metadata"]["name"]}}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "target": {"kind": "Node", "name": "node"},
        }
        cluster.ask("POST", f"{path}/binding", binding | name)
        cluster.ask(
            "POST", f"{path}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", **name}
        )
        wait_for(
            "the eviction is seen", lambda: cluster.job("evicted")["status"].get("terminating")
        )
        expect(len(cluster.pods("evicted")), 1, "pods while one is being evicted")
        cluster.end(pod, 143)
        cluster.ask("DELETE", path, {"gracePeriodSeconds": 0})
        wait_for("the pod goes", partial(lambda path: not cluster.ask("GET", path), path))
        gone = time.monotonic()
        pod = cluster.running("evicted")
        waits.append(time.monotonic() - gone)
    cluster.end(pod, 0)
    condition = wait_for("evicted", lambda: cluster.outcome("evicted"))
    status = cluster.job("evicted")["status"]
    expect((condition["type"], status.get("failed", 0)), ("Complete", 0), "evicted")
    say(f"  evicted {retries + 1} times, failed 0; replaced {written(waits)} s after the end")


def judge_ends(cluster: Cluster) -> None:
    """The Job's own deadline, and what is left of a finished Job."""
    cluster.start("late", activeDeadlineSeconds=1)
    condition = wait_for("late", lambda: cluster.outcome("late"))
    expect((condition["type"], condition["reason"]), ("Failed", "DeadlineExceeded"), "late")
    wait_for("its pod goes", lambda: not cluster.pods("late"))
    cluster.ask("PATCH", f"{cluster.jobs_at}/late", {"spec": {"ttlSecondsAfterFinished": 0}})
    wait_for("the finished Job goes", lambda: not cluster.job("late"))
    say("  after activeDeadlineSeconds: DeadlineExceeded, its pod deleted")
    say("  after ttlSecondsAfterFinished: deleted")


def judge_schedule(cluster: Cluster) -> None:
    """The schedule makes a Job and a pod beside one-off Jobs, and no second one while it lasts."""
    (active,) = wait_for(
        "the schedule", lambda: cluster.ask("GET", cluster.cronjob_at)["status"].get("active")
    )
    cluster.running(active["name"])
    wait_for(
        "Forbid",
        lambda: cluster.ask(
            "GET",
            cluster.events_at,
            fieldSelector="involvedObject.kind=CronJob,reason=JobAlreadyActive",
        )["items"],
    )
    owned = {
        j["metadata"]["name"]
        for j in cluster.ask("GET", cluster.jobs_at)["items"]
        if "ownerReferences" in j["metadata"] and cluster.outcome(j["metadata"]["name"]) is None
    }
    expect(owned, {active["name"], "by-hand"}, "Jobs of the CronJob")
    say("  the schedule made a Job and its pod, though one by hand was at work")
    say("  the next minute's was forbidden while the schedule's own lasted")


def main() -> None:
    """All at once, for most of the time is waiting."""
    cluster = Cluster(Path(sys.argv[1]))
    table = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    begun = time.monotonic()
    stopped = threading.Event()
    kubelet = threading.Thread(target=end_pods, args=(Cluster(Path(sys.argv[1])), stopped))
    kubelet.start()
    try:
        cluster.ask("PATCH", cluster.cronjob_at, {"spec": {"schedule": "* * * * *"}})
        for code in (*(c["code"] for c in table), OUT_OF_MEMORY, UNKNOWN):
            cluster.start(f"code-{code}", ends_with=str(code))
        cluster.start(REFUSED, ends_with=REFUSED)
        judge_evictions(cluster)
        judge_ends(cluster)
        judge_codes(cluster, table)
        judge_schedule(cluster)
    finally:
        stopped.set()
        kubelet.join()
    say(f"verdicts of the real controllers: {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    main()
